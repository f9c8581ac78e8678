//! Plans as texts: situations in one file, and what is expected to be planned.
//!
//! ```text
//!   host dram=1000M free=800M          what the host has; what is not named stays as it was
//!   space web shares=2000 wanted=1G    a space, new or known; keys are those of its intent and observation
//!   gone web                           it ended
//!   settings tax=0                     as in JSON
//!   obey                               all spaces hold what they want, within their budgets; free follows
//!   at 3s                              a plan is made
//!   = …                                what it has to say, line by line
//! ```
//!
//! Amounts are told in MiB. A space line says target, what is done, what bound the goal, how the target came from it, what
//! the tax took (+) or brought (−) and what became of the reservation.

use memvisor_policy::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const MIB: f64 = (1 << 20) as f64;

#[derive(Default)]
struct World {
    situation: Situation,
    names: Vec<String>,
    settings: Settings,
    memory: Memory,
}

impl World {
    /// Does what a line says; gives what it makes to say.
    fn act(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["host", ref pairs @ ..] => self.situation.host = merged(self.situation.host, pairs, "_bytes"),
            ["settings", ref pairs @ ..] => self.settings = merged(self.settings, pairs, ""),
            ["space", name, ref pairs @ ..] => self.space(name, pairs),
            ["gone", name] => {
                let id = self.id(name);
                self.situation.spaces.retain(|space| space.id != id);
            }
            ["obey"] => self.obey(),
            ["at", time] => return self.plan(time),
            _ => panic!("what is `{line}`?"),
        }
        Vec::new()
    }

    fn id(&mut self, name: &str) -> SpaceId {
        let known = self.names.iter().position(|known| known == name);
        SpaceId(known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        }) as u64)
    }

    fn space(&mut self, name: &str, pairs: &[&str]) {
        let id = self.id(name);
        let spaces = &mut self.situation.spaces;
        let at = spaces.iter().position(|space| space.id == id).unwrap_or_else(|| {
            spaces.push(Space { id, intent: Intent::default(), observation: Observation::default() });
            spaces.len() - 1
        });
        let of_intent =
            |pair: &&str| ["reservation", "limit", "shares", "class"].iter().any(|key| pair.starts_with(key));
        let (intent, observation): (Vec<&str>, Vec<&str>) = pairs.iter().partition(|pair| of_intent(pair));
        spaces[at].intent = merged(spaces[at].intent, &intent, "_bytes");
        spaces[at].observation = merged(spaces[at].observation, &observation, "_bytes");
    }

    fn obey(&mut self) {
        let held = |spaces: &[Space]| -> u64 { spaces.iter().map(|space| space.observation.charged_bytes).sum() };
        let before = held(&self.situation.spaces);
        for space in &mut self.situation.spaces {
            let target = self.memory.spaces.get(&space.id).map_or(0, |believed| believed.target_bytes);
            space.observation.charged_bytes = space.observation.wanted_bytes.min(target);
        }
        self.situation.host.free_bytes = self.situation.host.free_bytes + before - held(&self.situation.spaces);
    }

    fn plan(&mut self, time: &str) -> Vec<String> {
        let seconds: f64 = time.strip_suffix('s').and_then(|number| number.parse().ok()).expect("a time like 3s");
        self.situation.now_ns = (seconds * 1e9) as u64;
        let (plan, memory) = plan(&self.situation, &self.settings, &self.memory);
        self.memory = memory;
        let mut lines = vec![host_line(&plan)];
        lines.extend(plan.grants.iter().map(|grant| self.space_line(grant)));
        lines
    }

    fn space_line(&self, grant: &Grant) -> String {
        let reason = &grant.reason;
        let mut line = format!(
            "{} {:.1} {} by {}, {}",
            self.names[grant.id.0 as usize],
            grant.target_bytes as f64 / MIB,
            word(grant.action),
            word(reason.bound),
            word(reason.step),
        );
        if reason.tax_bytes().abs() > 1 << 10 {
            write!(line, ", tax {:+.1}", reason.tax_bytes() as f64 / MIB).unwrap();
        }
        match reason.promise {
            Promise::None => {}
            Promise::Kept(bytes) => write!(line, ", kept {:.1}", bytes as f64 / MIB).unwrap(),
            Promise::Cut { reserved_bytes, kept_bytes } => {
                let (kept, reserved) = (kept_bytes as f64 / MIB, reserved_bytes as f64 / MIB);
                write!(line, ", kept only {kept:.1} of {reserved:.1}").unwrap();
            }
        }
        line
    }
}

fn host_line(plan: &Plan) -> String {
    let price = plan.price.map_or("none".to_owned(), |price| format!("{price:.3}"));
    let ratio = plan.advice.ratio.map_or("none".to_owned(), |ratio| format!("{ratio:.2}"));
    let mut line = format!(
        "{}: {:.1} at price {price}; ratio {ratio} {}",
        word(plan.state),
        plan.capacity_bytes as f64 / MIB,
        word(plan.advice.verdict)
    );
    if plan.advice.excess_bytes > 0 {
        write!(line, " by {:.1}", plan.advice.excess_bytes as f64 / MIB).unwrap();
    }
    line
}

/// The word that JSON has for an enum.
fn word(value: impl serde::Serialize) -> String {
    json!(value).as_str().expect("an enum without data").to_owned()
}

/// `value` with the fields that `pairs` of `key=value` name.
fn merged<T: serde::Serialize + serde::de::DeserializeOwned>(value: T, pairs: &[&str], unit: &str) -> T {
    let Value::Object(mut fields) = json!(value) else { panic!("a struct has fields") };
    for pair in pairs {
        let (key, value) = pair.split_once('=').unwrap_or_else(|| panic!("`{pair}` is not key=value"));
        fields.insert(key_of(&fields, key, unit), scalar(value));
    }
    serde_json::from_value(Value::Object(fields)).unwrap_or_else(|error| panic!("{pairs:?}: {error}"))
}

/// The name of a field, which may be written without its unit.
fn key_of(fields: &Map<String, Value>, key: &str, unit: &str) -> String {
    let long = format!("{key}{unit}");
    if fields.contains_key(&long) { long } else { key.to_owned() }
}

fn scalar(value: &str) -> Value {
    let sizes = [("K", 1u64 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    let size = sizes.iter().find_map(|(letter, size)| Some(value.strip_suffix(letter)?.parse::<u64>().ok()? * size));
    size.map(Value::from).unwrap_or_else(|| serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)))
}

/// The script as it would have to be for the test to pass.
fn played(script: &str) -> String {
    let mut world = World::default();
    let mut text = String::new();
    for line in script.lines().filter(|line| !line.starts_with('=')) {
        writeln!(text, "{line}").unwrap();
        let said = if line.trim().is_empty() || line.starts_with('#') { Vec::new() } else { world.act(line) };
        said.iter().for_each(|said| writeln!(text, "= {said}").unwrap());
    }
    text
}

#[test]
fn each_script_is_planned_as_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        scripts.insert(path.file_name().unwrap().to_owned(), std::fs::read_to_string(path).unwrap());
    }
    assert!(!scripts.is_empty(), "there are no scripts");
    let wrong: Vec<_> = scripts.iter().filter(|(_, script)| played(script) != **script).collect();
    for (name, script) in &wrong {
        println!("{} should be:\n\n{}", name.display(), played(script));
    }
    assert!(wrong.is_empty(), "{} of {} scripts", wrong.len(), scripts.len());
}
