//! Plans that a node has recorded, made again: the policy is a pure function, so the same comes out, or it was changed.
//!
//! A record is a text of one JSON object a line: `situation`, `settings`, `memory` and `plan`, as `memvisor_policy` writes them.

use memvisor_policy::{Memory, Plan, Settings, Situation, plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A line of a record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What was.
    pub situation: Situation,
    /// What was turned.
    pub settings: Settings,
    /// What the plan before left.
    pub memory: Memory,
    /// What was to be done.
    pub plan: Plan,
}

/// Why a line of a record does not hold.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mismatch {
    /// It cannot be read.
    Unreadable {
        /// The line, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// Another plan comes out.
    Different {
        /// The line, from 1.
        line: usize,
        /// When the situation was observed, in nanoseconds.
        now_ns: u64,
        /// Where in the plan the first difference is.
        path: String,
        /// What was recorded there.
        recorded: String,
        /// What is planned there.
        planned: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { line, reason } => write!(f, "line {line} is no recorded plan: {reason}"),
            Self::Different { line, now_ns, path, recorded, planned } => write!(
                f,
                "line {line}, the plan of {now_ns} ns, differs at {path}\n  recorded  {recorded}\n  planned   {planned}"
            ),
        }
    }
}

impl std::error::Error for Mismatch {}

/// Makes the plan of one line again; `number` is that of the line, from 1.
///
/// # Errors
/// When the line cannot be read, or another plan comes out: the first difference.
pub fn again(number: usize, line: &str) -> Result<(), Mismatch> {
    let unreadable = |error: serde_json::Error| Mismatch::Unreadable { line: number, reason: error.to_string() };
    let entry: Entry = serde_json::from_str(line).map_err(unreadable)?;
    let planned = plan(&entry.situation, &entry.settings, &entry.memory).0;
    if planned == entry.plan {
        return Ok(());
    }
    let value = |plan: &Plan| serde_json::to_value(plan).map_err(unreadable);
    let (path, recorded, planned) = difference("plan".into(), &value(&entry.plan)?, &value(&planned)?)
        .unwrap_or_else(|| ("plan".into(), "not comparable".into(), "not comparable".into()));
    Err(Mismatch::Different { line: number, now_ns: entry.situation.now_ns, path, recorded, planned })
}

/// The first difference of two values: where it is, and both sides.
fn difference(path: String, recorded: &Value, planned: &Value) -> Option<(String, String, String)> {
    match (recorded, planned) {
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => a
            .iter()
            .find_map(|(key, value)| difference(format!("{path}.{key}"), value, b.get(key).unwrap_or(&Value::Null))),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(at, (a, b))| difference(format!("{path}[{at}]"), a, b))
        }
        (a, b) => (a != b).then(|| (path, a.to_string(), b.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_policy::{Host, Intent, Observation, Space, SpaceId};

    fn line() -> String {
        let observation = Observation { charged_bytes: 1 << 30, wanted_bytes: 3 << 30, ..Observation::default() };
        let space = |id| Space { id: SpaceId(id), intent: Intent::default(), observation };
        let host = Host { dram_bytes: 4 << 30, free_bytes: 1 << 28 };
        let situation = Situation { now_ns: 7, host, spaces: vec![space(1), space(2)] };
        let (settings, memory) = (Settings::default(), Memory::default());
        let plan = plan(&situation, &settings, &memory).0;
        serde_json::to_string(&Entry { situation, settings, memory, plan }).unwrap()
    }

    #[test]
    fn a_recorded_plan_comes_out_again() {
        assert_eq!(again(1, &line()), Ok(()));
    }

    #[test]
    fn a_changed_byte_of_the_plan_is_found_where_it_is() {
        let mut entry: Entry = serde_json::from_str(&line()).unwrap();
        entry.plan.grants[1].target_bytes += 1;
        let target = entry.plan.grants[1].target_bytes;
        let found = again(3, &serde_json::to_string(&entry).unwrap()).unwrap_err();
        let text = found.to_string();
        assert!(text.starts_with("line 3, the plan of 7 ns, differs at plan.grants[1].target_bytes\n"), "{text}");
        assert!(text.contains(&format!("recorded  {target}")) && text.contains(&format!("planned   {}", target - 1)));
    }

    #[test]
    fn a_changed_byte_of_what_the_plan_was_made_from_is_found() {
        let changed = line().replacen("\"shares\":1000", "\"shares\":2000", 1);
        assert!(matches!(again(1, &changed), Err(Mismatch::Different { .. })));
    }

    #[test]
    fn a_line_that_was_cut_off_is_said_to_be_unreadable() {
        let line = line();
        let found = again(9, &line[..line.len() / 2]).unwrap_err();
        assert!(matches!(found, Mismatch::Unreadable { line: 9, .. }), "{found}");
    }
}
