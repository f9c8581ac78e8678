//! A node is no part of anybody's way to memory: it is killed, stopped and exchanged under ten spaces that work.

mod delay;

use super::host::{Host, Settings};
use super::tenant::{Tenant, Terms};
use super::words::{Faults, Words};
use super::{Finding, Lab, mib};
use crate::plot::lines::Panel;
use delay::{Delay, Mark, Span};
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
/// How long there is no node when it is exchanged.
const EXCHANGE: Duration = Duration::from_secs(2);
/// How far a target may be from what it was before.
const TARGET_OFF: f64 = 0.10;

struct Load {
    host: Host,
    tenants: Vec<Tenant>,
    words: Vec<Words>,
    marks: Vec<Mark>,
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
    let words = tenants.iter().map(Tenant::words).collect::<Result<Vec<_>, _>>()?;
    let mut load = Load { host, words, tenants, marks: Vec::new() };
    std::thread::sleep(lab.seconds(20, 10));
    let calm = lab.seconds(20, 8);
    load.mark("before")?;
    std::thread::sleep(calm);
    let before = load.known()?;
    load.mark("killed")?;
    load.host.kill()?;
    std::thread::sleep(lab.seconds(20, 6));
    let killed = load.again("killed", &lab.memvisor, &before)?;
    load.mark("back")?;
    std::thread::sleep(calm);
    load.mark("hangs")?;
    load.host.hang(lab.seconds(60, 6))?;
    load.mark("goes on")?;
    std::thread::sleep(calm);
    let changing = load.known()?;
    load.mark("exchanged")?;
    load.host.end()?;
    std::thread::sleep(EXCHANGE);
    let exchanged = load.again("exchanged", &lab.other_build, &changing)?;
    load.mark("after")?;
    std::thread::sleep(calm);
    load.mark("end")?;

    let mut panel = Panel::new("touches each second");
    for tenant in load.tenants.iter().take(4) {
        panel = panel.with(&tenant.name, tenant.ops_line(load.host.watch().began()));
    }
    let mut verified = 0;
    for tenant in std::mem::take(&mut load.tenants) {
        verified += tenant.verify(&load.host)?;
    }
    let watched = load.host.watched()?;
    let mut finding = judge(&delay::spans(&load.marks), &[killed, exchanged], verified);
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

/// How spaces came back.
struct Return {
    /// The span in which they did.
    span: &'static str,
    after: Option<Duration>,
    /// What is not as it was, in words.
    wrong: Vec<String>,
}

impl Load {
    /// Ends the span before, if there is one, and begins the span `name`.
    fn mark(&mut self, name: &'static str) -> Result<(), String> {
        let touches = self.tenants.iter().map(Tenant::touches).collect();
        self.marks.push(Mark { name, at: Instant::now(), faults: self.faults()?, touches });
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
    fn again(&mut self, span: &'static str, path: &Path, before: &BTreeMap<String, Known>) -> Result<Return, String> {
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
        Ok(Return { span, after, wrong: differences(before, &now) })
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
    let delay = Delay::of(spans);
    let again = returns.iter().map(|back| back.after).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
    let wrong: Vec<&String> = returns.iter().flat_map(|back| &back.wrong).collect();
    let known =
        if wrong.is_empty() { "with names, numbers, targets and history".to_owned() } else { format!("BUT {wrong:?}") };
    let delayed = delay.map_or("nothing can be said of delays".to_owned(), |delay| {
        format!(
            "from each kill, stop and end until long after the node is back 99 of 100 faults take {:.2} of what they took before, \
             none longer than {:.0} ms, and no space makes less than {:.2} of its touches ({} at least)",
            delay.p99_times,
            delay.max_ns as f64 / 1e6,
            delay.touches_part,
            delay::TOUCHES_PART
        )
    });
    Finding {
        columns: ["span", "faults", "p50 µs", "p99 µs", "max ms", "touches/s", "least part", "attached after"]
            .map(String::from)
            .to_vec(),
        rows: spans.iter().map(|span| row(span, &spans[0], returns)).collect(),
        panels: vec![],
        figures: json!({
            "spans": spans.iter().map(|span| figures(span, &spans[0])).collect::<Vec<_>>(),
            "p99_times": delay.map(|delay| delay.p99_times), "max_ns": delay.map(|delay| delay.max_ns),
            "touches_part": delay.map(|delay| delay.touches_part), "verified_pages": verified, "wrong": wrong,
        }),
        sentence: format!(
            "{delayed}; {SPACES} spaces are back {} {known}; {verified} pages were verified",
            again.map_or("never".to_owned(), |again| format!("within {} ms", again.as_millis())),
        ),
        holds: delay.is_some_and(|delay| delay.is_none())
            && again.is_some_and(|again| again <= AGAIN)
            && wrong.is_empty(),
    }
}

fn row(span: &Span, before: &Span, returns: &[Return]) -> Vec<String> {
    let again = returns.iter().find(|back| back.span == span.name).and_then(|back| back.after);
    vec![
        span.name.to_owned(),
        span.faults.count().to_string(),
        format!("{:.0}", span.faults.quantile_ns(0.5) as f64 / 1e3),
        format!("{:.0}", span.p99_ns() / 1e3),
        format!("{:.1}", span.faults.max_ns() as f64 / 1e6),
        format!("{:.0}", span.touches_per_s.iter().sum::<f64>()),
        format!("{:.2}", span.touches_part(before)),
        again.map_or(String::new(), |again| format!("{} ms", again.as_millis())),
    ]
}

fn figures(span: &Span, before: &Span) -> Value {
    json!({
        "span": span.name, "faults": span.faults.count(), "p99_ns": span.p99_ns(), "max_ns": span.faults.max_ns(),
        "touches_per_s": span.touches_per_s, "touches_part": span.touches_part(before),
    })
}
