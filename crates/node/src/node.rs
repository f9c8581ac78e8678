//! The node: which spaces there are, what each was told, and one step of dividing.
//!
//! ```text
//!   look at each space ─▶ situation ─▶ policy::plan ─▶ handing out: lower, look again, raise ─▶ headers
//!        (also those of the last node that are still to come back: they hold what they held, and cannot be told less)
//!        (and those whose keeper has ended while their processes go on: nobody but their headers is there to be told)
//! ```
//! Everything here is called by one thread at a time and waits for nobody. What must outlive the process is in [`Kept`]; a
//! number that a pager was told is believed as it is there and not as the header says, which is the owner's to write.

use crate::config::{Config, ConfigError, StoreTable};
use crate::history::{History, Resolution};
use crate::machine::{MachineMemory, Stall};
use crate::observe::{Depth, Observer};
use crate::record::Recorder;
use crate::rules;
use crate::spaces::{Identity, SpaceView};
use crate::state::{Found, Kept, Record, StateDirectory};
use crate::wire;
use memvisor_core::blocking::ASKED_NS_MAX;
use memvisor_policy::capacity::{self, Capacity};
use memvisor_policy::handing::{self, Claim, Supply};
use memvisor_policy::{Action, Grant, Host, Intent, Memory, Observation, Plan, Room, Situation, Space, SpaceId, plan};
use memvisor_sys::clock;
use memvisor_sys::file::Fd;
use memvisor_sys::process;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{debug, info, warn};

/// Plans between two looks at the processes of a space: overhead changes slowly, and a look costs a file of `/proc` each.
const PROCESSES_EVERY: u64 = 5;
/// Plans between two writes of samples.
const FLUSH_EVERY: u64 = 10;

/// How long a space of the last node is waited for, in nanoseconds: whoever keeps one tries every few seconds.
const ABSENT_NS_MAX: u64 = 60_000_000_000;

/// Times that is handed out between two plans, besides once with each: what one gives, another waits for.
pub const HANDS_PER_PERIOD: u32 = 10;
/// A block is asked for anew at each handing out, and holds for so many of them: one may come late.
const HANDS_PER_BLOCK: u32 = 3;
/// No block is shorter, so that a node that is slow for a moment does not lift it.
const BLOCK_MIN: Duration = Duration::from_secs(1);

/// A connection of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session(pub u64);

/// A space that is attached, or was and whose processes go on.
pub(crate) struct Attached {
    /// Its connection; `None` when that has ended.
    pub(crate) session: Option<Session>,
    pub(crate) view: SpaceView,
    pub(crate) observer: Observer,
}

impl Attached {
    /// Whether a process of it, which is one of user `uid`, goes on.
    fn lives(&self, uid: u32) -> bool {
        self.view.processes().into_iter().any(|process| process.lives(uid))
    }
}

/// What the last plan was made from, and what came out.
pub(crate) struct Planned {
    pub(crate) situation: Situation,
    pub(crate) plan: Plan,
}

/// The node.
pub struct Node {
    pub(crate) config: Config,
    config_path: PathBuf,
    pub(crate) memory: MachineMemory,
    pub(crate) stall: Stall,
    pub(crate) kept: Kept,
    pub(crate) attached: BTreeMap<Identity, Attached>,
    /// Spaces of the last node that have not come back yet, each with the process that keeps it, as long as that is waited for.
    absent: BTreeMap<Identity, Option<Fd>>,
    pub(crate) history: History,
    pub(crate) planned: Option<Planned>,
    pub(crate) plans: u64,
    pub(crate) started_ns: u64,
    /// When this process started, in clock ticks after boot.
    started_ticks: u64,
    pub(crate) uid: u32,
    directory: StateDirectory,
    recorder: Recorder,
    sessions: u64,
}

/// Why a node cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be used.
    Config(ConfigError),
    /// The state directory cannot.
    State(PathBuf, io::Error),
    /// `/proc` cannot be read.
    Machine(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(_) => f.write_str("the configuration cannot be used"),
            Self::State(path, _) => write!(f, "cannot keep state in {}", path.display()),
            Self::Machine(_) => f.write_str("cannot read /proc/meminfo"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(source) => Some(source),
            Self::State(_, source) | Self::Machine(source) => Some(source),
        }
    }
}

impl Node {
    /// The node of the configuration file at `path`, with the state that the last one left.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(path: &Path) -> Result<Self, StartError> {
        let config = Config::read(path).map_err(StartError::Config)?;
        let state_error = |error| StartError::State(config.state.clone(), error);
        let directory = StateDirectory::open(&config.state).map_err(state_error)?;
        let history = History::open(&directory.history()).map_err(state_error)?;
        let kept = load(&directory).map_err(state_error)?;
        let absent = kept.spaces.iter().map(|(id, record)| (*id, keeper_of(record))).collect();
        let mut node = Self {
            recorder: Recorder::to(config.record.clone()),
            config_path: path.to_owned(),
            memory: MachineMemory::now().map_err(StartError::Machine)?,
            stall: Stall::now(),
            kept,
            attached: BTreeMap::new(),
            absent,
            history,
            planned: None,
            plans: 0,
            started_ns: clock::now_ns(),
            // Of a machine that does not say, nobody is older.
            started_ticks: process::start_ticks(process::getpid()).unwrap_or(0),
            uid: process_uid(),
            directory,
            config,
            sessions: 0,
        };
        node.forget_the_dead();
        Ok(node)
    }

    /// DRAM that is handed out, in bytes.
    pub fn dram_bytes(&self) -> u64 {
        self.config.dram.of(self.memory.total_bytes)
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads the configuration again. If it cannot be used the old one stays; so do the directories, the period and the record
    /// until a restart.
    ///
    /// # Errors
    /// Says where and why the file cannot be used.
    pub fn reload(&mut self) -> Result<wire::Reloaded, ConfigError> {
        let new = Config::read(&self.config_path)?;
        let mut changes = Vec::new();
        let mut note = |differs: bool, what: &str| {
            if differs {
                changes.push(what.to_owned());
            }
        };
        let old = &self.config;
        note(new.dram != old.dram, "dram");
        note(new.overhead != old.overhead, "overhead");
        note(new.settings != old.settings, "settings of the policy");
        note(new.classes != old.classes, "classes");
        note(new.sample_period != old.sample_period, "period of samples");
        note(new.sample_pages != old.sample_pages, "pages of a sample");
        note(new.stores != old.stores, "stores");
        note(new.rules != old.rules, "rules");
        note(new.period != old.period, "period (after a restart)");
        note(new.directory != old.directory, "directory (after a restart)");
        note(new.state != old.state, "state (after a restart)");
        note(new.record != old.record, "record (after a restart)");
        let rules = new.rules.0.len() as u64;
        let stays = &self.config;
        self.config = Config {
            period: stays.period,
            directory: stays.directory.clone(),
            state: stays.state.clone(),
            record: stays.record.clone(),
            ..new
        };
        for space in self.attached.values_mut() {
            space.view.set_sample(self.config.sample_period, self.config.sample_pages);
            space.observer.sample_period = self.config.sample_period;
        }
        self.publish_rules();
        info!(rules, ?changes, "the configuration was read again");
        self.step();
        Ok(wire::Reloaded { rules, changes })
    }

    /// Writes the rules where others read them.
    pub fn publish_rules(&self) {
        if let Err(error) = rules::publish(&self.config.rules, &self.config.directory) {
            warn!(%error, "the rules cannot be written");
        }
    }

    /// Takes in a space that was judged; gives the session that its connection is.
    pub(crate) fn take_in(&mut self, id: Identity, view: SpaceView, record: Record) -> Session {
        self.sessions += 1;
        let session = Session(self.sessions);
        self.absent.remove(&id);
        self.kept.spaces.insert(id, record);
        view.set_sample(self.config.sample_period, self.config.sample_pages);
        let mut observer = Observer::default();
        observer.sample_period = self.config.sample_period;
        observer.look(&view, clock::now_ns(), Depth::Processes);
        self.attached.insert(id, Attached { session: Some(session), view, observer });
        session
    }

    /// Whether process `pid` can have been there before this one, within a tick of the clock. Only such a one can have been here when
    /// another node was.
    pub(crate) fn can_be_older(&self, pid: u32) -> bool {
        process::start_ticks(pid).is_ok_and(|started_ticks| started_ticks <= self.started_ticks)
    }

    /// The connection of a space ended. Does nothing when it has another by now.
    pub fn detach(&mut self, id: Identity, session: Session) {
        let Some(space) = self.attached.get_mut(&id).filter(|space| space.session == Some(session)) else { return };
        space.session = None;
        self.forget_the_dead();
        if let Some(record) = self.kept.spaces.get_mut(&id) {
            warn!(space = %record.name, keeper = record.keeper_pid, "nobody keeps it any more, and its processes go on");
            // Nor is anybody waited for by a node that comes after this one.
            (record.keeper_pid, record.keeper_start) = (0, 0);
        }
        // Others are told at once what has come back.
        self.step();
        self.save();
    }

    /// Forgets spaces that nobody keeps when their last process has ended, and absent ones when their keeper has too or did not come
    /// for a time: what they held has come back.
    fn forget_the_dead(&mut self) {
        let waits = clock::now_ns().saturating_sub(self.started_ns) < ABSENT_NS_MAX;
        let records = &self.kept.spaces;
        let owner = |id: &Identity| records.get(id).map_or(0, |record| record.uid);
        self.absent.retain(|id, keeper| {
            *keeper = keeper.take().filter(|keeper| waits && process::pidfd_alive(keeper));
            keeper.is_some() || records.get(id).is_some_and(Record::lives)
        });
        self.attached.retain(|id, space| space.session.is_some() || space.lives(owner(id)));
        let (attached, absent) = (&self.attached, &self.absent);
        self.kept.spaces.retain(|id, record| {
            let is_there = attached.contains_key(id) || absent.contains_key(id);
            if !is_there {
                info!(space = %record.name, "gone");
            }
            is_there
        });
    }

    /// The space that is called `name`, if it is attached.
    pub fn named(&self, name: &str) -> Option<Identity> {
        self.attached.keys().copied().find(|id| self.kept.spaces.get(id).is_some_and(|record| record.name == name))
    }

    /// All spaces that are attached.
    pub fn ids(&self) -> Vec<Identity> {
        self.attached.keys().copied().collect()
    }

    /// What a space is called.
    pub fn name(&self, id: Identity) -> Option<&str> {
        self.kept.spaces.get(&id).map(|record| record.name.as_str())
    }

    /// Whose a space is.
    pub fn owner(&self, id: Identity) -> Option<u32> {
        self.kept.spaces.get(&id).map(|record| record.uid)
    }

    /// Time since the last plan, in milliseconds; since the start when none was made.
    pub fn planned_ms_ago(&self) -> u64 {
        let planned_ns = self.planned.as_ref().map_or(self.started_ns, |planned| planned.plan.now_ns);
        clock::now_ns().saturating_sub(planned_ns) / 1_000_000
    }

    /// What is known of an attached space.
    pub(crate) fn space(&self, id: Identity) -> Option<(&Record, &Attached)> {
        Some((self.kept.spaces.get(&id)?, self.attached.get(&id)?))
    }

    /// What the last plan granted to a space.
    pub(crate) fn grant(&self, number: SpaceId) -> Option<&Grant> {
        self.planned.as_ref()?.plan.grants.iter().find(|grant| grant.id == number)
    }

    /// Looks at everything.
    pub(crate) fn situation(&self, now_ns: u64) -> Situation {
        let spaces: Vec<Space> = self.kept.spaces.iter().map(|(id, record)| self.seen(*id, record)).collect();
        let sum = |bytes: fn(&Observation) -> u64| {
            spaces.iter().map(|space| bytes(&space.observation)).fold(0, u64::saturating_add)
        };
        let used_bytes = sum(|seen| seen.charged_bytes).saturating_add(sum(|seen| seen.overhead_bytes));
        let dram_bytes = self.dram_bytes();
        let free_bytes = self.memory.available_bytes.min(dram_bytes.saturating_sub(used_bytes));
        Situation { now_ns, host: Host { dram_bytes, free_bytes }, spaces }
    }

    fn seen(&self, id: Identity, record: &Record) -> Space {
        let space = |intent, observation| Space { id: record.number, intent, observation };
        if let Some(attached) = self.attached.get(&id) {
            let look = attached.observer.last();
            let intent = match look.drains {
                // All of it comes back to plain DRAM, whatever was wished before. From then on it is promised.
                true => Intent {
                    reservation_bytes: look.footprint_bytes().max(record.intent.reserved_bytes()),
                    limit_bytes: None,
                    ..record.intent
                },
                false => record.intent,
            };
            return space(intent, attached.observer.observation());
        }
        // Nobody can be asked: it holds what it held, and wants what it was believed to want.
        let believed = self.kept.memory.spaces.get(&record.number);
        let observation = Observation {
            charged_bytes: record.charged_bytes,
            wanted_bytes: believed.map_or(record.charged_bytes, |believed| believed.wanted_bytes),
            active_bytes: believed.map_or(record.charged_bytes, |believed| believed.active_bytes),
            ..Observation::default()
        };
        let intent = match self.absent.get(&id) {
            // Nobody comes back who could be told less.
            Some(None) => Intent {
                reservation_bytes: record.held_bytes().max(record.intent.reserved_bytes()),
                limit_bytes: None,
                ..record.intent
            },
            Some(Some(_)) | None => record.intent,
        };
        space(intent, observation)
    }

    /// What can be promised to all spaces together: of DRAM, and of one store; of no store where the host promises none.
    pub(crate) fn promisable(&self, situation: &Situation, store: Option<&StoreTable>) -> Room {
        let most_bytes = capacity::observed_bytes(situation);
        let capacity = Capacity::new(most_bytes, situation.host.dram_bytes, &self.config.settings);
        Room { dram_bytes: capacity.calm_bytes, store_bytes: store.map_or(0, |store| store.capacity.0) }
    }

    /// The store of the configuration in which a file at `path` lies.
    pub(crate) fn store_at(&self, path: Option<&Path>) -> Option<&StoreTable> {
        let holds = |store: &&StoreTable| path.is_some_and(|path| path.starts_with(&store.path));
        self.config.stores.iter().filter(holds).max_by_key(|store| store.path.as_os_str().len())
    }

    /// What of a store nobody was promised, in bytes.
    pub(crate) fn store_left_bytes(&self, store: &StoreTable) -> u64 {
        let in_it =
            |record: &&Record| self.store_at(record.store_path.as_deref()).is_some_and(|at| at.name == store.name);
        let promised = self.kept.spaces.values().filter(in_it).map(|record| record.store_bytes);
        store.capacity.0.saturating_sub(promised.fold(0, u64::saturating_add))
    }

    /// Plans and hands out.
    pub fn step(&mut self) {
        let now_ns = clock::now_ns();
        self.look(now_ns);
        let situation = self.situation(now_ns);
        let (made, memory) = plan(&situation, &self.config.settings, &self.kept.memory);
        self.recorder.record(&situation, &self.config.settings, &self.kept.memory, &made);
        log(&self.kept.memory, &made);
        self.kept.memory = memory;
        self.planned = Some(Planned { situation, plan: made });
        self.plans += 1;
        self.hand_out();
    }

    fn look(&mut self, now_ns: u64) {
        if let Ok(memory) = MachineMemory::now() {
            self.memory = memory;
        }
        self.stall = Stall::now();
        let turn = self.plans % PROCESSES_EVERY;
        for (id, space) in &mut self.attached {
            let Some(record) = self.kept.spaces.get_mut(id) else { continue };
            let depth = if record.number.0 % PROCESSES_EVERY == turn { Depth::Processes } else { Depth::Words };
            let look = space.observer.look(&space.view, now_ns, depth);
            record.charged_bytes = look.charged_bytes;
            record.processes = space.view.processes();
        }
    }

    /// Hands out what has come back since the last plan. Costs little: it is done several times between plans.
    pub fn hand_out(&mut self) {
        self.forget_the_dead();
        let Some(planned) = &self.planned else { return };
        let supply = self.supply(planned);
        let grants: BTreeMap<SpaceId, Grant> = planned.plan.grants.iter().map(|grant| (grant.id, *grant)).collect();
        let ids: Vec<Identity> = self.attached.keys().copied().collect();
        let claims = self.claims(&ids, &grants);
        let wishes = handing::wishes(&claims, supply);
        self.tell(&ids, &handing::lower(&claims, &wishes));
        // What they hold is read again: whoever grew before it was told less holds more than was thought.
        let claims = self.claims(&ids, &grants);
        self.tell(&ids, &handing::raise(&claims, &wishes, supply));
        self.block(&grants);
    }

    /// Asks the pagers of those whom the plan blocks to let no thread make them larger, for as long as this node lives and says so.
    fn block(&self, grants: &BTreeMap<SpaceId, Grant>) {
        let until_ns = clock::now_ns().saturating_add(self.block_ns());
        for (id, space) in &self.attached {
            let grant = self.kept.spaces.get(id).and_then(|record| grants.get(&record.number));
            let is_blocked = grant.is_some_and(|grant| grant.action == Action::Block);
            space.view.block_until(if is_blocked { until_ns } else { 0 });
        }
    }

    /// How long a block holds that is not asked for again.
    fn block_ns(&self) -> u64 {
        let hands = self.config.period / HANDS_PER_PERIOD * HANDS_PER_BLOCK;
        hands.clamp(BLOCK_MIN, Duration::from_nanos(ASKED_NS_MAX)).as_nanos() as u64
    }

    /// What can be told to those who are attached: without what others use, and what absent spaces were told.
    fn supply(&self, planned: &Planned) -> Supply {
        let absent = self.absent.keys().filter_map(|id| self.kept.spaces.get(id));
        let absent_bytes = absent.map(Record::held_bytes).fold(0, u64::saturating_add);
        let most_bytes = capacity::observed_bytes(&planned.situation);
        Supply {
            dram_bytes: most_bytes.saturating_sub(absent_bytes),
            calm_bytes: planned.plan.capacity_bytes.saturating_sub(absent_bytes),
        }
    }

    fn claims(&self, ids: &[Identity], grants: &BTreeMap<SpaceId, Grant>) -> Vec<Claim> {
        let claim = |id: &Identity| {
            let (record, space) = self.space(*id)?;
            let grant = grants.get(&record.number);
            let limit_bytes = if space.view.drains() { None } else { record.intent.limit_bytes };
            Some(Claim {
                told_bytes: record.told_bytes,
                charged_bytes: space.view.charged_bytes(),
                // Who came after the plan gets what is left, and a plan of its own at once.
                target_bytes: grant.map_or(0, |grant| grant.target_bytes),
                budget_bytes: grant.map_or(0, |grant| grant.budget_bytes),
                limit_bytes: limit_bytes.unwrap_or(u64::MAX),
                shares: record.intent.shares,
            })
        };
        ids.iter().filter_map(claim).collect()
    }

    fn tell(&mut self, ids: &[Identity], told: &[u64]) {
        let now_ns = clock::now_ns();
        for (id, bytes) in ids.iter().zip(told) {
            let (Some(record), Some(space)) = (self.kept.spaces.get_mut(id), self.attached.get(id)) else { continue };
            record.told_bytes = *bytes;
            space.view.tell(*bytes, now_ns);
        }
    }

    /// What is done once a period: plan, hand out, sample, save.
    pub fn period(&mut self) {
        self.step();
        let at_ms = wall_ms();
        let samples: Vec<(Identity, wire::Sample)> =
            self.attached.keys().filter_map(|id| Some((*id, self.sample(*id, at_ms)?))).collect();
        samples.iter().for_each(|(id, sample)| self.history.push(*id, sample));
        if self.plans.is_multiple_of(FLUSH_EVERY) {
            self.flush_history();
        }
        self.save();
    }

    fn flush_history(&mut self) {
        let spaces = &self.kept.spaces;
        self.history.keep(|id| spaces.contains_key(&id));
        if let Err(error) = self.history.flush() {
            warn!(%error, "the history cannot be written");
        }
    }

    fn sample(&self, id: Identity, at_ms: u64) -> Option<wire::Sample> {
        let (record, space) = self.space(id)?;
        let seen = space.observer.observation();
        Some(wire::Sample {
            at_ms,
            target_bytes: self.grant(record.number).map_or(0, |grant| grant.target_bytes),
            charged_bytes: seen.charged_bytes,
            wanted_bytes: seen.wanted_bytes,
            active_bytes: seen.active_bytes,
            overhead_bytes: seen.overhead_bytes,
            faults_per_s: seen.faults_per_s,
            refaults_per_s: seen.refaults_per_s,
            pressure: seen.pressure,
        })
    }

    /// What a space did; nothing when it did nothing yet.
    pub(crate) fn samples(&self, id: Identity, resolution: Resolution) -> Vec<wire::Sample> {
        self.history.ring(id).map(|ring| ring.samples(resolution).collect()).unwrap_or_default()
    }

    /// Keeps what must outlive this process.
    pub fn save(&mut self) {
        if let Err(error) = self.directory.save(&self.kept) {
            warn!(%error, "the state cannot be saved");
        }
    }

    /// Keeps everything; spaces keep what they were told, and nobody waits for a node that is gone.
    pub fn stop(&mut self) {
        self.attached.values().for_each(|space| space.view.block_until(0));
        self.flush_history();
        self.save();
        self.recorder.flush();
    }
}

fn load(directory: &StateDirectory) -> io::Result<Kept> {
    match directory.load()? {
        Found::State(kept) => Ok(*kept),
        Found::Nothing => Ok(Kept { next_number: 1, ..Kept::default() }),
        Found::Unreadable(why) => {
            warn!(
                why,
                "the state of the last node cannot be read and was put aside; spaces come back with what their headers say"
            );
            // No number is given twice, not even then: numbers of before are far below.
            Ok(Kept { next_number: wall_ms(), ..Kept::default() })
        }
    }
}

/// A descriptor of the process that keeps a space, if it still is that process.
fn keeper_of(record: &Record) -> Option<Fd> {
    let keeper = process::pidfd_open(record.keeper_pid).ok()?;
    record.keeper_lives().then_some(keeper)
}

/// The user that this process is.
fn process_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").map_or(0, |about| about.uid())
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Says what a plan changed, and little when it changed nothing.
fn log(before: &Memory, made: &Plan) {
    let moved = made.grants.iter().filter(|grant| {
        before.spaces.get(&grant.id).is_none_or(|believed| believed.target_bytes != grant.target_bytes)
    });
    let moved = moved.count();
    let targets_bytes = made.grants.iter().map(|grant| grant.target_bytes).fold(0, u64::saturating_add);
    let (spaces, state, verdict) = (made.grants.len(), made.state, made.advice.verdict);
    macro_rules! say {
        ($level:ident) => {
            $level!(
                ?state,
                ?verdict,
                spaces,
                moved,
                targets_bytes,
                capacity_bytes = made.capacity_bytes,
                price = made.price,
                "plan"
            )
        };
    }
    if before.state == state {
        say!(debug)
    } else {
        say!(info)
    }
    for grant in &made.grants {
        debug!(number = grant.id.0, target_bytes = grant.target_bytes, budget_bytes = grant.budget_bytes, action = ?grant.action, reason = ?grant.reason, "grant");
    }
}
