//! A node is no part of anybody's way to memory: it is killed, stopped and exchanged under ten spaces that work.

use super::host::{Host, Settings};
use super::tenant::{Tenant, Terms};
use super::watch::Watch;
use super::words::{Faults, Words};
use super::{Finding, Lab, mib};
use crate::plot::lines::Panel;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const HOST_MIB: u64 = 400;
const SPACES: usize = 10;
const SET_MIB: u64 = 64;
/// All of the set, so that a third of the touches are faults; few enough that two CPUs do not decide how long one takes.
const LOAD: &str = "busy 1000 400";
/// How soon all are to be attached again, from when the node was started.
const AGAIN: Duration = Duration::from_secs(1);
/// How much longer 99 of 100 faults may take while there is no node: twice, which is what such a time varies by on a machine
/// that does other things too. One that waited for the node would take a thousand times as long.
const P99_TIMES: f64 = 2.0;
/// No fault takes so long, node or not, unless it waits for somebody.
const MAX_NS: u64 = 1_000_000_000;
/// How far a target may be from what it was before.
const TARGET_OFF: f64 = 0.10;

/// Faults of all spaces in one span of time.
struct Span {
    name: &'static str,
    faults: Faults,
    ops_per_s: f64,
    again: Option<Duration>,
}

struct Load {
    host: Host,
    tenants: Vec<Tenant>,
    words: Vec<Words>,
    spans: Vec<Span>,
}

/// What a node knows of a space that must outlive it.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    number: u64,
    target_bytes: f64,
    first_ms: u64,
}

/// Makes it.
///
/// # Errors
/// When it cannot be made, and when a byte was lost.
pub(super) fn run(lab: &Lab) -> Result<Finding, String> {
    must_differ(&lab.memvisor, &lab.other_build)?;
    let host = Host::start(lab, "node-kill", Settings::new(HOST_MIB))?;
    let mut tenants = Vec::new();
    for at in 0..SPACES {
        let mut tenant = Tenant::start(lab, &host, &format!("space-{at}"), &Terms::set(SET_MIB))?;
        tenant.tell(LOAD)?;
        tenants.push(tenant);
    }
    let words = || tenants.iter().map(Tenant::words).collect::<Result<Vec<_>, _>>();
    let names = tenants.iter().map(|tenant| tenant.name.clone());
    let began = Instant::now();
    let watch = Watch::start(host.dram_bytes(), names.zip(words()?).collect());
    let mut load = Load { host, words: words()?, tenants, spans: Vec::new() };
    std::thread::sleep(lab.seconds(20, 10));
    let calm = lab.seconds(20, 8);
    load.span("before", |_| wait(calm))?;
    let before = load.known()?;
    load.host.kill()?;
    load.span("killed", |_| wait(lab.seconds(20, 6)))?;
    let killed = load.again(&lab.memvisor, &before)?;
    load.span("back", |_| wait(calm))?;
    load.span("hangs", |host| host.hang(lab.seconds(60, 6)))?;
    load.span("goes on", |_| wait(calm))?;
    let changing = load.known()?;
    load.host.end()?;
    load.span("exchanged", |_| wait(Duration::from_secs(2)))?;
    let exchanged = load.again(&lab.other_build, &changing)?;
    load.span("after", |_| wait(calm))?;
    let watched = watch.finish()?;

    let mut panel = Panel::new("touches each second");
    for tenant in load.tenants.iter().take(4) {
        panel = panel.with(&tenant.name, tenant.ops_line(began));
    }
    let mut verified = 0;
    for tenant in std::mem::take(&mut load.tenants) {
        verified += tenant.verify(&load.host)?;
    }
    let mut finding = judge(&load.spans, &[killed, exchanged], verified);
    finding.panels.push(panel);
    Ok(finding.watched(&watched))
}

/// An exchange for the same build would show nothing.
fn must_differ(build: &Path, other: &Path) -> Result<(), String> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| format!("cannot read {}: {error} (build it: cargo build -p memvisor-cli)", path.display()))
    };
    if read(build)? == read(other)? {
        return Err(format!("{} is the build that is exchanged itself", other.display()));
    }
    Ok(())
}

fn wait(time: Duration) -> Result<(), String> {
    std::thread::sleep(time);
    Ok(())
}

/// How spaces came back.
struct Return {
    after: Option<Duration>,
    /// What is not as it was, in words.
    wrong: Vec<String>,
}

impl Load {
    fn span(&mut self, name: &'static str, deed: impl FnOnce(&Host) -> Result<(), String>) -> Result<(), String> {
        let (from, then) = (Instant::now(), self.faults()?);
        deed(&self.host)?;
        let (to, now) = (Instant::now(), self.faults()?);
        let ops_per_s = self.tenants.iter().map(|tenant| tenant.ops_per_s(from, to)).sum();
        self.spans.push(Span { name, faults: now.since(&then), ops_per_s, again: None });
        Ok(())
    }

    fn faults(&self) -> Result<Faults, String> {
        let all = self.words.iter().map(Words::faults).collect::<Result<Vec<_>, _>>()?;
        Ok(all.iter().fold(Faults::NONE, Faults::plus))
    }

    fn known(&self) -> Result<BTreeMap<String, Known>, String> {
        known(&self.host)
    }

    /// Starts the node at `path`, and waits for all to attach.
    fn again(&mut self, path: &Path, before: &BTreeMap<String, Known>) -> Result<Return, String> {
        let started = Instant::now();
        self.host.start_again(path)?;
        let after = loop {
            let attached = self.host.get("/v1/spaces")?["spaces"].as_array().map_or(0, Vec::len);
            match started.elapsed() {
                elapsed if attached == SPACES => break Some(elapsed),
                elapsed if elapsed > 10 * AGAIN => break None,
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let now = self.known()?;
        if let Some(span) = self.spans.last_mut() {
            span.again = after;
        }
        Ok(Return { after, wrong: differences(before, &now) })
    }
}

fn known(host: &Host) -> Result<BTreeMap<String, Known>, String> {
    let spaces = host.get("/v1/spaces")?;
    let mut all = BTreeMap::new();
    for space in spaces["spaces"].as_array().into_iter().flatten() {
        let name = space["name"].as_str().unwrap_or_default().to_owned();
        let history = host.get(&format!("/v1/spaces/{name}/history?resolution=fine"))?;
        let first_ms = history["samples"].as_array().and_then(|samples| samples.first()?["at_ms"].as_u64());
        let known = Known {
            number: space["number"].as_u64().unwrap_or(0),
            target_bytes: space["target_bytes"].as_f64().unwrap_or(0.0),
            first_ms: first_ms.unwrap_or(u64::MAX),
        };
        all.insert(name, known);
    }
    Ok(all)
}

/// What a node that came back does not know as the one before did.
fn differences(before: &BTreeMap<String, Known>, now: &BTreeMap<String, Known>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, then) in before {
        match now.get(name) {
            None => wrong.push(format!("{name} is not there by its name")),
            Some(now) if now.number != then.number => wrong.push(format!("{name} has another number")),
            Some(now) if (now.target_bytes / then.target_bytes.max(1.0) - 1.0).abs() > TARGET_OFF => {
                wrong.push(format!(
                    "the target of {name} was {} and is {}",
                    mib(then.target_bytes as u64),
                    mib(now.target_bytes as u64)
                ));
            }
            // It may begin later by what was overwritten meanwhile, never as late as the new node.
            Some(now) if now.first_ms > then.first_ms.saturating_add(10_000) => {
                wrong.push(format!("the history of {name} begins anew"));
            }
            Some(_) => {}
        }
    }
    wrong
}

fn judge(spans: &[Span], returns: &[Return], verified: u64) -> Finding {
    let p99 = |span: &Span| span.faults.quantile_ns(0.99) as f64;
    let before = spans.first().map_or(1.0, p99).max(1.0);
    let without: Vec<&Span> =
        spans.iter().filter(|span| ["killed", "hangs", "exchanged"].contains(&span.name)).collect();
    let times = without.iter().map(|span| p99(span) / before).fold(0.0, f64::max);
    let max_ns = without.iter().map(|span| span.faults.max_ns()).max().unwrap_or(0);
    let again = returns.iter().map(|back| back.after).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
    let wrong: Vec<&String> = returns.iter().flat_map(|back| &back.wrong).collect();
    let row = |span: &Span| {
        vec![
            span.name.to_owned(),
            span.faults.count().to_string(),
            format!("{:.0}", span.faults.quantile_ns(0.5) as f64 / 1e3),
            format!("{:.0}", p99(span) / 1e3),
            format!("{:.1}", span.faults.max_ns() as f64 / 1e6),
            format!("{:.0}", span.ops_per_s),
            span.again.map_or(String::new(), |again| format!("{} ms", again.as_millis())),
        ]
    };
    let figures: Vec<Value> = spans
        .iter()
        .map(|span| json!({"span": span.name, "faults": span.faults.count(), "p99_ns": p99(span), "max_ns": span.faults.max_ns()}))
        .collect();
    let known =
        if wrong.is_empty() { "with names, numbers, targets and history".to_owned() } else { format!("BUT {wrong:?}") };
    Finding {
        columns: ["span", "faults", "p50 µs", "p99 µs", "max ms", "touches/s", "attached after"]
            .map(String::from)
            .to_vec(),
        rows: spans.iter().map(row).collect(),
        panels: vec![],
        figures: json!({"spans": figures, "p99_times": times, "max_ns": max_ns, "verified_pages": verified, "wrong": wrong}),
        sentence: format!(
            "without a node 99 of 100 faults take {times:.2} of what they took before and none longer than {:.0} ms; {SPACES} spaces \
             are back {} {known}; {verified} pages were verified",
            max_ns as f64 / 1e6,
            again.map_or("never".to_owned(), |again| format!("within {} ms", again.as_millis())),
        ),
        holds: times <= P99_TIMES && max_ns < MAX_NS && again.is_some_and(|again| again <= AGAIN) && wrong.is_empty(),
    }
}
