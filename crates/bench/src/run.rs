//! One run of one command: where it runs, how long it took, and what CPU time its whole tree used.

use crate::group::Group;
use crate::own::Counters;
use crate::phase::{BEGIN, END};
use serde_json::Value;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A clock tick of `/proc`, in seconds: 100 Hz on every Linux that is in use.
const TICK_SECONDS: f64 = 0.01;

/// Lines of standard error that are kept for an error message.
const TAIL_LINES: usize = 12;

/// A command as it is to be run.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// CPUs that the tree may use.
    pub cpus: Vec<usize>,
    /// Variables set on top of the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// After this the run is killed and counts as failed.
    pub time_limit: Duration,
}

/// A measured phase of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// As the workload called it.
    pub name: String,
    /// Wall time.
    pub seconds: f64,
    /// User and system time of the whole tree within the phase.
    pub cpu_seconds: f64,
}

/// What a run that ended well has shown.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From start to end, filling and verifying included.
    pub seconds: f64,
    /// CPU time of the whole tree over the whole run.
    pub cpu_seconds: f64,
    /// The measured phases in their order.
    pub phases: Vec<Phase>,
    /// The last line of standard output that is a JSON object, or null.
    pub said: Value,
    /// Most memory that was charged to the run's control group at once, if it had one.
    pub memory_max_bytes: Option<u64>,
}

impl Outcome {
    /// A number that the workload said, by its name.
    ///
    /// # Errors
    /// When it said no such number.
    pub fn number(&self, name: &str) -> Result<f64, String> {
        self.said[name].as_f64().ok_or_else(|| format!("the workload said no number {name:?}: {}", self.said))
    }

    /// The phase called `name`.
    ///
    /// # Errors
    /// When there was none.
    pub fn phase(&self, name: &str) -> Result<&Phase, String> {
        self.phases.iter().find(|phase| phase.name == name).ok_or_else(|| format!("the workload had no phase {name:?}"))
    }
}

impl Launch {
    /// `command` on `cpus`, with two minutes to run.
    pub fn new<T: AsRef<OsStr>>(command: impl IntoIterator<Item = T>, cpus: &[usize]) -> Self {
        Self {
            command: command.into_iter().map(|word| word.as_ref().to_owned()).collect(),
            cpus: cpus.to_vec(),
            env: Vec::new(),
            time_limit: Duration::from_secs(120),
        }
    }

    /// Starts the command in `group`, pinned; standard output and error are pipes.
    ///
    /// # Errors
    /// When the shell that joins the group cannot be started.
    pub fn spawn(&self, group: Option<&Group>) -> Result<Child, String> {
        let doors = group.map(|group| group.doors().to_vec()).unwrap_or_default();
        let cpus: Vec<String> = self.cpus.iter().map(ToString::to_string).collect();
        let mut command = shell(&doors);
        command.args(["taskset", "-c", &cpus.join(",")]).args(&self.command);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| format!("cannot start /bin/sh: {error}"))
    }

    /// Runs the command to its end, with `group` for accounting and limit if there is one.
    ///
    /// # Errors
    /// When it could not be started, took too long or ended badly; with the end of what it wrote to standard error.
    pub fn run(&self, group: Option<&Group>) -> Result<Outcome, String> {
        self.run_counting(group, || used(group))
    }

    /// Runs the command as [`Launch::run`] does, while the CPU seconds that count are those that `used` tells: those of a
    /// server, for instance, that the command is a client of.
    ///
    /// # Errors
    /// As there.
    pub fn run_counting(&self, group: Option<&Group>, used: impl Fn() -> f64) -> Result<Outcome, String> {
        let start = Instant::now();
        let used_before = used();
        let mut child = self.spawn(group)?;
        let lines = lines_of(&mut child);
        let errors = tail_of(&mut child);
        let mut phases = Phases::default();
        let mut said = Value::Null;
        let in_time = loop {
            match lines.recv_timeout((start + self.time_limit).saturating_duration_since(Instant::now())) {
                Ok((at, line)) => {
                    phases.read(&line, at, &used);
                    if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line) {
                        said = value;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        if !in_time {
            let _ = child.kill();
            for id in group.map(Group::processes).unwrap_or_default() {
                if let Some(process) = rustix::process::Pid::from_raw(id) {
                    let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
                }
            }
        }
        let status = child.wait().map_err(|error| format!("cannot wait for {:?}: {error}", self.command))?;
        let seconds = start.elapsed().as_secs_f64();
        if !in_time {
            return Err(format!("killed after {:?}: {}", self.time_limit, self.shown()));
        }
        if !status.success() {
            let tail = errors.join().unwrap_or_default();
            // The last line is mostly the reason; tables show only the first of these.
            let reason = tail.lines().last().unwrap_or("no word of why");
            return Err(format!("{reason} ({status})\n{}\n{tail}", self.shown()));
        }
        Ok(Outcome {
            seconds,
            cpu_seconds: used() - used_before,
            phases: phases.done,
            said,
            memory_max_bytes: group.map(Group::memory_max_bytes),
        })
    }
}

impl Launch {
    fn shown(&self) -> String {
        self.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// A shell that joins the control groups and then becomes the words that are appended.
///
/// Joining from inside needs no code between fork and exec, and what a program does before `main` is accounted too.
fn shell(doors: &[PathBuf]) -> Command {
    let mut script = String::new();
    for at in 1..=doors.len() {
        script += &format!("echo $$ > \"${at}\" && ");
    }
    let script = if doors.is_empty() {
        "exec \"$@\"".to_owned()
    } else {
        format!("{script}shift {} && exec \"$@\"", doors.len())
    };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, "sh"]).args(doors);
    command
}

/// CPU seconds of the group, or, with none, of the children that have ended.
fn used(group: Option<&Group>) -> f64 {
    match group {
        Some(group) => group.cpu().as_secs_f64(),
        None => Counters::read().ticks_children as f64 * TICK_SECONDS,
    }
}

fn lines_of(child: &mut Child) -> std::sync::mpsc::Receiver<(Instant, String)> {
    let (send, receive) = channel();
    let out = child.stdout.take();
    std::thread::spawn(move || {
        for line in out.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
            if send.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    receive
}

fn tail_of(child: &mut Child) -> std::thread::JoinHandle<String> {
    let err = child.stderr.take();
    std::thread::spawn(move || {
        let mut tail = VecDeque::new();
        for line in err.into_iter().flat_map(|err| BufReader::new(err).lines()).map_while(Result::ok) {
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
        tail.into_iter().collect::<Vec<_>>().join("\n")
    })
}

/// Collects the phases from the lines that a workload prints.
#[derive(Default)]
struct Phases {
    open: Option<(String, Instant, f64)>,
    done: Vec<Phase>,
}

impl Phases {
    fn read(&mut self, line: &str, at: Instant, used: impl FnOnce() -> f64) {
        match line.split_once(' ') {
            Some((BEGIN, name)) => self.open = Some((name.to_owned(), at, used())),
            Some((END, name)) => {
                if let Some((opened, begin, before)) = self.open.take()
                    && opened == name
                {
                    let seconds = (at - begin).as_secs_f64();
                    self.done.push(Phase { name: opened, seconds, cpu_seconds: used() - before });
                }
            }
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_gives_its_phases_and_the_last_object_that_it_said() {
        let script = r#"echo '@begin a'; echo '@end a'; echo '{"x":1}'; echo '{"x":2.5}'; echo done"#;
        let outcome = Launch::new(["sh", "-c", script], &[0]).run(None).expect("the shell runs");
        assert_eq!(outcome.number("x"), Ok(2.5));
        assert!(outcome.phase("a").is_ok());
        assert!(outcome.phase("b").is_err());
    }

    #[test]
    fn a_run_that_ends_badly_tells_what_it_complained_about() {
        let error = Launch::new(["sh", "-c", "echo 'no such thing' >&2; exit 3"], &[0]).run(None).unwrap_err();
        assert!(error.contains("no such thing") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_run_that_takes_too_long_is_killed() {
        let mut launch = Launch::new(["sleep", "600"], &[0]);
        launch.time_limit = Duration::from_millis(200);
        let error = launch.run(None).unwrap_err();
        assert!(error.contains("killed after"), "{error}");
    }

    #[test]
    fn words_with_blanks_and_quotes_arrive_as_they_are() {
        let outcome = Launch::new(["printf", "{\"x\": %s}\n", "7"], &[0]).run(None).expect("printf runs");
        assert_eq!(outcome.number("x"), Ok(7.0));
    }
}
