//! One life of a Redis server: start it somewhere, put a load on it, verify every value, end it.

use crate::context::Context;
use crate::group::Group;
use crate::kv::server::{Home, Server};
use crate::ours::read_report;
use crate::peer::{Peer, Tuning};
use crate::run::Launch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A session that takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(240);

/// What is stored and what is asked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of keys.
    pub keys: u64,
    /// Bytes of a value.
    pub value: u64,
    /// Commands under way at once.
    pub pipeline: u16,
    /// As `kvload` takes them.
    pub phases: Vec<String>,
}

/// Where the server runs.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// Without limit and without memvisor.
    Plain,
    /// Under memvisor.
    Ours {
        /// The DRAM that it gets.
        dram_bytes: u64,
        /// What does not fit goes here.
        store: Option<&'a Path>,
    },
    /// In a limited group over the kernel's swap.
    Peer {
        /// The swap.
        peer: &'a Peer,
        /// The group's limit.
        limit_bytes: u64,
        /// The kernel's tuning.
        tuning: Tuning,
    },
}

/// The figures of one phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Wall time for one operation, as the client saw it.
    pub us_per_op: f64,
    /// Half of the answers came within this.
    pub p50_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
    /// CPU time of the server's whole tree for one operation; none without a control group.
    pub cpu_us_per_op: Option<f64>,
}

/// What a session showed. Every value that was read was the one that had been stored, or there would be none.
#[derive(Clone, Debug)]
pub struct Session {
    /// By the name of the phase.
    pub phases: BTreeMap<String, Figures>,
    /// Values read and compared.
    pub values_checked: u64,
    /// What the server itself says that it takes.
    pub rss_bytes: u64,
    /// Most memory that the server's control group was charged.
    pub group_bytes_max: Option<u64>,
    /// Most bytes of the kernel's compressed pool.
    pub pool_bytes_max: u64,
    /// What memvisor reported, or null.
    pub report: Value,
}

impl Plan {
    /// Bytes of all values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.keys * self.value
    }

    /// Lives one life.
    ///
    /// # Errors
    /// When the server or the load fails, or any value is not what it must be.
    pub fn live(&self, context: &Context, place: Place<'_>) -> Result<Session, String> {
        let home = Home::new()?;
        let mut launch = Launch::new(home.command(), &context.cpus);
        let mut report_path = None;
        let stage = match place {
            Place::Peer { peer, limit_bytes, tuning } => Some(peer.stage(limit_bytes, tuning)?),
            Place::Plain | Place::Ours { .. } => None,
        };
        if let Place::Ours { dram_bytes, store } = place {
            let ours = context.ours.as_ref().map_err(Clone::clone)?;
            let path = ours.report_path();
            launch.command = ours.wrap(dram_bytes, store, &path, &launch.command);
            report_path = Some(path);
        }
        let own_group = if stage.is_some() { None } else { Group::new().ok() };
        let group = stage.as_ref().map(|stage| &stage.group).or(own_group.as_ref());

        let mut server = Server::start(home, &launch, group)?;
        let mut load = self.load(context, &server)?;
        load.time_limit = TIME_LIMIT;
        let outcome = load
            .run_counting(None, || group.map_or(0.0, |group| group.cpu().as_secs_f64()))
            .map_err(|error| format!("{}{error}", server.fate().map(|fate| format!("{fate}: ")).unwrap_or_default()))?;
        let rss_bytes = server.info("used_memory_rss")?;
        server.stop()?;

        let mut phases = BTreeMap::new();
        for said in outcome.said["phases"].as_array().into_iter().flatten() {
            let name = said["name"].as_str().unwrap_or_default();
            let number = |field: &str| said[field].as_f64().unwrap_or(f64::NAN);
            let cpu_seconds = outcome.phase(name)?.cpu_seconds;
            let figures = Figures {
                us_per_op: number("us_per_op"),
                p50_us: number("p50_us"),
                p99_us: number("p99_us"),
                cpu_us_per_op: group.map(|_| cpu_seconds * 1e6 / number("ops")),
            };
            phases.insert(name.to_owned(), figures);
        }
        let group_bytes_max = group.map(Group::memory_max_bytes);
        Ok(Session {
            phases,
            values_checked: outcome.said["values_checked"].as_u64().unwrap_or(0),
            rss_bytes,
            group_bytes_max,
            pool_bytes_max: stage.as_ref().map_or(0, crate::peer::Stage::pool_bytes_max),
            report: report_path.map_or(Ok(Value::Null), |path| read_report(&path, self.bytes(), group_bytes_max))?,
        })
    }

    fn load(&self, context: &Context, server: &Server) -> Result<Launch, String> {
        let fixed = [
            ("--server", server.socket().display().to_string()),
            ("--keys", self.keys.to_string()),
            ("--value", self.value.to_string()),
            ("--pipeline", self.pipeline.to_string()),
        ];
        let words = fixed.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        context.workload("kvload", words.chain(self.phases.iter().cloned()))
    }
}

impl Session {
    /// The figures of the phase `name`.
    ///
    /// # Errors
    /// When there was none.
    pub fn figures(&self, name: &str) -> Result<Figures, String> {
        self.phases.get(name).copied().ok_or_else(|| format!("the load had no phase {name:?}"))
    }

    /// DRAM that the server needed without any limit.
    #[must_use]
    pub fn footprint_bytes(&self) -> u64 {
        self.group_bytes_max.unwrap_or(self.rss_bytes)
    }
}
