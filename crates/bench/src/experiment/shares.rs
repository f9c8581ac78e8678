//! Shares (§5.1 of the paper): who has twice the shares has twice the memory, when both use all they get.

use super::host::{Host, Settings};
use super::tenant::{Tenant, Terms};
use super::{Finding, Lab, median, mib};
use crate::plot::lines::Panel;
use serde_json::json;
use std::time::Instant;

const HOST_MIB: u64 = 300;
const SET_MIB: u64 = 256;
/// How far the ratio may be from that of the shares.
const OFF: f64 = 0.10;

/// Makes it.
///
/// # Errors
/// When it cannot be made.
pub(super) fn run(lab: &Lab) -> Result<Finding, String> {
    let mut host = Host::start(lab, "shares", Settings::new(HOST_MIB))?;
    let shares = [("two", 2000), ("one", 1000)];
    let mut tenants = Vec::new();
    for (name, shares) in shares {
        let mut tenant = Tenant::start(lab, &host, name, &Terms { shares: Some(shares), ..Terms::set(SET_MIB) })?;
        tenant.tell("busy 1000")?;
        tenants.push(tenant);
    }
    std::thread::sleep(lab.seconds(40, 20));
    let from = Instant::now();
    std::thread::sleep(lab.seconds(30, 10));
    let to = Instant::now();
    let rates: Vec<f64> = tenants.iter().map(|tenant| tenant.ops_per_s(from, to)).collect();
    let mut panel = Panel::new("touches each second");
    for tenant in &tenants {
        panel = panel.with(&tenant.name, tenant.ops_line(host.watch().began()));
    }
    for tenant in tenants {
        tenant.verify(&host)?;
    }
    let watched = host.watched()?;
    let charged = |at| median(watched.between(at, from, to).map(|amounts| amounts.charged as f64));
    let told = |at| median(watched.between(at, from, to).map(|amounts| amounts.told as f64));
    let (two, one) = (charged(0), charged(1));
    let ratio = two / one.max(1.0);
    let row = |at: usize| {
        vec![
            shares[at].0.to_owned(),
            shares[at].1.to_string(),
            mib(told(at) as u64),
            mib(charged(at) as u64),
            format!("{:.0}", rates[at]),
        ]
    };
    let finding = Finding {
        columns: ["space", "shares", "told", "charged", "touches/s"].map(String::from).to_vec(),
        rows: (0..2).map(row).collect(),
        panels: vec![panel],
        figures: json!({"ratio": ratio, "charged_bytes": [two, one]}),
        sentence: format!(
            "shares of 2:1 give {} and {}, which is {ratio:.2}:1 (within {:.0} % is claimed)",
            mib(two as u64),
            mib(one as u64),
            OFF * 100.0
        ),
        holds: (ratio / 2.0 - 1.0).abs() <= OFF,
    };
    Ok(finding.watched(&watched))
}
