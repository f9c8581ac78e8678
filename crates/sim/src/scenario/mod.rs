//! A scenario: an invented host, invented spaces, what happens to them, and what is expected of the policy.
//!
//! ```toml
//! title = "A neighbour that wakes up"
//! seed = 1
//! dram = "4GiB"               # of the host
//! others = "256M"             # of it used by others [none]
//! length = "10m"
//! period = "1s"               # between plans [1s]
//! looks = 10                  # how often in a period the node hands out, and pagers look at what they were told [10]
//! sample = "30s"              # a period of the sampler [30s]
//! tax = 0.75                  # and [thresholds], [calm] as in the node's configuration
//!
//! [machine]                   # how fast memory moves
//! load = "10us"               # a page comes back [10us]
//! unpark = "5us"              # … from where it was parked [5us]
//! reclaim = "1GiB"            # a space gives up, each second [1GiB]
//! fill = "1GiB"               # a space touches first, each second [1GiB]
//! first = "64M"               # what a space may take before a node knows it [64M]
//!
//! [[group]]                   # spaces that are alike
//! name = "web"
//! count = 2                   # [1]
//! footprint = "3GiB"          # all they ever touch
//! shares = 2000               # and reservation, limit, class: what their owner wants
//! start = "10s"               # [0s]; stagger = "1s": each so much later than the one before
//! stop = "9m"                 # [never]
//! spread = 0.1                # sizes differ by up to a tenth [0]
//! shift = "30s"               # each is so much further in its phases than the one before [0s]
//!
//! [[group.phase]]             # one after the other, then again from the first
//! for = "2m"                  # [for ever]
//! working_set = "1GiB"
//! touches = 50000             # of pages, each second, if all were in DRAM
//! cpu = 0.5                   # it runs for this part of the time; the sampler's periods are of that time [1]
//! pattern = "zipf"            # "uniform", "scan", or "toggle" with `low` and `every`
//! skew = 0.99                 # of zipf
//! moves = true                # the working set is elsewhere than that of the phase before [false]
//!
//! [[group.phase]]
//! for = "1m"
//! idle = true
//!
//! [[event]]
//! at = "5m"
//! group = "web"
//! set = { shares = 500 }      # or: die = true; without group: tax = 0.5, node_away = "60s", dram = "3GiB"
//!
//! [[expect]]                  # see `expect`
//! figure = "throughput"       # target, charged, wanted, active, throughput, error
//! of = "web"
//! from = "4m"                 # [0s]
//! to = "5m"                   # [the end]
//! over = { of = "web", from = "8m" }   # the ratio with another mean [none], of another `figure` if it names one
//! at_least = 1.3              # and at_most
//!
//! [[expect]]
//! always = "host"             # or "reservations"
//!
//! [[expect]]
//! follows = "web"             # after each phase that needs more, what it needs is in DRAM
//! within = "10s"
//! ```

mod file;
pub(crate) mod units;

pub use file::Refusal;

use crate::expect::Expectation;
use memvisor_policy::{Intent, Settings};

/// An invented host and its spaces. Times are nanoseconds from the beginning.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// What it is about.
    pub title: String,
    /// Seed of all that is random.
    pub seed: u64,
    /// All DRAM of the host, in bytes.
    pub dram_bytes: u64,
    /// Of it used by others, in bytes.
    pub others_bytes: u64,
    /// When it ends.
    pub length_ns: u64,
    /// Time between plans.
    pub period_ns: u64,
    /// How often in a period the node hands out and pagers look.
    pub looks: u32,
    /// A period of the sampler.
    pub sample_ns: u64,
    /// What the operator turned.
    pub settings: Settings,
    /// How fast memory moves.
    pub machine: Machine,
    /// The spaces.
    pub groups: Vec<Group>,
    /// What happens, in the order of time.
    pub events: Vec<Event>,
    /// What is expected.
    pub expectations: Vec<Expectation>,
}

/// How fast memory moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// A page comes back from a store, in nanoseconds.
    pub load_ns: u64,
    /// A page comes back that was parked, in nanoseconds.
    pub unpark_ns: u64,
    /// What a space can give up, in bytes each second.
    pub reclaim_bytes_per_s: u64,
    /// What a space can touch first, in bytes each second.
    pub fill_bytes_per_s: u64,
    /// What a space may take before a node has planned for it, in bytes.
    pub first_bytes: u64,
}

impl Default for Machine {
    /// As measured on a small virtual machine: a page is saved in 4 µs and comes back in 10.
    fn default() -> Self {
        Self {
            load_ns: 10_000,
            unpark_ns: 5_000,
            reclaim_bytes_per_s: 1 << 30,
            fill_bytes_per_s: 1 << 30,
            first_bytes: 64 << 20,
        }
    }
}

/// Spaces that are alike.
#[derive(Clone, PartialEq, Debug)]
pub struct Group {
    /// What they are called.
    pub name: String,
    /// How many there are.
    pub count: u32,
    /// What their owner wants.
    pub intent: Intent,
    /// All that one ever touches, in bytes.
    pub footprint_bytes: u64,
    /// By which part sizes differ, 0 to 1.
    pub spread: f64,
    /// When the first starts.
    pub start_ns: u64,
    /// How much later each starts than the one before.
    pub stagger_ns: u64,
    /// When all end.
    pub stop_ns: Option<u64>,
    /// How much further in its phases each is than the one before.
    pub shift_ns: u64,
    /// What they do, again and again; at least one.
    pub phases: Vec<Phase>,
}

/// What a space does for a while.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Phase {
    /// For how long; `None` for ever.
    pub for_ns: Option<u64>,
    /// What it uses, in bytes.
    pub working_set_bytes: u64,
    /// Touches of pages each second, if all were in DRAM.
    pub touches_per_s: f64,
    /// For which part of the time it runs, 0 to 1.
    pub cpu: f64,
    /// In which order.
    pub pattern: Pattern,
    /// Whether the working set is elsewhere than that of the phase before.
    pub moves: bool,
}

/// In which order pages of the working set are touched.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pattern {
    /// Any page, each equally likely.
    Uniform,
    /// By Zipf's law with this skew.
    Zipf(f64),
    /// One after the other, round and round.
    Scan,
}

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Event {
    /// When.
    pub at_ns: u64,
    /// What.
    pub deed: Deed,
}

/// What happens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Deed {
    /// The owner of a group wants something else.
    Set(usize, Intent),
    /// All spaces of a group end at once.
    Die(usize),
    /// The operator turns the settings.
    Turn(Settings),
    /// The node is not there for so long.
    NodeAway(u64),
    /// The host has so much DRAM from now on, in bytes.
    Dram(u64),
}

impl Scenario {
    /// The scenario that a text is.
    ///
    /// # Errors
    /// Says at which line and why it is none.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        file::parse(text)
    }

    /// Time between two looks of a pager.
    pub fn look_ns(&self) -> u64 {
        self.period_ns / u64::from(self.looks)
    }
}
