//! The space's side of the attach exchange: says hello to the node, and again whenever the node comes back.
//!
//! Nothing here is on anybody's way to memory. The first hello is waited for, because the node may refuse the space or
//! give it another target than it asked for; after that a thread of its own listens for the end of the connection.

use crate::exit::Failure;
use crate::size::Size;
use memvisor_proto::attach::{self, ATTACH_SOCKET, Answer, Attach};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A node answers within a plan's time; one that does not is taken for absent.
const ANSWER: Duration = Duration::from_secs(2);
/// How often a node that is not there is looked for, and how soon an ended run is noticed.
const LOOK: Duration = Duration::from_millis(200);
/// How long a node that refused is left alone, in looks.
const LOOKS_AFTER_REFUSAL: u32 = 5;

/// The node does not take the space.
#[derive(Debug)]
pub struct Refused {
    node: PathBuf,
    why: String,
    fits_bytes: Option<u64>,
    fits_store_bytes: Option<u64>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node at {} refuses: {}", self.node.display(), self.why)
    }
}

impl std::error::Error for Refused {}

impl Failure for Refused {
    fn way_out(&self) -> Option<String> {
        Some(match (self.fits_bytes, self.fits_store_bytes) {
            (Some(bytes), _) => format!("reserve at most {}, or run without the node: --node none", Size(bytes)),
            (None, Some(bytes)) => format!("--store-size {bytes} at most, or run without the node: --node none"),
            (None, None) => "run without the node: --node none".into(),
        })
    }
}

impl Refused {
    /// A size of the store that the node would take, in bytes, if that is what it refuses.
    pub fn fits_store_bytes(&self) -> Option<u64> {
        self.fits_store_bytes
    }
}

/// What came of a hello.
enum Hello {
    /// The node has the space now; the stream ends when it goes.
    Attached(UnixStream),
    /// Nobody is there, or nobody answers.
    Nobody,
    /// The node does not take the space.
    Refused(Refused),
}

fn hello(directory: &Path, message: &Attach) -> Hello {
    match exchange(directory, message) {
        Ok((stream, Answer::Attached { .. })) => Hello::Attached(stream),
        Ok((_, Answer::Refused { why, fits_bytes, fits_store_bytes })) => {
            Hello::Refused(Refused { node: directory.to_owned(), why, fits_bytes, fits_store_bytes })
        }
        Err(_) => Hello::Nobody,
    }
}

fn exchange(directory: &Path, message: &Attach) -> io::Result<(UnixStream, Answer)> {
    let stream = UnixStream::connect(directory.join(ATTACH_SOCKET))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    (&stream).write_all(attach::line(message).as_bytes())?;
    let mut line = String::new();
    BufReader::new((&stream).take(attach::LINE_BYTES_MAX as u64)).read_line(&mut line)?;
    let answer = attach::parse(&line).map_err(io::Error::other)?;
    Ok((stream, answer))
}

/// A space that is, or wants to be, one of its node's.
pub struct Attachment {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Attachment {
    /// Attaches to the node at `directory` if one is there, and goes on trying if none is. `say` gets what people should
    /// know.
    ///
    /// # Errors
    /// When the node refuses the space.
    pub fn begin(directory: PathBuf, message: Attach, say: impl Fn(&str) + Send + 'static) -> Result<Self, Refused> {
        let stream = match hello(&directory, &message) {
            Hello::Attached(stream) => Some(stream),
            Hello::Nobody => None,
            Hello::Refused(refused) => return Err(refused),
        };
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::Builder::new()
            .name("attachment".into())
            .spawn(move || Listener { directory, message, over: seen, say }.run(stream))
            .ok();
        Ok(Self { over, thread })
    }

    /// Ends the connection: the node forgets the space.
    pub fn end(mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Listener<Say> {
    directory: PathBuf,
    message: Attach,
    over: Arc<AtomicBool>,
    say: Say,
}

impl<Say: Fn(&str)> Listener<Say> {
    fn run(mut self, mut stream: Option<UnixStream>) {
        let (mut rest, mut was_refused) = (0, false);
        while !self.over.load(Ordering::Acquire) {
            if let Some(there) = stream.take() {
                // Its promises are in force from now on, whatever becomes of the node.
                (self.message.again, was_refused) = (true, false);
                self.listen(&there);
                continue;
            }
            std::thread::sleep(LOOK);
            if rest > 0 {
                rest -= 1;
                continue;
            }
            match hello(&self.directory, &self.message) {
                Hello::Attached(there) => stream = Some(there),
                Hello::Nobody => {}
                Hello::Refused(refused) => {
                    if !was_refused {
                        (self.say)(&format!("{refused}; the space keeps its target"));
                    }
                    (rest, was_refused) = (LOOKS_AFTER_REFUSAL, true);
                }
            }
        }
    }

    /// Until the node or the run is over. A node that hangs is no reason to leave it.
    fn listen(&self, stream: &UnixStream) {
        if stream.set_read_timeout(Some(LOOK)).is_err() {
            return;
        }
        let mut nothing = [0; 64];
        while !self.over.load(Ordering::Acquire) {
            match (&*stream).read(&mut nothing) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_proto::attach::{StoreSize, VERSION, Wish};
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    struct Node(PathBuf, UnixListener);

    impl Node {
        fn at(directory: &Path) -> Self {
            let path = directory.join(ATTACH_SOCKET);
            let _ = std::fs::remove_file(&path);
            Self(directory.to_owned(), UnixListener::bind(path).unwrap())
        }

        /// Takes the next hello and answers it.
        fn answer(&self, answer: &Answer) -> (UnixStream, Attach) {
            let (stream, _) = self.1.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            (&stream).write_all(attach::line(answer).as_bytes()).unwrap();
            (stream, attach::parse(&line).unwrap())
        }
    }

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("memvisor-attaching-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn message() -> Attach {
        Attach {
            version: VERSION,
            space_version: memvisor_proto::space::VERSION,
            name: "a".into(),
            id: "0".repeat(32),
            space_fd: 3,
            program_pid: 0,
            command: vec![],
            store_bytes: 0,
            store_path: None,
            store_size: StoreSize::Given,
            intent: Wish::default(),
            again: false,
        }
    }

    fn attached() -> Answer {
        Answer::Attached { space: 1, name: "a".into(), target_bytes: 1 << 30 }
    }

    #[test]
    fn a_space_attaches_again_when_the_node_comes_back_and_says_that_it_was_there() {
        let directory = directory("again");
        let node = Node::at(&directory);
        let path = directory.clone();
        let began = std::thread::spawn(move || Attachment::begin(path, message(), |_| {}).unwrap());
        let (stream, first) = node.answer(&attached());
        assert!(!first.again);
        let attachment = began.join().unwrap();
        drop((stream, node));
        let node = Node::at(&directory);
        let (_stream, second) = node.answer(&attached());
        assert!(second.again && second.id == first.id);
        attachment.end();
        std::fs::remove_dir_all(&node.0).unwrap();
    }

    #[test]
    fn a_space_that_is_refused_before_it_runs_does_not_run() {
        let directory = directory("refused");
        let node = Node::at(&directory);
        let path = directory.clone();
        let began = std::thread::spawn(move || Attachment::begin(path, message(), |_| {}).map(|_| ()));
        node.answer(&Answer::Refused {
            why: "2 GiB does not fit".into(),
            fits_bytes: Some(1 << 30),
            fits_store_bytes: None,
        });
        let refused = began.join().unwrap().unwrap_err();
        assert!(refused.to_string().contains("2 GiB") && refused.way_out().unwrap().contains("1 GiB"));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_space_without_a_node_runs_alone_and_attaches_when_one_comes_even_after_a_refusal() {
        let directory = directory("late");
        let (said, heard) = mpsc::channel();
        let attachment =
            Attachment::begin(directory.clone(), message(), move |text| said.send(text.to_owned()).unwrap()).unwrap();
        let node = Node::at(&directory);
        node.answer(&Answer::Refused { why: "full".into(), fits_bytes: None, fits_store_bytes: None });
        assert!(heard.recv().unwrap().contains("full"));
        let (_stream, late) = node.answer(&attached());
        assert!(!late.again);
        attachment.end();
        std::fs::remove_dir_all(directory).unwrap();
    }
}
