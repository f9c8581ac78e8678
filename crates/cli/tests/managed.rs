//! Programs in a space, when the library was built beside the command. What they compute is checked elsewhere, with
//! real programs; here it is the command's part: the environment, the store, the report.

mod common;

use common::host::until;
use common::{Directory, Talking, have, memvisor, said, shim};
use serde_json::Value;
use std::process::Stdio;

/// Arguments of the built-in program: it touches 96 MiB at random and checks what it finds.
const TOUCH: [&str; 5] = ["bench-touch", "--size", "96M", "--touches", "20000"];

fn report(path: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_program_larger_than_its_dram_ends_well_and_the_report_says_how() {
    if shim().is_none() {
        return;
    }
    let directory = Directory::new("managed");
    let path = directory.file("r.json");
    let mut command = memvisor(["run", "--strict", "--quiet", "--dram", "48M", "--name", "toucher", "--store"]);
    command.arg(&directory.0).arg("--report").arg(&path);
    let run = said(command.arg("--").arg(env!("CARGO_BIN_EXE_memvisor")).args(TOUCH));
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    let touched: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((touched["touches"].as_u64(), touched["wrong"].as_u64()), (Some(20000), Some(0)));
    let report = report(&path);
    assert_eq!((&report["space"], &report["managed"]), (&"toucher".into(), &true.into()));
    assert_eq!(report["space_id"].as_str().map(str::len), Some(32));
    assert_eq!((&report["members"], &report["lost"]), (&1.into(), &0.into()));
    for field in [
        "/faults",
        "/evictions",
        "/saves",
        "/overhead_bytes",
        "/fault_ns/p99",
        "/bytes_by_tier/dram",
        "/pager/metadata_bytes",
    ] {
        assert!(report.pointer(field).and_then(Value::as_u64).unwrap() > 0, "{field} in {report}");
    }
    let number = |field: &str| report.pointer(field).and_then(Value::as_u64).unwrap();
    assert!(number("/managed_bytes_max") >= 96 << 20, "{report}");
    assert!(number("/fault_ns/p50") <= number("/fault_ns/p99") && number("/fault_ns/p99") <= number("/fault_ns/max"));
    let loads = number("/loads_by_store/ram") + number("/loads_by_store/log");
    assert!(loads > 0, "{report}");
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 1, "the store had no name and left nothing");
}

#[test]
fn a_named_store_is_gone_after_the_run() {
    if shim().is_none() {
        return;
    }
    let directory = Directory::new("named-store");
    let store = directory.file("store");
    let mut command = memvisor(["run", "--dram", "64M", "--store-size", "64M", "--quiet", "--store"]);
    let run = said(command.arg(&store).args(["--", "stat", "-c", "%s"]).arg(&store));
    assert_eq!((run.code, run.out.trim()), (0, &*(((64 << 20) + 4096).to_string())), "{run:?}");
    assert!(!store.exists());
}

#[test]
fn the_users_own_preloads_are_kept_behind_ours() {
    let Some(shim) = shim() else { return };
    let mut command = memvisor(["run", "--dram", "64M", "--quiet", "--", "env"]);
    let run = said(command.env("LD_PRELOAD", "libm.so.6"));
    let shim = shim.canonicalize().unwrap();
    assert!(run.out.contains(&format!("LD_PRELOAD={}:libm.so.6\n", shim.display())), "{run:?}");
    assert!(run.out.contains("MEMVISOR_SPACE="), "{run:?}");
}

#[test]
fn exit_codes_and_children_are_as_in_a_plain_run() {
    if shim().is_none() {
        return;
    }
    let directory = Directory::new("managed-children");
    let path = directory.file("r.json");
    let mut command = memvisor(["run", "--dram", "64M", "--quiet", "--report"]);
    let run = said(command.arg(&path).args(["--", "sh", "-c", "ls / >/dev/null; ls / >/dev/null; exit 9"]));
    assert_eq!(run.code, 9, "{run:?}");
    let report = report(&path);
    assert_eq!(report["exit"]["code"], 9);
    assert!(report["members"].as_u64().unwrap() >= 3, "{report}");
    let mut command = memvisor(["run", "--dram", "64M", "--quiet", "--", "sh", "-c", "kill -ABRT $$"]);
    assert_eq!(said(&mut command).code, 134);
}

/// Takes 64 MiB in pieces, lets go of them, and then does nothing more.
const FREES_AND_WAITS: &str = "
import os, sys
pieces = [bytearray(b'x' * 65536) for _ in range(1024)]
print('held', os.getpid(), flush=True)
del pieces
print('freed', flush=True)
sys.stdin.read()
";

#[test]
fn what_a_program_frees_comes_back_though_it_only_waits_after_that() {
    if shim().is_none() || !have("python3") {
        return;
    }
    let mut command = memvisor(["run", "--dram", "256M", "--quiet", "--", "python3", "-c", FREES_AND_WAITS]);
    // The program ends with its input.
    let mut program = Talking::start(command.stdin(Stdio::piped()));
    let held = program.until("held");
    let smaps = format!("/proc/{}/smaps_rollup", held.split_whitespace().last().unwrap());
    program.until("freed");
    until("its memory comes back", || {
        let text = std::fs::read_to_string(&smaps).unwrap();
        let anonymous = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).unwrap();
        anonymous.trim().trim_end_matches(" kB").parse::<u64>().unwrap() < 24 << 10
    });
}

#[test]
fn the_summary_is_a_table_and_json_is_the_report() {
    if shim().is_none() {
        return;
    }
    let summary = said(&mut memvisor(["run", "--dram", "64M", "--", "sh", "-c", "exit 2"]));
    summary.complains(2, &["sh ended with code 2 after", "64 MiB granted", "p50", "evictions"]);
    let json = said(&mut memvisor(["run", "--dram", "64M", "--json", "--", "true"]));
    let report: Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(report["dram_target_bytes"], 64 << 20);
}
