//! `memvisor stats`: all that a node says of its host and its spaces.

use super::args::StatsArgs;
use super::node::{Node, everything};
use super::ps;
use super::text::{age, class, clean, counted, host_state, percent, print, print_json, rate, space_state, verdict};
use crate::exit::Outcome;
use crate::status::Nanoseconds;
use memvisor_node::wire;
use memvisor_proto::size::Size;
use serde_json::Value;
use std::fmt::Write as _;

/// Prints it.
///
/// # Errors
/// When the node does not answer, or has no such space.
pub fn stats(args: &StatsArgs) -> Outcome {
    let node = Node::meant(&args.node)?;
    match (&args.name, args.json) {
        (Some(name), true) => print_json(&node.space::<Value>(name)?),
        (Some(name), false) => print(&of_space(&node.space(name)?)),
        (None, true) => print_json(&everything(&node)?),
        (None, false) => {
            let host = of_host(&node.host()?);
            let wire::Spaces { spaces } = node.spaces()?;
            print(&format!("{host}\n{}", ps::text(&spaces)))
        }
    }
}

fn lines(rows: &[(&str, String)]) -> String {
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<10} {value}");
        text
    })
}

fn of_host(host: &wire::Host) -> String {
    let ratio = host.ratio.map_or(String::new(), |ratio| format!(" · {ratio:.2} wanted for each byte"));
    let mut rows = vec![
        ("node", format!("{} · up {} · {} plans", clean(&host.version), age(host.uptime_ms), host.plans)),
        (
            "DRAM",
            format!(
                "{} of {} handed out · {} charged · {} free",
                Size(host.targets_bytes),
                Size(host.dram_bytes),
                Size(host.charged_bytes),
                Size(host.free_bytes)
            ),
        ),
        (
            "spaces",
            format!(
                "{} · {} wanted · {} active · {} reserved · {} not managed",
                host.spaces,
                Size(host.wanted_bytes),
                Size(host.active_bytes),
                Size(host.reserved_bytes),
                Size(host.overhead_bytes)
            ),
        ),
        ("state", format!("{} · {}{ratio}", host_state(host.state), verdict(host.verdict))),
        (
            "tax",
            format!(
                "{}{}",
                host.tax,
                host.price.map_or(String::new(), |price| format!(" · price {price:.3} shares for each MiB"))
            ),
        ),
        (
            "pressure",
            format!("some {} · full {} of ten seconds", percent(host.pressure.some), percent(host.pressure.full)),
        ),
    ];
    if host.excess_bytes > 0 || host.stalled_spaces > 0 {
        let stalled = counted(host.stalled_spaces, "space");
        rows.push(("trouble", format!("{} too much is in use · {stalled} stand still", Size(host.excess_bytes))));
    }
    for store in &host.stores {
        let free = store.free_bytes.map_or(String::new(), |bytes| format!(" · {} not promised", Size(bytes)));
        let what = format!("{}: {}{free} · {}", clean(&store.name), Size(store.capacity_bytes), clean(&store.path));
        rows.push(("store", what));
    }
    lines(&rows)
}

fn of_space(space: &wire::Space) -> String {
    let intent = &space.intent;
    let limit = intent.limit_bytes.map_or("none".into(), |bytes| Size(bytes).to_string());
    let (tiers, counters) = (&space.tiers, &space.counters);
    let mut rows = vec![
        ("space", format!("{} · number {} · {}", clean(&space.name), space.number, space_state(space))),
        ("command", clean(&space.command.join(" "))),
        (
            "processes",
            format!(
                "{} · program {} · kept by {} · user {}",
                space.members, space.program_pid, space.keeper_pid, space.uid
            ),
        ),
        (
            "intent",
            format!(
                "reservation {} · limit {limit} · {} shares · class {}",
                Size(intent.reservation_bytes),
                intent.shares,
                class(intent.class)
            ),
        ),
        (
            "DRAM",
            format!(
                "{} charged · {} granted · {} wanted · {} active · {} not managed",
                Size(space.charged_bytes),
                Size(space.target_bytes),
                Size(space.wanted_bytes),
                Size(space.active_bytes),
                Size(space.overhead_bytes)
            ),
        ),
        (
            "tiers",
            format!(
                "{} in place · {} staged · {} compressed · {} in the file · {} of tables",
                Size(tiers.dram_bytes),
                Size(tiers.staged_bytes),
                Size(tiers.ram_bytes),
                Size(tiers.log_bytes),
                Size(tiers.tables_bytes)
            ),
        ),
        (
            "rates",
            format!(
                "{} faults/s · {} refaults/s · {} evictions/s · {} of the time waited",
                rate(space.rates.faults_per_s),
                rate(space.rates.refaults_per_s),
                rate(space.rates.evictions_per_s),
                percent(space.pressure)
            ),
        ),
        (
            "faults",
            format!(
                "{} · p99 {} · max {} · {} had to wait",
                counters.faults,
                Nanoseconds(space.fault_ns_p99),
                Nanoseconds(space.fault_ns_max),
                counters.stalls
            ),
        ),
        (
            "loads",
            format!(
                "{} from compressed RAM · {} from the file · {} patterns · {} moved back · {} ahead",
                counters.ram_loads,
                counters.log_loads,
                counters.filled_loads,
                counters.parked_hits,
                counters.prefetched
            ),
        ),
    ];
    if counters.blocked_faults > 0 {
        let waited = format!("{:.1} s", counters.blocked_ns as f64 / 1e9);
        rows.push((
            "blocked",
            format!("{} faults waited {waited} in all, as the host was short of DRAM", counters.blocked_faults),
        ));
    }
    if counters.lost + counters.store_errors > 0 {
        rows.push(("trouble", format!("{} pages lost · {} store errors", counters.lost, counters.store_errors)));
    }
    lines(&rows)
}
