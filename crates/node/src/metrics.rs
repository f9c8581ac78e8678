//! Metrics for Prometheus, in its text format: those of the host, and those of each space under its name.
//!
//! Made anew for each question from what the API shows, so that both say the same. (`prometheus-client` speaks OpenMetrics,
//! whose counters have another name in their description than in their samples; the checker of Prometheus rejects that.)

use crate::wire::{Host, Space, State};
use std::fmt::Write as _;

/// What a metric does over time.
#[derive(Clone, Copy)]
enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows.
    Counter,
}

/// The text for a host and its spaces.
pub fn text(host: &Host, spaces: &[Space]) -> String {
    let mut text = Text(String::new());
    text.host(host);
    text.spaces(spaces);
    text.0
}

struct Text(String);

impl Text {
    fn describe(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.describe(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn host(&mut self, host: &Host) {
        use Kind::{Counter, Gauge};
        let state = match host.state {
            State::High => 0.0,
            State::Soft => 1.0,
            State::Hard => 2.0,
            State::Low => 3.0,
        };
        for (name, kind, help, value) in [
            ("memvisor_host_dram_bytes", Gauge, "DRAM that the node hands out.", host.dram_bytes as f64),
            ("memvisor_host_free_bytes", Gauge, "DRAM that could be given out at once.", host.free_bytes as f64),
            ("memvisor_host_charged_bytes", Gauge, "DRAM charged to all spaces.", host.charged_bytes as f64),
            (
                "memvisor_host_overhead_bytes",
                Gauge,
                "Memory of their programs that is not managed.",
                host.overhead_bytes as f64,
            ),
            ("memvisor_host_wanted_bytes", Gauge, "What all spaces want.", host.wanted_bytes as f64),
            ("memvisor_host_active_bytes", Gauge, "What all spaces use.", host.active_bytes as f64),
            ("memvisor_host_targets_bytes", Gauge, "The sum of all targets.", host.targets_bytes as f64),
            ("memvisor_host_reserved_bytes", Gauge, "The sum of all reservations.", host.reserved_bytes as f64),
            (
                "memvisor_host_excess_bytes",
                Gauge,
                "What is used and reserved beyond what there is.",
                host.excess_bytes as f64,
            ),
            ("memvisor_host_state", Gauge, "How short of DRAM the host is: 0 high, 1 soft, 2 hard, 3 low.", state),
            (
                "memvisor_host_pressure_some_ratio",
                Gauge,
                "Part of the time in which some task waited for memory.",
                host.pressure.some,
            ),
            (
                "memvisor_host_pressure_full_ratio",
                Gauge,
                "Part of the time in which all tasks waited for memory.",
                host.pressure.full,
            ),
            ("memvisor_host_spaces", Gauge, "Spaces that are attached.", host.spaces as f64),
            (
                "memvisor_host_stalled_spaces",
                Gauge,
                "Spaces that stand still for want of memory.",
                host.stalled_spaces as f64,
            ),
            ("memvisor_node_plans_total", Counter, "Plans made.", host.plans as f64),
            ("memvisor_node_uptime_seconds", Gauge, "Time since the node started.", host.uptime_ms as f64 / 1000.0),
        ] {
            self.one(name, kind, help, value);
        }
    }

    fn spaces(&mut self, spaces: &[Space]) {
        use Kind::{Counter, Gauge};
        type Of = fn(&Space) -> f64;
        let metrics: [(&str, Kind, &str, Of); 19] = [
            ("memvisor_space_target_bytes", Gauge, "DRAM granted by the plan.", |s| s.target_bytes as f64),
            ("memvisor_space_budget_bytes", Gauge, "What the pager is told.", |s| s.budget_bytes as f64),
            ("memvisor_space_charged_bytes", Gauge, "DRAM charged.", |s| s.charged_bytes as f64),
            ("memvisor_space_wanted_bytes", Gauge, "What it would be charged for if DRAM were free.", |s| {
                s.wanted_bytes as f64
            }),
            ("memvisor_space_active_bytes", Gauge, "What it uses.", |s| s.active_bytes as f64),
            ("memvisor_space_overhead_bytes", Gauge, "Memory that is not managed.", |s| s.overhead_bytes as f64),
            ("memvisor_space_reservation_bytes", Gauge, "DRAM promised.", |s| s.intent.reservation_bytes as f64),
            ("memvisor_space_shares", Gauge, "Weight.", |s| f64::from(s.intent.shares)),
            ("memvisor_space_members", Gauge, "Processes.", |s| s.members as f64),
            ("memvisor_space_pressure_ratio", Gauge, "Part of the time in which it waited for memory.", |s| s.pressure),
            ("memvisor_space_watched_pages", Gauge, "Pages whose uses are followed for the curve.", |s| {
                s.watched_pages as f64
            }),
            (
                "memvisor_space_rechecks_total",
                Counter,
                "Pages hidden only to see when they are used again: what the curve costs.",
                |s| s.counters.rechecks as f64,
            ),
            ("memvisor_space_faults_total", Counter, "Faults served.", |s| s.counters.faults as f64),
            ("memvisor_space_evictions_total", Counter, "Pages moved out.", |s| s.counters.evictions as f64),
            ("memvisor_space_stalls_total", Counter, "Faults that waited for a frame.", |s| s.counters.stalls as f64),
            ("memvisor_space_lost_total", Counter, "Pages that could not be brought back true.", |s| {
                s.counters.lost as f64
            }),
            ("memvisor_space_store_errors_total", Counter, "Errors that stores gave.", |s| {
                s.counters.store_errors as f64
            }),
            (
                "memvisor_space_blocked_faults_total",
                Counter,
                "Faults that waited because the space was blocked.",
                |s| s.counters.blocked_faults as f64,
            ),
            ("memvisor_space_blocked_seconds_total", Counter, "The time that they waited.", |s| {
                s.counters.blocked_ns as f64 / 1e9
            }),
        ];
        for (name, kind, help, value) in metrics {
            self.describe(name, kind, help);
            for space in spaces {
                let _ = writeln!(self.0, "{name}{{space=\"{}\"}} {}", space.name, value(space));
            }
        }
        self.tiers(spaces);
        self.loads(spaces);
    }

    fn tiers(&mut self, spaces: &[Space]) {
        let name = "memvisor_space_tier_bytes";
        self.describe(name, Kind::Gauge, "Where its memory lies.");
        for space in spaces {
            let tiers = &space.tiers;
            for (tier, bytes) in [
                ("dram", tiers.dram_bytes),
                ("staged", tiers.staged_bytes),
                ("ram", tiers.ram_bytes),
                ("tables", tiers.tables_bytes),
                ("log", tiers.log_bytes),
            ] {
                let _ = writeln!(self.0, "{name}{{space=\"{}\",tier=\"{tier}\"}} {bytes}", space.name);
            }
        }
    }

    fn loads(&mut self, spaces: &[Space]) {
        let name = "memvisor_space_loads_total";
        self.describe(name, Kind::Counter, "Pages brought back, by where from.");
        for space in spaces {
            let counters = &space.counters;
            for (from, loads) in [
                ("parked", counters.parked_hits),
                ("ram", counters.ram_loads),
                ("log", counters.log_loads),
                ("pattern", counters.filled_loads),
            ] {
                let _ = writeln!(self.0, "{name}{{space=\"{}\",from=\"{from}\"}} {loads}", space.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_a_description_and_its_space() {
        let spaces = ["a", "b"].map(|name| Space { name: name.into(), ..Space::default() });
        let text = text(&Host::default(), &spaces);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} ")), "{line}");
            assert!(
                name.starts_with("memvisor_host") || name.starts_with("memvisor_node") || line.contains("{space=\"")
            );
        }
        assert!(text.contains("memvisor_space_loads_total{space=\"b\",from=\"log\"} 0\n"));
    }
}
