//! What the API says and is told: every JSON body, and nothing else.
//!
//! HTTP/1.1 on the Unix socket `DIR/node.sock`. Amounts are bytes, times are what their names say, rates are for each second.
//! Fields may be added; a client ignores what it does not know. What a client sends is read strictly: a field that is not
//! known is refused.
//!
//! | method and path | body | answer | who may |
//! | --- | --- | --- | --- |
//! | `GET /healthz` | – | [`Health`] | all |
//! | `GET /metrics` | – | Prometheus text | all |
//! | `GET /v1/openapi.json` | – | this table as OpenAPI | all |
//! | `GET /v1/host` | – | [`Host`] | all |
//! | `GET /v1/spaces` | – | [`Spaces`] | all |
//! | `GET /v1/spaces/{name}` | – | [`Space`] | all |
//! | `PATCH /v1/spaces/{name}` | [`Change`] | [`Space`] | root, the node's user, the space's owner |
//! | `GET /v1/spaces/{name}/explain` | – | [`Explanation`] | all |
//! | `GET /v1/spaces/{name}/history?resolution=fine\|coarse` | – | [`History`] | all |
//! | `GET /v1/spaces/{name}/curve` | – | [`Curve`] | all |
//! | `POST /v1/drain` | [`Drain`] | [`Drained`] | all: root, the node's user; by name: the owner of each |
//! | `POST /v1/drain/cancel` | [`Drain`] | [`Undrained`] | the same |
//! | `POST /v1/reload` | – | [`Reloaded`] | root, the node's user |
//!
//! Everything else is a [`Problem`], with the status that fits: 400 what was sent cannot be read, 403 not yours, 404 no
//! such space or path, 405 no such method there, 409 it does not fit, 422 the configuration cannot be used, 500 the
//! node's own fault.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, and what can be done about it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What went wrong, as a sentence without a full stop.
    pub error: String,
    /// What would be right.
    pub way_out: String,
    /// An amount that would fit, when one was too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fits_bytes: Option<u64>,
    /// What is missing, when something does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_bytes: Option<u64>,
}

/// The node is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or `stale` when no plan was made for ten periods.
    pub status: String,
    /// Time since the last plan.
    pub planned_ms_ago: u64,
    /// Spaces that are attached.
    pub spaces: u64,
}

/// How short of DRAM the host is, best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is taken from anybody.
    #[default]
    High,
    /// Guests are asked to give; what has no balloon is paged.
    Soft,
    /// Everybody is paged.
    Hard,
    /// Who is above its target is blocked meanwhile.
    Low,
}

/// What is to be said of how much is asked of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everybody has what it wants.
    #[default]
    Fits,
    /// Not all that is wanted fits, but what is used does.
    Overcommitted,
    /// Not even what is used fits.
    TooHigh,
    /// Not even the reservations fit.
    PromisesBroken,
}

/// The host and its division.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Version of the node.
    pub version: String,
    /// Time since the node started.
    pub uptime_ms: u64,
    /// DRAM that the node may hand out.
    pub dram_bytes: u64,
    /// DRAM of the machine.
    pub machine_bytes: u64,
    /// What could be given out at once: of the machine, and no more than is left of `dram_bytes`.
    pub free_bytes: u64,
    /// DRAM charged to all spaces.
    pub charged_bytes: u64,
    /// Memory of their programs that is not managed.
    pub overhead_bytes: u64,
    /// What all spaces would be charged for if DRAM were free.
    pub wanted_bytes: u64,
    /// What they use.
    pub active_bytes: u64,
    /// The sum of all targets: never more than `dram_bytes`.
    pub targets_bytes: u64,
    /// The sum of all reservations.
    pub reserved_bytes: u64,
    /// How short of DRAM it is.
    pub state: State,
    /// What is to be said of the consolidation ratio.
    pub verdict: Verdict,
    /// Wanted for each byte there is; `null` when there is nothing.
    pub ratio: Option<f64>,
    /// What is to leave the host, or to be bought, until what is used and reserved fits.
    pub excess_bytes: u64,
    /// Spaces that stand still for want of memory.
    pub stalled_spaces: u64,
    /// The price that all pay who have neither reservation nor limit nor all they want: shares for each MiB. `null` when
    /// nobody is short.
    pub price: Option<f64>,
    /// Spaces that are attached.
    pub spaces: u64,
    /// The idle memory tax, 0 to 1.
    pub tax: f64,
    /// Time between plans.
    pub period_ms: u64,
    /// Plans made since the node started.
    pub plans: u64,
    /// Stall of the whole machine for memory.
    pub pressure: Pressure,
    /// Stores of the configuration.
    pub stores: Vec<Store>,
}

/// Pressure stall information, as parts of the time, 0 to 1, over ten seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Pressure {
    /// Some task waited for memory.
    pub some: f64,
    /// All tasks did.
    pub full: f64,
}

/// A store that the node knows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Store {
    /// What rules call it.
    pub name: String,
    /// Where it lies.
    pub path: String,
    /// What it can hold.
    pub capacity_bytes: u64,
    /// What of its capacity no file of a space was promised. The file system is not asked: that may take as long as it likes.
    pub free_bytes: Option<u64>,
}

/// All spaces.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Spaces {
    /// In the order of their numbers.
    pub spaces: Vec<Space>,
}

/// Who is sacrificed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// May wait: the first to be cut.
    Batch,
    /// Everything else.
    #[default]
    Standard,
    /// Somebody waits for each answer: the last to be cut.
    Latency,
}

/// What an owner wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Intent {
    /// DRAM that is promised.
    pub reservation_bytes: u64,
    /// The most DRAM; `null` without a limit.
    pub limit_bytes: Option<u64>,
    /// Weight against other spaces.
    pub shares: u32,
    /// Who is sacrificed first.
    pub class: Class,
    /// Whose memory it is.
    pub domain: u32,
}

/// What is done to a space now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing.
    #[default]
    Leave,
    /// It shall give: by its balloon if it has one, else by paging.
    Balloon,
    /// It is paged.
    Page,
    /// It is paged, and does not run until it is within its target.
    Block,
}

/// How far a drain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    /// Nobody asked for one.
    #[default]
    No,
    /// Members bring their pages back.
    Draining,
    /// All members have let go: their memory is plain.
    Drained,
}

/// A space.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Space {
    /// What it is called; unique on this node.
    pub name: String,
    /// Its number on this node; never given twice.
    pub number: u64,
    /// Its own number, 32 hexadecimal digits.
    pub id: String,
    /// Whose it is.
    pub uid: u32,
    /// The process that keeps it; 0 when that has ended and processes of the space go on.
    pub keeper_pid: u32,
    /// The process that was started in it.
    pub program_pid: u32,
    /// How that was started.
    pub command: Vec<String>,
    /// When it attached first, in milliseconds since 1970.
    pub since_ms: u64,
    /// What its owner wants.
    pub intent: Intent,
    /// DRAM granted by the plan.
    pub target_bytes: u64,
    /// What its pager is told now, which follows the plan as DRAM comes back from others.
    pub budget_bytes: u64,
    /// Where the target is on its way to.
    pub goal_bytes: u64,
    /// What is done to it now.
    pub action: Action,
    /// How far a drain is.
    pub drain: DrainState,
    /// DRAM that it is charged for: resident, staged, compressed pages, tables.
    pub charged_bytes: u64,
    /// What it would be charged for if DRAM were free.
    pub wanted_bytes: u64,
    /// What of it is in use.
    pub active_bytes: u64,
    /// Memory of its programs that is not managed.
    pub overhead_bytes: u64,
    /// Where its memory lies.
    pub tiers: Tiers,
    /// Bytes that its file store can hold.
    pub store_bytes: u64,
    /// Its stores take no more.
    pub store_full: bool,
    /// Processes in it.
    pub members: u64,
    /// Pages whose uses are followed for the curve.
    #[serde(default)]
    pub watched_pages: u64,
    /// Its counters since it attached to this node.
    pub counters: Counters,
    /// How fast they grow.
    pub rates: Rates,
    /// Part of the time in which it waited for memory, 0 to 1.
    pub pressure: f64,
    /// Service time that 99 of 100 faults did not exceed, in nanoseconds.
    pub fault_ns_p99: u64,
    /// The longest service of a fault, in nanoseconds.
    pub fault_ns_max: u64,
}

/// Where memory lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Tiers {
    /// Pages in their place, and what is not armed yet.
    pub dram_bytes: u64,
    /// Pages moved out and not saved yet.
    pub staged_bytes: u64,
    /// Compressed pages, as the DRAM they take.
    pub ram_bytes: u64,
    /// Tables, in DRAM.
    pub tables_bytes: u64,
    /// Pages in the file.
    pub log_bytes: u64,
    /// Contents of all pages that are in a store, uncompressed.
    pub stored_bytes: u64,
}

/// Counters of the members that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// Faults served.
    pub faults: u64,
    /// Faults on pages without contents.
    pub first_touches: u64,
    /// Faults on parked pages.
    pub parked_hits: u64,
    /// Pages loaded from compressed RAM.
    pub ram_loads: u64,
    /// Pages loaded from the file.
    pub log_loads: u64,
    /// Pages made from a pattern.
    pub filled_loads: u64,
    /// Pages loaded ahead of a fault.
    pub prefetched: u64,
    /// Pages moved out.
    pub evictions: u64,
    /// Faults that waited for a frame.
    pub stalls: u64,
    /// Pages that could not be brought back true.
    pub lost: u64,
    /// Errors that stores gave.
    pub store_errors: u64,
    /// Faults that waited because the space was blocked.
    pub blocked_faults: u64,
    /// The time that they waited, in nanoseconds.
    pub blocked_ns: u64,
    /// Pages hidden only to see when they are used again, which costs a fault: what the curve costs.
    #[serde(default)]
    pub rechecks: u64,
}

/// Counters, each second, over the last period.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// Faults served.
    pub faults_per_s: f64,
    /// Pages that had been moved out and were wanted back.
    pub refaults_per_s: f64,
    /// Pages moved out.
    pub evictions_per_s: f64,
    /// Pages hidden only to see when they are used again.
    #[serde(default)]
    pub rechecks_per_s: f64,
}

/// An amount: a number of bytes, or a text such as `512M`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// A size as people write it.
    Text(String),
}

/// What is to change; what is left out stays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Exactly so much: reservation and limit at once. Not together with those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dram: Option<Amount>,
    /// DRAM to be promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Amount>,
    /// The most DRAM; `"none"` takes a limit away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Amount>,
    /// Weight, 1 to 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<u32>,
    /// Who is sacrificed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
}

/// What held a goal where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Its reservation: at the price of the others it would have less.
    Reservation,
    /// Its limit: at the price of the others it would have more.
    Limit,
    /// What it wants: it has all that.
    Wanted,
    /// The price: it has as much as anybody with its shares and its use of memory.
    Price,
}

/// How a target came from its goal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The target is the goal.
    Whole,
    /// The change would be too small to be worth it.
    DeadBand,
    /// It falls no faster than is allowed.
    Rate,
    /// It rises as others give.
    Waiting,
}

/// What became of a reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Promise {
    /// What was promised.
    pub reserved_bytes: u64,
    /// What of it is kept: less only when the host lacks the DRAM.
    pub kept_bytes: u64,
}

/// Why a space has the target that it has.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Which space.
    pub name: String,
    /// The same in sentences, with numbers, the most important first.
    pub sentences: Vec<String>,
    /// How short of DRAM the host is.
    pub state: State,
    /// The price that all pay.
    pub host_price: Option<f64>,
    /// What is divided.
    pub capacity_bytes: u64,
    /// The reasons of this space.
    pub reason: Reason,
    /// Those of the others, the most that a tax took first.
    pub others: Vec<Other>,
}

/// Reasons as data.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// DRAM granted by the plan.
    pub target_bytes: u64,
    /// What its pager is told now.
    pub budget_bytes: u64,
    /// What the division gives.
    pub goal_bytes: u64,
    /// The goal without the tax.
    pub untaxed_bytes: u64,
    /// What the tax took; negative when it gave.
    pub tax_bytes: i64,
    /// What held the goal.
    pub bound: Bound,
    /// How the target came from the goal.
    pub step: Step,
    /// What became of the reservation; `null` without one.
    pub promise: Option<Promise>,
    /// Shares for each MiB at the goal, an idle one counted at its price; the lower, the sooner memory is taken here.
    pub price: Option<f64>,
    /// The part of the goal that is in use, 0 to 1.
    pub active_fraction: f64,
    /// What is done to it now.
    pub action: Action,
}

/// Another space, in an explanation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Other {
    /// Which.
    pub name: String,
    /// Its reasons.
    pub reason: Reason,
}

/// A space over time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Which space.
    pub name: String,
    /// Time between samples, as long as the node ran.
    pub period_ms: u64,
    /// The oldest first.
    pub samples: Vec<Sample>,
}

/// A space at one moment; of coarse samples the last of each span, but the highest rates and pressure of it.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// DRAM granted.
    pub target_bytes: u64,
    /// DRAM charged.
    pub charged_bytes: u64,
    /// What it wanted.
    pub wanted_bytes: u64,
    /// What it used.
    pub active_bytes: u64,
    /// Memory that is not managed.
    pub overhead_bytes: u64,
    /// Faults served, each second.
    pub faults_per_s: f64,
    /// Pages that were wanted back, each second.
    pub refaults_per_s: f64,
    /// Part of the time in which it waited for memory.
    pub pressure: f64,
}

/// How many pages would be wanted back, each second, at other sizes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Curve {
    /// Which space.
    pub name: String,
    /// DRAM that holds its pages now.
    pub present_bytes: u64,
    /// Below this size only the least is known.
    pub resolved_bytes: u64,
    /// First touches, each second: no size spares them.
    pub first_touches_per_s: f64,
    /// Pages whose uses are followed for it, which stand for all.
    #[serde(default)]
    pub watched_pages: u64,
    /// What that costs: pages hidden only to see when they are used again, each second; each is a fault.
    #[serde(default)]
    pub rechecks_per_s: f64,
    /// By rising size, from a quarter of the present one to one and a half of it.
    pub points: Vec<CurvePoint>,
}

/// A point of a curve.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CurvePoint {
    /// The part of the present size.
    pub part: f64,
    /// DRAM.
    pub dram_bytes: u64,
    /// Pages that would be wanted back, each second, most likely.
    pub loads_per_s: f64,
    /// At least, 95 times in 100.
    pub loads_per_s_low: f64,
    /// At most; `null` where only the least is known.
    pub loads_per_s_high: Option<f64>,
}

/// Which spaces shall bring all pages back to plain DRAM and let go, or shall not any more.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// These; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// A drain has begun.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Drained {
    /// The spaces that drain now; see [`Space::drain`] for how far they are.
    pub names: Vec<String>,
    /// DRAM that they will take beside what they are charged for.
    pub needed_bytes: u64,
    /// What can be had for it: free, not promised to others, and not about to be taken by other drains.
    pub free_bytes: u64,
}

/// Drains were called off.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Undrained {
    /// The spaces that drained, or had let go, and are managed as before from now on.
    pub names: Vec<String>,
}

/// The configuration was read again and is in force.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Rules in force.
    pub rules: u64,
    /// Settings that differ from what they were, and those that need a restart.
    pub changes: Vec<String>,
}
