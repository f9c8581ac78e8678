//! What people type, and what they are told when it cannot be.

mod common;

use common::{Directory, memvisor, plain, said};

#[test]
fn help_says_what_the_commands_are_and_how_run_ends() {
    let help = said(&mut memvisor(["--help"]));
    assert_eq!(help.code, 0);
    for command in ["run", "doctor", "bench", "completions"] {
        assert!(help.out.contains(command), "{command}");
    }
    assert!(!help.out.contains("bench-touch"), "what is only for ourselves is hidden");
    let help = said(&mut memvisor(["run", "--help"]));
    for said in
        ["-- CMD", "--dram", "--store", "--report", "128+N", "125", "126", "127", "512M, 2GiB", "SIGTERM", "Examples:"]
    {
        assert!(help.out.contains(said), "{said} is not in\n{}", help.out);
    }
    assert!(!help.out.contains("--inject"));
    let version = said(&mut memvisor(["--version"]));
    assert!(version.out.starts_with("memvisor "));
}

#[test]
fn everything_after_the_program_reaches_it() {
    let said = said(&mut plain(["--", "printf", "%s|", "--dram", "1G", "--", "-x", "", "ü"]));
    assert_eq!((said.code, said.out.as_str()), (0, "--dram|1G|--|-x||ü|"));
}

#[test]
fn the_program_sees_its_name_as_it_was_typed_and_its_environment() {
    let said = said(plain(["--", "sh", "-c", "echo $0 $COLOUR"]).env("COLOUR", "green"));
    assert_eq!(said.out, "sh green\n");
}

#[test]
fn a_wrong_size_is_answered_with_what_would_be_right() {
    for (typed, told) in [
        ("512Q", "`Q` is not a unit"),
        ("", "a size is missing"),
        ("1.5", "part of a byte"),
        ("99999999T", "more than a machine"),
    ] {
        said(&mut memvisor(["run", &format!("--dram={typed}"), "--", "true"])).complains(125, &[told]);
    }
}

#[test]
fn a_budget_that_cannot_be_is_refused_with_the_way_out() {
    for (typed, told) in [
        (&["--dram", "1M"][..], "too small to hold a program"),
        (&["--dram", "2G", "--limit", "1G"], "--dram 2 GiB is more than --limit 1 GiB"),
        (&["--reservation", "900T"], "cannot be guaranteed"),
        (&["--dram", "64M", "--reservation", "128M"], "--reservation 128 MiB is more than --dram 64 MiB"),
    ] {
        said(memvisor(["run"]).args(typed).args(["--", "true"])).complains(125, &[told, "way out: "]);
    }
    said(&mut memvisor(["run", "--shares", "0", "--", "true"])).complains(125, &["1..=1000000"]);
    said(&mut memvisor(["run", "--store-size", "1G", "--", "true"])).complains(125, &["--store <PATH>"]);
}

#[test]
fn a_bad_place_for_the_report_is_refused_before_the_program_runs() {
    let directory = Directory::new("report");
    let witness = directory.file("witness");
    let run = said(plain(["--report", "/no/such/directory/r.json", "--", "touch"]).arg(&witness));
    run.complains(125, &["cannot write the report /no/such/directory/r.json: No such file", "way out: "]);
    assert!(!witness.exists());
}

#[test]
fn a_plain_run_has_nothing_of_memvisor_in_it() {
    let mut command = plain(["--quiet", "--", "env"]);
    command.env("LD_PRELOAD", "/x/libmemvisor_shim.so").env("MEMVISOR_SPACE", "1:2:-:3");
    let said = said(&mut command);
    assert!(!said.out.contains("LD_PRELOAD") && !said.out.contains("MEMVISOR_SPACE"), "{}", said.out);
}

#[test]
fn quiet_says_nothing_and_json_says_the_report() {
    let quiet = said(&mut plain(["--quiet", "--", "true"]));
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
    let json = said(&mut plain(["--json", "--", "sh", "-c", "exit 4"]));
    let report: serde_json::Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(report["exit"]["code"], 4);
    assert_eq!(report["managed"], false);
}

#[test]
fn the_report_has_the_name_the_command_and_the_budget() {
    let directory = Directory::new("report-file");
    let path = directory.file("r.json");
    let run = said(
        plain(["--name", "job", "--dram", "64M", "--shares", "7", "--report"]).arg(&path).args(["--", "true", "x"]),
    );
    assert_eq!(run.code, 0);
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(report["space"], "job");
    assert_eq!(report["command"], serde_json::json!(["true", "x"]));
    assert_eq!((report["dram_target_bytes"].as_u64(), report["shares"].as_u64()), (Some(64 << 20), Some(7)));
    assert!(report["duration_ns"].as_u64().unwrap() > 0);
}

#[test]
fn completions_and_manual_pages_know_every_option() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&mut memvisor(["completions", shell]));
        assert!(script.code == 0 && script.out.contains("reservation"), "{shell}");
    }
    let directory = Directory::new("man");
    assert_eq!(said(memvisor(["man"]).arg(directory.file("man1"))).code, 0);
    let page = std::fs::read_to_string(directory.file("man1/memvisor-run.1")).unwrap();
    assert!(page.contains("reservation") && page.contains("128+N"), "{page}");
    assert!(directory.file("man1/memvisor.1").is_file());
    said(&mut memvisor(["man", "/proc/none"])).complains(125, &["cannot write the manual pages", "way out: "]);
}

#[test]
fn the_doctor_gives_json_with_a_verdict_for_each_thing() {
    let doctor = said(&mut memvisor(["doctor", "--json"]));
    let diagnosis: serde_json::Value = serde_json::from_str(&doctor.out).unwrap();
    let can_manage = diagnosis["can_manage"].as_bool().unwrap();
    assert_eq!(doctor.code, i32::from(!can_manage));
    assert!(diagnosis["version"].is_string() && diagnosis["kernel"].is_string());
    let findings = diagnosis["findings"].as_array().unwrap();
    assert!(findings.len() > 10);
    for finding in findings {
        assert!(["ok", "limited", "missing"].contains(&finding["verdict"].as_str().unwrap()));
        assert!(finding["found"].is_string() && finding["consequence"].is_string(), "{finding}");
        assert_eq!(finding["way_out"].is_null(), finding["verdict"] == "ok", "{finding}");
    }
    let table = said(&mut memvisor(["doctor"]));
    assert_eq!(table.code, doctor.code);
    assert!(table.out.contains("userfaultfd"));
}
