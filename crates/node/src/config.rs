//! The configuration: a TOML file, read as a whole or refused with line, column and reason.
//!
//! ```toml
//! dram = "75%"                    # what is handed out: a size, or a part of the machine's DRAM
//! period = "1s"                   # between plans
//! directory = "/run/memvisor"     # sockets and rules
//! state = "/var/lib/memvisor"     # names, numbers, history
//! record = "/var/log/memvisor/plans.jsonl"   # every plan with what it was made from; left out: none
//! tax = 0.75                      # what idle memory costs its owner, 0 to 0.99
//! overhead = "8M"                 # set aside for each space at its admission: memory of it that is not managed
//!
//! [thresholds]                    # free DRAM at which states begin, as parts
//! high = 0.06
//! soft = 0.04
//! hard = 0.02
//! low = 0.01
//!
//! [calm]                          # how fast the plan follows
//! dead_band = 0.01
//! fall = "30s"
//! shrink = "256M"                 # a second
//! hysteresis = 0.0025
//! stalled = 0.1
//!
//! [sample]                        # how use is measured
//! period = "30s"                  # of time in which the program runs
//! pages = 100                     # hidden in each of them, of each process; 1 to 256: more tell more and cost more faults
//!
//! [classes.batch]                 # what a space of the class has when neither it nor a rule says
//! shares = 250
//!
//! [[store]]
//! name = "nvme"
//! path = "/var/lib/memvisor/store"
//! capacity = "200GiB"
//!
//! [[rule]]                        # the first that matches counts
//! match = { exe = "/usr/bin/redis-server", user = "redis" }
//! name = "cache"
//! reservation = "1GiB"
//! class = "latency"
//! store = "nvme"
//! ```

use crate::rules::{self, RuleTable};
use memvisor_core::sample::{PAGES_DEFAULT, PAGES_MAX};
use memvisor_policy::{Class, Settings, Tax, Thresholds};
use memvisor_proto::attach;
use memvisor_proto::rules::Rules;
use memvisor_proto::size::Size;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// Where a node of the system keeps what must outlive it.
pub const SYSTEM_STATE: &str = "/var/lib/memvisor";
/// Plans more often than this cost more than they bring: pagers look at their target twenty times a second.
const PERIOD_MIN: Duration = Duration::from_millis(50);
/// Plans less often than this would leave a program that grows waiting.
const PERIOD_MAX: Duration = Duration::from_secs(60);
/// A period of the samplers, if nobody says otherwise: that of ESX.
const SAMPLE_PERIOD: Duration = Duration::from_secs(30);
/// A hundred pages are hidden in each period, and most come back by a fault: more often it would be felt.
const SAMPLE_PERIOD_MIN: Duration = Duration::from_millis(100);
/// Less often nothing would be known of a program for a day.
const SAMPLE_PERIOD_MAX: Duration = Duration::from_secs(3600);

/// What is set aside for each space, in bytes, if nobody says otherwise: pagers were seen to take 0.7 to 7 MiB of their own in a member,
/// and a program of one process has some stacks and tables of its libraries beside that.
const OVERHEAD_BYTES: u64 = 8 << 20;

/// A configuration that can be used.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// What is handed out.
    pub dram: Dram,
    /// Time between plans.
    pub period: Duration,
    /// Where the sockets and the rules are.
    pub directory: PathBuf,
    /// Where names, numbers and history are kept.
    pub state: PathBuf,
    /// Where each plan is recorded, if anywhere.
    pub record: Option<PathBuf>,
    /// What is set aside for each space at its admission, for its memory that is not managed.
    pub overhead: Bytes,
    /// What the policy may turn.
    pub settings: Settings,
    /// The least time of a period of the samplers of use, in run time of the program.
    pub sample_period: Duration,
    /// Pages that a sampler chooses in a period.
    pub sample_pages: u32,
    /// What a space of a class has when nobody says.
    pub classes: BTreeMap<Class, ClassTable>,
    /// Stores that rules may name.
    pub stores: Vec<StoreTable>,
    /// Which programs are managed, and how.
    pub rules: Rules,
}

/// How much DRAM is handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dram {
    /// So many bytes.
    Bytes(u64),
    /// A part of what the machine has, in percent, 1 to 100.
    Percent(u8),
}

impl Dram {
    /// In bytes, of a machine that has so many.
    pub fn of(self, machine_bytes: u64) -> u64 {
        match self {
            Dram::Bytes(bytes) => bytes,
            Dram::Percent(percent) => machine_bytes / 100 * u64::from(percent),
        }
    }
}

/// Defaults of a class.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassTable {
    /// Weight.
    pub shares: Option<Shares>,
    /// DRAM promised.
    pub reservation: Option<Bytes>,
    /// The most DRAM.
    pub limit: Option<Bytes>,
}

/// A store.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreTable {
    /// What rules call it.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it can hold.
    pub capacity: Bytes,
}

/// Why a file is no configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Line and column, each from 1; `None` when the file could not be read.
    pub at: Option<(usize, usize)>,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.at {
            write!(f, ", line {line}, column {column}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Bytes, written as a size or as a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes(pub u64);

/// A weight, 1 to 1,000,000.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "u32")]
pub struct Shares(pub u32);

/// The most that a weight can be.
pub const SHARES_MAX: u32 = 1_000_000;

impl TryFrom<u32> for Shares {
    type Error = String;

    fn try_from(shares: u32) -> Result<Self, String> {
        match shares {
            1..=SHARES_MAX => Ok(Self(shares)),
            _ => Err(format!("shares are 1 to {SHARES_MAX}, and {shares} is not")),
        }
    }
}

/// A text or a number of TOML.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a size such as \"512M\", or a number of bytes")]
enum TextOrNumber {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match TextOrNumber::deserialize(from)? {
            TextOrNumber::Number(bytes) => Ok(Self(bytes)),
            TextOrNumber::Text(text) => text.parse::<Size>().map(|size| Self(size.0)).map_err(serde::de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Dram {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = match TextOrNumber::deserialize(from)? {
            TextOrNumber::Number(bytes) => return Ok(Self::Bytes(bytes)),
            TextOrNumber::Text(text) => text,
        };
        match text.trim().strip_suffix('%') {
            None => text.parse::<Size>().map(|size| Self::Bytes(size.0)).map_err(D::Error::custom),
            Some(number) => match number.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(D::Error::custom(format!("`{text}` is no part of the DRAM: write 1% to 100%, or a size"))),
            },
        }
    }
}

/// A time, written as `1s`, `500ms` or `2m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        time(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is no time: write a number and ms, s or m, such as 500ms or 1s"))
        })
    }
}

fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u64 = text[..end].parse().ok()?;
    match text[end..].trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    dram: Spanned<Dram>,
    #[serde(default = "File::usual_period")]
    period: Spanned<Time>,
    directory: Option<PathBuf>,
    state: Option<PathBuf>,
    record: Option<PathBuf>,
    tax: Option<Tax>,
    overhead: Option<Bytes>,
    thresholds: Option<Spanned<Thresholds>>,
    #[serde(default)]
    calm: Calm,
    #[serde(default)]
    sample: SampleTable,
    #[serde(default)]
    classes: BTreeMap<Class, ClassTable>,
    #[serde(default)]
    store: Vec<Spanned<StoreTable>>,
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
}

impl File {
    fn usual_period() -> Spanned<Time> {
        Spanned::new(0..0, Time(Duration::from_secs(1)))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Calm {
    dead_band: Option<Part>,
    fall: Option<Time>,
    shrink: Option<Bytes>,
    hysteresis: Option<Part>,
    stalled: Option<Part>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SampleTable {
    period: Option<Spanned<Time>>,
    pages: Option<Spanned<u64>>,
}

impl SampleTable {
    fn pages(&self) -> Result<u32, Wrong> {
        let Some(pages) = &self.pages else { return Ok(PAGES_DEFAULT) };
        match u32::try_from(*pages.get_ref()) {
            Ok(number @ 1..=PAGES_MAX) => Ok(number),
            _ => Err((format!("a sample is of 1 to {PAGES_MAX} pages, and {} are not", pages.get_ref()), pages.span())),
        }
    }

    fn period(&self) -> Result<Duration, Wrong> {
        let Some(period) = &self.period else { return Ok(SAMPLE_PERIOD) };
        let (span, Time(period)) = (period.span(), *period.get_ref());
        if (SAMPLE_PERIOD_MIN..=SAMPLE_PERIOD_MAX).contains(&period) {
            return Ok(period);
        }
        let (least, most) = (SAMPLE_PERIOD_MIN.as_millis(), SAMPLE_PERIOD_MAX.as_secs() / 60);
        Err((format!("the period of samples is {least} ms to {most} m"), span))
    }
}

/// A part, 0 to 1.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Part(f64);

impl TryFrom<f64> for Part {
    type Error = String;

    fn try_from(part: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&part) { Ok(Self(part)) } else { Err(format!("{part} is no part from 0 to 1")) }
    }
}

/// A reason, and the bytes of the text that it speaks of.
pub type Wrong = (String, Range<usize>);

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Says where and why it cannot be used.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            path: path.to_owned(),
            at: None,
            reason: format!("cannot be read: {error}"),
        })?;
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::parse(&text, path, &users)
    }

    /// The configuration that `text` of the file `path` is; `users` is a text like `/etc/passwd`.
    ///
    /// # Errors
    /// Says where and why it is none.
    pub fn parse(text: &str, path: &Path, users: &str) -> Result<Self, ConfigError> {
        let file: Result<File, Wrong> = toml::from_str(text).map_err(|error: toml::de::Error| {
            (error.message().trim().replace('\n', ", "), error.span().unwrap_or(0..0))
        });
        file.and_then(|file| file.mean(users)).map_err(|(reason, span)| ConfigError {
            path: path.to_owned(),
            at: Some(line_and_column(text, span.start)),
            reason,
        })
    }
}

impl File {
    fn mean(self, users: &str) -> Result<Config, Wrong> {
        if *self.dram.get_ref() == Dram::Bytes(0) {
            return Err((
                "no DRAM would be handed out: write a size such as \"16GiB\", or a part such as \"75%\"".into(),
                self.dram.span(),
            ));
        }
        let period = self.period.get_ref().0;
        if !(PERIOD_MIN..=PERIOD_MAX).contains(&period) {
            return Err((
                format!("the period is {} ms to {} s", PERIOD_MIN.as_millis(), PERIOD_MAX.as_secs()),
                self.period.span(),
            ));
        }
        let thresholds = self.thresholds.map_or_else(|| Ok(Thresholds::default()), in_order)?;
        let settings = self.calm.settings(self.tax, thresholds);
        let (sample_period, sample_pages) = (self.sample.period()?, self.sample.pages()?);
        let stores = stores(self.store)?;
        let rules = rules::compile(self.rule, &stores, users)?;
        Ok(Config {
            dram: *self.dram.get_ref(),
            period,
            directory: self.directory.unwrap_or_else(|| attach::SYSTEM_DIRECTORY.into()),
            state: self.state.unwrap_or_else(|| SYSTEM_STATE.into()),
            record: self.record,
            overhead: self.overhead.unwrap_or(Bytes(OVERHEAD_BYTES)),
            settings,
            sample_period,
            sample_pages,
            classes: self.classes,
            stores,
            rules,
        })
    }
}

impl Calm {
    fn settings(self, tax: Option<Tax>, thresholds: Thresholds) -> Settings {
        let usual = Settings::default();
        let part = |part: Option<Part>, usual| part.map_or(usual, |part| part.0);
        Settings {
            tax: tax.unwrap_or(usual.tax),
            thresholds,
            hysteresis: part(self.hysteresis, usual.hysteresis),
            dead_band: part(self.dead_band, usual.dead_band),
            shrink_bytes_per_s: self.shrink.map_or(usual.shrink_bytes_per_s, |bytes| bytes.0),
            fall_ns: self.fall.map_or(usual.fall_ns, |time| time.0.as_nanos() as u64),
            stalled: part(self.stalled, usual.stalled),
        }
    }
}

fn in_order(thresholds: Spanned<Thresholds>) -> Result<Thresholds, Wrong> {
    let Thresholds { high, soft, hard, low } = *thresholds.get_ref();
    if 1.0 > high && high >= soft && soft >= hard && hard >= low && low >= 0.0 {
        Ok(thresholds.into_inner())
    } else {
        Err((
            format!("thresholds fall from high to low, all below 1: {high}, {soft}, {hard}, {low} do not"),
            thresholds.span(),
        ))
    }
}

fn stores(tables: Vec<Spanned<StoreTable>>) -> Result<Vec<StoreTable>, Wrong> {
    let mut stores: Vec<StoreTable> = Vec::new();
    for table in tables {
        let span = table.span();
        let mut store = table.into_inner();
        if stores.iter().any(|other| other.name == store.name) {
            return Err((format!("there are two stores called {}", store.name), span));
        }
        if !store.path.is_absolute() {
            return Err((format!("the path of a store begins with /: {}", store.path.display()), span));
        }
        // Spaces say where their files really are.
        if let Ok(path) = std::fs::canonicalize(&store.path) {
            store.path = path;
        }
        stores.push(store);
    }
    Ok(stores)
}

/// Line and column, each from 1, of byte `at` of a text.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_proto::rules::{Managed, Rule};

    const USERS: &str = "root:x:0:0::/root:/bin/sh\nredis:x:110:115::/var/lib/redis:/bin/false\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("node.toml"), USERS)
    }

    fn wrong(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    /// The example of the module's documentation.
    fn example() -> String {
        let file = include_str!("config.rs");
        let lines = file.lines().skip_while(|line| *line != "//! ```toml").skip(1);
        lines
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n")
            .collect()
    }

    #[test]
    fn the_example_in_the_documentation_is_a_configuration() {
        let config = parse(&example()).unwrap();
        assert_eq!((config.dram, config.period), (Dram::Percent(75), Duration::from_secs(1)));
        assert_eq!((config.settings, config.overhead), (Settings::default(), Bytes(OVERHEAD_BYTES)));
        assert_eq!((config.sample_period, config.sample_pages), (SAMPLE_PERIOD, PAGES_DEFAULT));
        assert_eq!(config.classes[&Class::Batch].shares, Some(Shares(250)));
        assert_eq!((config.stores[0].name.as_str(), config.stores[0].capacity), ("nvme", Bytes(200 << 30)));
        let rule = Rule {
            exe: Some("/usr/bin/redis-server".into()),
            uid: Some(110),
            managed: Managed::Yes,
            set_name: Some("cache".into()),
            reservation_bytes: Some(1 << 30),
            class: Some("latency".into()),
            store: Some("/var/lib/memvisor/store".into()),
            ..Rule::default()
        };
        assert_eq!(config.rules.0, [rule]);
    }

    #[test]
    fn what_is_handed_out_is_all_that_has_to_be_said() {
        let config = parse("dram = \"16GiB\"").unwrap();
        assert_eq!((config.dram, config.directory.as_path()), (Dram::Bytes(16 << 30), Path::new("/run/memvisor")));
        assert_eq!(Dram::Percent(50).of(10_000), 5_000);
    }

    #[test]
    fn every_error_has_its_line_its_column_and_its_reason() {
        for (text, start, reason) in [
            ("dram = \"16GB", "node.toml, line 1, column 13: ", "invalid basic string"),
            ("dram = \"16Gb\"\nperiod = \"soon\"", "node.toml, line 2, column 10: ", "`soon` is no time"),
            ("dram = \"lots\"", "node.toml, line 1, column 8: ", "does not start with a number"),
            ("dram = \"101%\"", "node.toml, line 1, column 8: ", "1% to 100%"),
            ("dram = true", "node.toml, line 1, column 8: ", "a size such as"),
            ("dram = 0", "node.toml, line 1, column 8: ", "no DRAM would be handed out"),
            ("dram = \"1G\"\nperiod = \"1ms\"", "node.toml, line 2, column 10: ", "the period is 50 ms to 60 s"),
            ("dram = \"1G\"\ncolour = 1", "node.toml, line 2, column 1: ", "unknown field `colour`"),
            ("period = \"1s\"", "node.toml, line 1, column 1: ", "missing field `dram`"),
            ("dram = \"1G\"\ntax = 1.0", "node.toml, line 2, column 7: ", "a tax is a part from 0 to 0.99"),
            ("dram = \"1G\"\noverhead = \"some\"", "node.toml, line 2, column 12: ", "does not start with a number"),
            ("dram = \"1G\"\n[thresholds]\nhigh = 0.01", "node.toml, line 2, column 1: ", "thresholds fall"),
            ("dram = \"1G\"\n[sample]\nperiod = \"1ms\"", "node.toml, line 3, column 10: ", "100 ms to 60 m"),
            (
                "dram = \"1G\"\n[sample]\npages = 257",
                "node.toml, line 3, column 9: ",
                "1 to 256 pages, and 257 are not",
            ),
            ("dram = \"1G\"\n[sample]\npages = 0", "node.toml, line 3, column 9: ", "1 to 256 pages"),
            ("dram = \"1G\"\n[calm]\nstalled = 2.0", "node.toml, line 3, column 11: ", "no part from 0 to 1"),
            ("dram = \"1G\"\n[classes.slow]\nshares = 1", "node.toml, line 2, column 10: ", "unknown variant `slow`"),
            ("dram = \"1G\"\n[classes.batch]\nshares = 0", "node.toml, line 3, column 10: ", "shares are 1 to"),
            (
                "dram = \"1G\"\n[[store]]\nname = \"a\"\npath = \"x\"\ncapacity = 1",
                "node.toml, line 2, column 1: ",
                "begins with /",
            ),
        ] {
            let said = wrong(text);
            assert!(said.starts_with(start), "{text:?}: {said}");
            assert!(said.contains(reason), "{text:?}: {said}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let said = Config::read(Path::new("/nowhere/node.toml")).unwrap_err().to_string();
        assert!(said.starts_with("/nowhere/node.toml: cannot be read"), "{said}");
    }
}
