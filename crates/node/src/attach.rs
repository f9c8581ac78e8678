//! Attaching: who may become a space of this node, on which terms; and the socket where they ask.

use crate::config::{Config, SHARES_MAX, StoreTable};
use crate::node::{Node, Session, wall_ms};
use crate::rules::class_named;
use crate::spaces::{Identity, Peer, SpaceView, unique_name};
use crate::state::Record;
use memvisor_policy::{Admission, Class, DomainId, File, Fit, Intent, Request, Room, Situation, SpaceId, admit};
use memvisor_proto::attach::{Answer, Attach, LINE_BYTES_MAX, StoreSize, VERSION, line, parse};
use memvisor_proto::rules::{Rule, Subject};
use memvisor_proto::size::Size;
use memvisor_proto::space;
use memvisor_sys::process;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// How long a line may take to come: it is written at once by a process of this machine.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at one time: more spaces than a machine runs, fewer than there are descriptors.
const CONNECTIONS_MAX: usize = 8192;
/// Whose file has no size of its own is offered this part of what is left in its store.
const OFFERED_PART: u64 = 4;
/// The most that is kept of how a program was started, in bytes.
const COMMAND_BYTES_MAX: usize = 4096;

/// Why a space is not taken in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For people, with the way out.
    pub why: String,
    /// A reservation that would fit, in bytes.
    pub fits_bytes: Option<u64>,
    /// A size of its file that would fit, in bytes.
    pub fits_store_bytes: Option<u64>,
}

impl Refusal {
    fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), fits_bytes: None, fits_store_bytes: None }
    }
}

/// A space that was taken in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Which.
    pub id: Identity,
    /// Its connection.
    pub session: Session,
    /// What it is told.
    pub answer: Answer,
}

impl Node {
    /// Judges the message of `peer`, and takes the space in.
    ///
    /// # Errors
    /// Says why not, and what would be right.
    pub fn attach(&mut self, peer: Peer, message: &Attach) -> Result<Welcome, Refusal> {
        check_versions(message)?;
        let id = Identity::parse(&message.id)
            .ok_or_else(|| Refusal::because("the number of a space is 32 hexadecimal digits"))?;
        let view = SpaceView::open(peer, message.space_fd, id).map_err(|error| Refusal::because(error.to_string()))?;
        let known = self.kept.spaces.get(&id).cloned();
        if known.as_ref().is_some_and(|record| peer.uid != 0 && record.uid != peer.uid) {
            return Err(Refusal::because("the space belongs to another user"));
        }
        let record = match known {
            Some(record) => record,
            None => self.new_record(peer, message, &view)?,
        };
        let record =
            Record { keeper_pid: peer.pid, keeper_start: process::start_ticks(peer.pid).unwrap_or(0), ..record };
        view.set_intent(&record.intent);
        let (number, name) = (record.number, record.name.clone());
        let session = self.take_in(id, view, record);
        self.step();
        self.save();
        let target_bytes = self.kept.spaces.get(&id).map_or(0, |record| record.told_bytes);
        info!(space = %name, number = number.0, uid = peer.uid, again = message.again, target_bytes, "attached");
        Ok(Welcome { id, session, answer: Answer::Attached { space: number.0, name, target_bytes } })
    }

    /// The record of a space that was not known: new here, or of a node whose state was lost. That it was here before is believed of nobody
    /// who came after this node did, since this one forgets nobody who is there.
    fn new_record(&mut self, peer: Peer, message: &Attach, view: &SpaceView) -> Result<Record, Refusal> {
        let was_here = message.again && self.can_be_older(peer.pid);
        let exe = std::fs::read_link(format!("/proc/{}/exe", message.program_pid));
        let exe = exe.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        // A program that is not started yet is known by how it will be.
        let exe = if exe.is_empty() { message.command.first().cloned().unwrap_or_default() } else { exe };
        let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", peer.pid)).unwrap_or_default();
        let subject = Subject { exe: &exe, uid: peer.uid, cgroup: cgroup_path(&cgroup), name: &message.name };
        let rule = self.config.rules.first_match(&subject).cloned();
        let intent = match was_here {
            true => view.intent(),
            false => wished(message, rule.as_ref(), &self.config, peer.uid)?,
        };
        let wanted_name = rule.and_then(|rule| rule.set_name).unwrap_or_else(|| message.name.clone());
        let name = unique_name(&wanted_name, |name| self.kept.spaces.values().any(|record| record.name == name));
        let number = SpaceId(self.kept.next_number.max(1));
        let record = Record {
            number,
            name,
            uid: peer.uid,
            intent,
            told_bytes: if was_here { view.told_bytes() } else { 0 },
            charged_bytes: view.charged_bytes(),
            since_ms: wall_ms(),
            keeper_pid: 0,
            keeper_start: 0,
            program_pid: message.program_pid,
            command: shortened(&message.command),
            store_bytes: message.store_bytes,
            store_path: message.store_path.as_ref().map(PathBuf::from),
            size_bytes: message.intent.size_bytes,
            processes: view.processes(),
        };
        if !was_here {
            self.admits(&record, None).map_err(|refusal| self.offered(refusal, message.store_size))?;
        }
        self.kept.next_number = number.0 + 1;
        Ok(record)
    }

    /// Who did not say how large its file is to be is offered a part of what is left, so that there is some for the next.
    fn offered(&self, refusal: Refusal, size: StoreSize) -> Refusal {
        let part = match size {
            StoreSize::Given => 1,
            StoreSize::Found => OFFERED_PART,
        };
        Refusal { fits_store_bytes: refusal.fits_store_bytes.map(|bytes| bytes / part), ..refusal }
    }

    /// Whether what a space asks for can be promised besides what was promised to the others; `but` is the space whose own it is.
    ///
    /// # Errors
    /// Says what does not fit and what would.
    pub(crate) fn admits(&self, record: &Record, but: Option<Identity>) -> Result<(), Refusal> {
        let situation = self.situation(memvisor_sys::clock::now_ns());
        let store = self.store_at(record.store_path.as_deref());
        let overhead_bytes = self.set_aside_bytes(but);
        let asked = Request { overhead_bytes, ..request(record, store.is_some()) };
        let others = self.promised(&situation, store, |id| Some(id) == but);
        let available = self.promisable(&situation, store).besides(others.iter().map(|(_, promised)| promised));
        judge(&asked, &admit(&asked, available), store)
    }

    /// What each space was promised, but those that are left out: of DRAM also all that comes back, or came, in a drain.
    pub(crate) fn promised(
        &self,
        situation: &Situation,
        store: Option<&StoreTable>,
        is_left_out: impl Fn(Identity) -> bool,
    ) -> Vec<(&Record, Request)> {
        let intents: BTreeMap<SpaceId, Intent> =
            situation.spaces.iter().map(|space| (space.id, space.intent)).collect();
        let promised = |id: Identity, record: &Record| {
            let is_in_store = store.is_some_and(|store| self.is_in(record, store));
            let intent = intents.get(&record.number).copied().unwrap_or(record.intent);
            Request { intent, overhead_bytes: self.set_aside_bytes(Some(id)), ..request(record, is_in_store) }
        };
        let counted = self.kept.spaces.iter().filter(|(id, _)| !is_left_out(**id));
        counted.map(|(id, record)| (record, promised(*id, record))).collect()
    }

    /// What is still set aside for memory of a space that is not managed, in bytes; for a new one all of it. What of it there is by now
    /// is missing from the capacity already.
    pub(crate) fn set_aside_bytes(&self, id: Option<Identity>) -> u64 {
        let there_is = id.and_then(|id| self.attached.get(&id)).map_or(0, |space| space.observer.last().overhead_bytes);
        self.config.overhead.0.saturating_sub(there_is)
    }

    fn is_in(&self, record: &Record, store: &StoreTable) -> bool {
        self.store_at(record.store_path.as_deref()).is_some_and(|at| at.name == store.name)
    }
}

/// What a space asks of the policy, but for its overhead.
pub(crate) fn request(record: &Record, is_in_store: bool) -> Request {
    let bytes = record.store_bytes;
    let file = if is_in_store { File::InStore { bytes } } else { File::Own { bytes } };
    Request { intent: record.intent, size_bytes: record.size_bytes, overhead_bytes: 0, file }
}

/// The answer of the policy, in words.
fn judge(asked: &Request, admission: &Admission, store: Option<&StoreTable>) -> Result<(), Refusal> {
    match admission {
        Admission::Admitted { .. } => Ok(()),
        Admission::Contradicted { reservation_bytes, limit_bytes } => Err(Refusal {
            fits_bytes: Some(*limit_bytes),
            ..Refusal::because(format!(
                "the reservation {} is more than the limit {}: lower the one or raise the other",
                Size(*reservation_bytes),
                Size(*limit_bytes)
            ))
        }),
        Admission::Refused { needs, available, fits } => Err(refused(asked, *needs, *available, *fits, store)),
    }
}

/// What does not fit, each with its numbers, and what would.
fn refused(asked: &Request, needs: Room, available: Room, fits: Fit, store: Option<&StoreTable>) -> Refusal {
    let mut why = Vec::new();
    if needs.dram_bytes > available.dram_bytes {
        why.push(no_dram(asked, needs, available));
    }
    if let Some(store) = store.filter(|_| needs.store_bytes > available.store_bytes) {
        why.push(format!(
            "a file of {} does not fit into the store {}: {} of its {} can still be promised",
            Size(needs.store_bytes),
            store.name,
            Size(available.store_bytes),
            Size(store.capacity.0)
        ));
    }
    if asked.homeless_bytes() > 0 {
        why.push(format!(
            "{} of the {} that it may hold have no place: {} are reserved in DRAM, and its file holds {}",
            Size(asked.homeless_bytes()),
            Size(asked.size_bytes.unwrap_or(0)),
            Size(asked.intent.reserved_bytes()),
            Size(asked.file.bytes())
        ));
    }
    let (would, fits_bytes, fits_store_bytes) = match fits {
        Fit::Reservation { least_bytes: 0, most_bytes } => {
            ("reserve no more than that, or take a reservation from another space".to_owned(), Some(most_bytes), None)
        }
        Fit::Reservation { least_bytes, most_bytes } => {
            (format!("reserve {} to {}", Size(least_bytes), Size(most_bytes)), Some(most_bytes), None)
        }
        Fit::File { least_bytes: 0, most_bytes } => {
            (format!("a file of at most {} would fit", Size(most_bytes)), None, Some(most_bytes))
        }
        Fit::File { least_bytes, most_bytes } => {
            (format!("a file of {} to {} would fit", Size(least_bytes), Size(most_bytes)), None, Some(most_bytes))
        }
        Fit::Size { size_bytes, reservation_bytes, file_bytes } => (
            format!(
                "what would fit holds at most {}, with {} reserved and a file of {}",
                Size(size_bytes),
                Size(reservation_bytes),
                Size(file_bytes)
            ),
            Some(reservation_bytes),
            Some(file_bytes),
        ),
        Fit::Nothing => ("nothing would fit".to_owned(), Some(0), None),
    };
    Refusal { why: format!("{}; {would}", why.join("; ")), fits_bytes, fits_store_bytes }
}

/// That DRAM does not suffice, with what is set aside beside the reservation.
fn no_dram(asked: &Request, needs: Room, available: Room) -> String {
    let (reserved, overhead) = (Size(asked.intent.reserved_bytes()), Size(asked.overhead_bytes));
    let available = Size(available.dram_bytes);
    match (reserved.0, overhead.0) {
        (_, 0) => format!("a reservation of {reserved} does not fit: {available} of DRAM can still be promised"),
        (0, _) => format!(
            "no space fits: {overhead} are set aside for memory that is not managed, and {available} of DRAM can still be promised"
        ),
        (..) => format!(
            "a reservation of {reserved} does not fit: with {overhead} set aside for memory that is not managed it takes {}, and \
             {available} of DRAM can still be promised",
            Size(needs.dram_bytes)
        ),
    }
}

fn check_versions(message: &Attach) -> Result<(), Refusal> {
    if message.version != VERSION {
        let version = message.version;
        return Err(Refusal::because(format!(
            "the message is of version {version} and this node speaks {VERSION}: use the same release of both"
        )));
    }
    if message.space_version != space::VERSION {
        return Err(Refusal::because(format!(
            "the space is of version {} and this node knows {}: use the same release of both",
            message.space_version,
            space::VERSION
        )));
    }
    Ok(())
}

/// The intent of a new space: what it wishes, else what a rule says, else what is said of its class.
fn wished(message: &Attach, rule: Option<&Rule>, config: &Config, uid: u32) -> Result<Intent, Refusal> {
    let wish = &message.intent;
    let class = match &wish.class {
        Some(name) => class_named(name)
            .ok_or_else(|| Refusal::because(format!("there is no class `{name}`: it is batch, standard or latency")))?,
        None => rule.and_then(|rule| class_named(rule.class.as_deref()?)).unwrap_or(Class::Standard),
    };
    let usual = config.classes.get(&class);
    let of_rule = |bytes: fn(&Rule) -> Option<u64>| rule.and_then(bytes);
    let of_class = |bytes: Option<crate::config::Bytes>| bytes.map(|bytes| bytes.0);
    let reservation_bytes = match wish.reservation_bytes {
        0 => {
            of_rule(|rule| rule.reservation_bytes).or(usual.and_then(|usual| of_class(usual.reservation))).unwrap_or(0)
        }
        bytes => bytes,
    };
    let limit_bytes = wish
        .limit_bytes
        .or_else(|| of_rule(|rule| rule.limit_bytes))
        .or_else(|| usual.and_then(|usual| of_class(usual.limit)));
    // The usual weight is what a person says who says nothing.
    let shares = match wish.shares {
        0 => None,
        shares if shares == Intent::SHARES.get() => None,
        shares => Some(shares),
    };
    let shares = shares
        .or_else(|| rule.and_then(|rule| rule.shares))
        .or_else(|| usual.and_then(|usual| usual.shares).map(|shares| shares.0))
        .and_then(|shares| NonZeroU32::new(shares.min(SHARES_MAX)))
        .unwrap_or(Intent::SHARES);
    Ok(Intent { reservation_bytes, limit_bytes, shares, class, domain: DomainId(uid) })
}

/// The path in a text like `/proc/PID/cgroup`: that of the one hierarchy, or of the memory controller.
fn cgroup_path(text: &str) -> &str {
    let path_of = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            (parts.next()? == wanted).then(|| parts.next())?
        })
    };
    path_of("memory").or_else(|| path_of("")).unwrap_or("/")
}

/// A command line, its end left out when it is long.
fn shortened(command: &[String]) -> Vec<String> {
    let mut left = COMMAND_BYTES_MAX;
    let fits = |word: &&String| {
        let fits = word.len() <= left;
        left = left.saturating_sub(word.len());
        fits
    };
    command.iter().take_while(fits).cloned().collect()
}

/// A node that several tasks call.
pub type SharedNode = Arc<Mutex<Node>>;

/// The node, for as long as nothing is awaited. A panic while it was held is a broken invariant that the process does not
/// survive, so it is never found half changed.
pub fn lock(node: &SharedNode) -> std::sync::MutexGuard<'_, Node> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers whoever connects, for ever.
pub async fn serve(listener: UnixListener, node: SharedNode) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = node.clone();
                tokio::spawn(async move {
                    converse(stream, &node).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a space cannot connect");
                // Out of descriptors, most likely: it would fail again at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One exchange, then silence until the other end is gone.
async fn converse(stream: UnixStream, node: &SharedNode) {
    let Some(peer) = peer_of(&stream) else { return };
    let mut stream = BufReader::new(stream);
    let answer = match read_line(&mut stream).await {
        Ok(text) => answer(peer, &text, node),
        Err(why) => Err(Refusal::because(why)),
    };
    let welcome = match answer {
        Ok(welcome) => welcome,
        Err(Refusal { why, fits_bytes, fits_store_bytes }) => {
            info!(uid = peer.uid, pid = peer.pid, why, "refused");
            let _ = stream.write_all(line(&Answer::Refused { why, fits_bytes, fits_store_bytes }).as_bytes()).await;
            return;
        }
    };
    if stream.write_all(line(&welcome.answer).as_bytes()).await.is_ok() {
        let mut ignored = [0; 64];
        // Nothing more is said; whatever comes is not read as anything.
        while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
    }
    lock(node).detach(welcome.id, welcome.session);
}

fn answer(peer: Peer, text: &str, node: &SharedNode) -> Result<Welcome, Refusal> {
    let message = parse::<Attach>(text).map_err(|error| Refusal::because(error.to_string()))?;
    lock(node).attach(peer, &message)
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut limited = stream.take(LINE_BYTES_MAX as u64 + 1);
    match tokio::time::timeout(LINE_TIMEOUT, limited.read_until(b'\n', &mut bytes)).await {
        Err(_) => Err(format!("no whole line came within {} s", LINE_TIMEOUT.as_secs())),
        Ok(Err(error)) => Err(format!("the line cannot be read: {error}")),
        Ok(Ok(_)) => String::from_utf8(bytes).map_err(|_| "the line is not UTF-8".into()),
    }
}

/// Who is at the other end; `None` when the kernel does not say.
pub(crate) fn peer_of(stream: &UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    Some(Peer { uid: credentials.uid(), pid: u32::try_from(credentials.pid()?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_proto::attach::Wish;
    use std::path::Path;

    fn config(text: &str) -> Config {
        Config::parse(&format!("dram = \"1G\"\n{text}"), Path::new("node.toml"), "").unwrap()
    }

    fn message(intent: Wish) -> Attach {
        Attach {
            version: VERSION,
            space_version: space::VERSION,
            name: "x".into(),
            id: String::new(),
            space_fd: 0,
            program_pid: 0,
            command: vec![],
            store_bytes: 0,
            store_path: None,
            store_size: StoreSize::Given,
            intent,
            again: false,
        }
    }

    #[test]
    fn what_a_space_wishes_comes_before_a_rule_and_a_rule_before_the_class() {
        let config = config(
            "[classes.batch]\nshares = 250\nlimit = 7\nreservation = 3\n[[rule]]\nmatch = { name = \"x\" }\nclass = \"batch\"\nlimit = 9",
        );
        let rule = &config.rules.0[0];
        let none = Wish { shares: 1000, ..Wish::default() };
        let intent = wished(&message(none), Some(rule), &config, 5).unwrap();
        assert_eq!((intent.class, intent.limit_bytes, intent.shares.get()), (Class::Batch, Some(9), 250));
        assert_eq!((intent.reservation_bytes, intent.domain), (3, DomainId(5)));
        let all = Wish {
            reservation_bytes: 1,
            limit_bytes: Some(2),
            shares: 3,
            class: Some("latency".into()),
            ..Wish::default()
        };
        let intent = wished(&message(all), Some(rule), &config, 5).unwrap();
        assert_eq!((intent.class, intent.limit_bytes, intent.shares.get()), (Class::Latency, Some(2), 3));
        assert_eq!(intent.reservation_bytes, 1);
        let wrong = Wish { class: Some("fast".into()), ..Wish::default() };
        assert!(wished(&message(wrong), None, &config, 0).unwrap_err().why.contains("no class `fast`"));
    }

    #[test]
    fn a_cgroup_is_found_in_either_hierarchy() {
        assert_eq!(cgroup_path("0::/user.slice/x\n"), "/user.slice/x");
        assert_eq!(cgroup_path("7:memory:/a:b\n0::/c\n"), "/a:b");
        assert_eq!(cgroup_path(""), "/");
    }

    #[test]
    fn a_long_command_line_loses_its_end() {
        let word = "x".repeat(COMMAND_BYTES_MAX - 1);
        assert_eq!(shortened(&[word.clone(), "a".into(), "b".into()]), [word, "a".into()]);
    }
}
