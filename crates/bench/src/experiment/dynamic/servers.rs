//! The five servers: how each is started in a space, made busy, left in peace, and verified.
//!
//! ```text
//!   redis     redis-server      busy: kvload, keys at random, one in ten written      verified: every value read back
//!   mariadb   mariadbd          busy: sysbench, rows at random, read and written      verified: CHECK TABLE … EXTENDED
//!   python    table.py (numpy)  busy and verified by itself: sums of blocks
//!   java      Store.java        busy and verified by itself: contents of blocks
//!   sort      turnsort          busy and verified by itself: order and contents
//! ```
//! The latter three take orders on standard input, as `workingset` does.

use super::super::host::Host;
use super::super::kin::Kin;
use super::super::tenant::{Tenant, Terms};
use super::super::{Lab, MIB};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The system's Python: others in the PATH may lack numpy.
const PYTHON: &str = "/usr/bin/python3";
/// How long a server may take to answer: MariaDB reads its log first.
const ANSWERS: Duration = Duration::from_secs(60);
/// How long a server may take to stop.
const STOPS: Duration = Duration::from_secs(60);
/// Bytes of a value in Redis, and what Redis needs for it with its key; the latter was measured.
const VALUE_BYTES: u64 = 4000;
const VALUE_COST: u64 = 4608;
/// Tables in MariaDB, and what a row of sysbench takes in its buffer pool; the latter was measured.
const TABLES: u64 = 4;
const ROW_COST: u64 = 280;
/// Load that is ended when its phase is over runs until then.
const LOAD_SECONDS: u64 = 3600;

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Redis,
    MariaDb,
    Python,
    Java,
    Sort,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Redis, Self::MariaDb, Self::Python, Self::Java, Self::Sort];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::MariaDb => "mariadb",
            Self::Python => "python",
            Self::Java => "java",
            Self::Sort => "sort",
        }
    }

    /// What it keeps in memory, without what it needs for itself.
    fn data_mib(self) -> u64 {
        match self {
            Self::Redis | Self::Python | Self::Sort => 176,
            // Beside them its server has 90 MiB for itself.
            Self::MariaDb => 128,
            // A third more is heap for the collector.
            Self::Java => 144,
        }
    }

    /// What it is promised, each something else.
    pub(super) fn reserved_mib(self) -> u64 {
        match self {
            Self::Redis => 48,
            Self::MariaDb => 56,
            Self::Python => 32,
            Self::Java => 40,
            Self::Sort => 24,
        }
    }

    fn is_told(self) -> bool {
        match self {
            Self::Redis | Self::MariaDb => false,
            Self::Python | Self::Java | Self::Sort => true,
        }
    }
}

/// A server in its space.
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) tenant: Tenant,
    load: Option<Kin>,
    place: PathBuf,
    kvload: PathBuf,
}

impl Server {
    /// Starts it, with its data in memory.
    ///
    /// # Errors
    /// When it does not get so far.
    pub(super) fn start(lab: &Lab, host: &Host, kind: Kind) -> Result<Self, String> {
        let place = host.directory().join(format!("{}.d", kind.name()));
        std::fs::create_dir_all(&place).map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        if kind == Kind::MariaDb {
            fill_tables(&place)?;
        }
        let program = command(lab, kind, &place)?;
        let terms = Terms { reserved_mib: Some(kind.reserved_mib()), ..Terms::default() };
        let tenant = Tenant::run(lab, host, kind.name(), &terms, &program)?;
        let mut server = Self { kind, tenant, load: None, place, kvload: lab.program("kvload")? };
        match kind {
            Kind::Redis => {
                server.until_it_answers()?;
                finish(server.kvload_command(&["load"]), "kvload")?;
            }
            Kind::MariaDb => {
                server.until_it_answers()?;
                // Reads every row, so that all of them are in the buffer pool.
                server.for_tables("CHECKSUM TABLE", " EXTENDED")?;
            }
            Kind::Python | Kind::Java | Kind::Sort => server.tenant.wait_until_filled(host)?,
        }
        Ok(server)
    }

    /// Makes it work as fast as it can.
    ///
    /// # Errors
    /// When its load cannot be started.
    pub(super) fn work(&mut self, log: &Path) -> Result<(), String> {
        let mut command = match self.kind {
            Kind::Redis => {
                let phase = format!("run:uniform:{LOAD_SECONDS}s:10");
                self.kvload_command(&[&phase])
            }
            Kind::MariaDb => sysbench(&self.place, "run"),
            Kind::Python | Kind::Java | Kind::Sort => return self.tenant.tell("busy"),
        };
        let wrong = |error: std::io::Error| format!("no load for {}: {error}", self.kind.name());
        let log = File::create(log.join(format!("{}-load.log", self.kind.name()))).map_err(wrong)?;
        let out = log.try_clone().map_err(wrong)?;
        let (load, _) = Kin::spawn(command.stdin(Stdio::null()).stdout(out).stderr(log)).map_err(wrong)?;
        self.load = Some(load);
        Ok(())
    }

    /// Leaves it in peace.
    ///
    /// # Errors
    /// When its load has ended by itself, which it does when something was wrong.
    pub(super) fn rest(&mut self) -> Result<(), String> {
        if self.kind.is_told() {
            return self.tenant.tell("idle");
        }
        let Some(load) = self.load.take() else { return Ok(()) };
        if let Some(status) = load.ended() {
            return Err(format!("the load of {} ended: {status}", self.kind.name()));
        }
        load.end();
        Ok(())
    }

    /// Has all that it keeps verified, and stops it. Says what was verified.
    ///
    /// # Errors
    /// When something is not as it must be.
    pub(super) fn verify(self, host: &Host) -> Result<String, String> {
        let (kind, place) = (self.kind, self.place.clone());
        if kind.is_told() {
            let verified = self.tenant.verify(host)?;
            return Ok(match kind {
                Kind::Sort => format!("{verified} words in order"),
                _ => format!("{verified} blocks right"),
            });
        }
        let verified = match kind {
            Kind::Redis => {
                let said = finish(self.kvload_command(&["verify"]), "kvload")?;
                // Behind the marks of its phases.
                let last = said.lines().last().unwrap_or_default();
                let said: serde_json::Value = serde_json::from_str(last).map_err(|error| error.to_string())?;
                let checked = said["values_checked"].as_u64().unwrap_or(0);
                if checked != keys() {
                    return Err(format!("redis: {checked} values are right of {}", keys()));
                }
                // Whoever is told so closes the connection and does not answer.
                let _ = finish(redis(&place, &["SHUTDOWN", "NOSAVE"]), "redis-cli");
                format!("{checked} values right")
            }
            _ => {
                let said = self.for_tables("CHECK TABLE", " EXTENDED")?;
                let sound = said.lines().filter(|line| line.ends_with("\tOK")).count() as u64;
                if sound != TABLES {
                    return Err(format!("mariadb: CHECK TABLE says {said}"));
                }
                sql(&place, "SHUTDOWN")?;
                format!("{sound} tables sound")
            }
        };
        let status = self.tenant.wait(STOPS)?;
        if !status.success() {
            return Err(format!("{} ended with {status}", kind.name()));
        }
        Ok(verified)
    }

    fn kvload_command(&self, phases: &[&str]) -> Command {
        let mut command = Command::new(&self.kvload);
        command.arg("--server").arg(self.place.join("socket")).args(["--pipeline", "16", "--any-version"]);
        command.args([format!("--keys={}", keys()), format!("--value={VALUE_BYTES}")]).args(phases);
        command
    }

    fn until_it_answers(&self) -> Result<(), String> {
        let until = Instant::now() + ANSWERS;
        loop {
            let answer = match self.kind {
                Kind::Redis => finish(redis(&self.place, &["PING"]), "redis-cli"),
                _ => sql(&self.place, "SELECT 1"),
            };
            match (answer, self.tenant.ended()) {
                (Ok(_), None) => return Ok(()),
                (_, Some(status)) => return Err(format!("{} ended: {status}", self.kind.name())),
                (Err(error), None) if Instant::now() > until => return Err(error),
                (Err(_), None) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// `statement` for each table, one answer a line.
    fn for_tables(&self, statement: &str, end: &str) -> Result<String, String> {
        let tables: Vec<String> = (1..=TABLES).map(|table| format!("sbtest.sbtest{table}")).collect();
        sql(&self.place, &format!("{statement} {}{end}", tables.join(", ")))
    }
}

fn keys() -> u64 {
    Kind::Redis.data_mib() * MIB / VALUE_COST
}

/// The command line of a server whose files are in `place`.
fn command(lab: &Lab, kind: Kind, place: &Path) -> Result<Vec<OsString>, String> {
    let write = |name: &str, text: &str| {
        let path = place.join(name);
        std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok::<PathBuf, String>(path)
    };
    let mib = OsString::from(kind.data_mib().to_string());
    let mut words: Vec<OsString> = Vec::new();
    match kind {
        Kind::Redis => {
            words.push("redis-server".into());
            words.extend("--port 0 --appendonly no --daemonize no --loglevel warning".split(' ').map(OsString::from));
            words.extend(["--save".into(), "".into(), "--dir".into(), place.into()]);
            words.extend(["--unixsocket".into(), place.join("socket").into()]);
        }
        Kind::MariaDb => words.extend(mariadbd(place)),
        Kind::Python => words.extend([PYTHON.into(), write("table.py", include_str!("table.py"))?.into(), mib]),
        Kind::Java => {
            let source = write("Store.java", include_str!("Store.java"))?;
            let mut javac = Command::new("javac");
            // Outside of the space: the compiler would need more memory than the program.
            javac.arg("-d").arg(place).arg(source);
            finish(javac, "javac")?;
            let heap = kind.data_mib() * 4 / 3;
            words.extend(["java".into(), format!("-Xms{heap}m").into(), format!("-Xmx{heap}m").into()]);
            words.extend(["-Xmn16m", "-XX:+UseSerialGC", "-cp"].map(OsString::from));
            words.extend([place.into(), "Store".into(), mib]);
        }
        Kind::Sort => words.extend([lab.program("turnsort")?.into(), mib]),
    }
    Ok(words)
}

fn mariadbd(place: &Path) -> Vec<OsString> {
    let fixed = "--no-defaults --user=root --skip-networking --skip-grant-tables --innodb-flush-log-at-trx-commit=2 \
                 --loose-innodb-log-file-size=64M --innodb-buffer-pool-dump-at-shutdown=OFF";
    let mut words: Vec<OsString> = vec!["mariadbd".into()];
    words.extend(fixed.split_whitespace().map(OsString::from));
    words.push(format!("--innodb-buffer-pool-size={}M", Kind::MariaDb.data_mib()).into());
    for (option, name) in [("datadir", "data"), ("socket", "socket"), ("pid-file", "pid")] {
        words.push(format!("--{option}={}", place.join(name).display()).into());
    }
    words
}

/// Makes the tables with a plain server, which is stopped again.
fn fill_tables(place: &Path) -> Result<(), String> {
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--user=root", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    install.arg(format!("--datadir={}", place.join("data").display()));
    finish(install, "mariadb-install-db")?;
    let words = mariadbd(place);
    let wrong = |error: std::io::Error| format!("cannot start mariadbd: {error}");
    let log = File::create(place.join("maker.log")).map_err(wrong)?;
    let mut maker = Command::new(&words[0]);
    maker.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let (maker, _) = Kin::spawn(&mut maker).map_err(wrong)?;
    let until = Instant::now() + ANSWERS;
    while let Err(error) = sql(place, "SELECT 1") {
        if maker.ended().is_some() || Instant::now() > until {
            return Err(format!("mariadbd does not answer: {error}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    sql(place, "CREATE DATABASE sbtest")?;
    finish(sysbench(place, "prepare"), "sysbench")?;
    sql(place, "SHUTDOWN")?;
    maker.wait(STOPS).map(drop).map_err(|error| format!("mariadbd: {error}"))
}

fn sysbench(place: &Path, order: &str) -> Command {
    let rows = Kind::MariaDb.data_mib() * MIB / ROW_COST / TABLES;
    let mut command = Command::new("sysbench");
    command.arg("oltp_read_write").arg(format!("--mysql-socket={}", place.join("socket").display()));
    command.args(["--mysql-user=root", "--mysql-db=sbtest", "--threads=2", "--db-driver=mysql", "--rand-type=uniform"]);
    command.args([format!("--tables={TABLES}"), format!("--table-size={rows}"), format!("--time={LOAD_SECONDS}")]);
    command.args(["--mysql-ignore-errors=1213,1205,1020", order]);
    command
}

fn sql(place: &Path, statement: &str) -> Result<String, String> {
    let mut command = Command::new("mariadb");
    command.arg("--no-defaults").arg(format!("--socket={}", place.join("socket").display()));
    command.args(["--user=root", "--batch", "--skip-column-names", "-e", statement]);
    finish(command, "mariadb")
}

fn redis(place: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("redis-cli");
    command.arg("-s").arg(place.join("socket")).args(words);
    command
}

/// Runs a command to its end, and gives what it said.
fn finish(mut command: Command, name: &str) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start {name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Err(format!("{name} ended with {}: {} {}", output.status, said(&output.stdout), said(&output.stderr)))
}
