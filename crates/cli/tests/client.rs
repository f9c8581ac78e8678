//! The commands that ask a node, and what they are told.

mod common;

use common::fake_node::{FakeNode, space};
use common::{Directory, memvisor, said, set_mode};
use memvisor_node::wire;
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;

const GIB: u64 = 1 << 30;

/// Every command that asks, with words that are right.
const COMMANDS: [&[&str]; 8] = [
    &["ps"],
    &["stats"],
    &["set", "redis", "shares", "7"],
    &["explain", "redis"],
    &["drain", "redis"],
    &["curve", "redis"],
    &["reload"],
    &["top", "--once"],
];

fn curve() -> wire::Curve {
    let points = [(1, 900.0), (2, 100.0), (3, 0.0)].map(|(gib, loads_per_s)| wire::CurvePoint {
        part: gib as f64 / 2.0,
        dram_bytes: gib * GIB,
        loads_per_s,
        loads_per_s_low: loads_per_s,
        loads_per_s_high: Some(loads_per_s),
    });
    wire::Curve { name: "redis".into(), points: points.to_vec(), ..wire::Curve::default() }
}

#[test]
fn without_a_node_every_command_says_how_to_have_one() {
    let nowhere = Directory::new("no-node");
    for words in COMMANDS {
        let told = said(memvisor(words).env("MEMVISOR_NODE", &nowhere.0));
        told.complains(125, &["there is no node at ", "node.sock", "way out: start a node", "MEMVISOR_NODE"]);
        let told = said(memvisor(words).env("MEMVISOR_NODE", "none"));
        told.complains(125, &["MEMVISOR_NODE says that no node is wanted", "--node"]);
    }
}

#[test]
fn the_directory_that_is_named_counts_before_the_environment() {
    let node = FakeNode::new("named");
    let directory = node.directory.0.to_str().unwrap();
    let told = said(memvisor(["ps", "--node", directory]).env("MEMVISOR_NODE", "none"));
    assert_eq!(told.code, 0, "{told:?}");
}

#[test]
fn a_socket_that_one_may_not_open_is_said_with_who_may() {
    let node = FakeNode::new("denied");
    set_mode(&node.socket(), 0o000);
    let mut command = node.memvisor(&["ps"]);
    if std::fs::File::open("/etc/shadow").is_ok() {
        // Root may open everything.
        command.uid(65534).gid(65534);
    }
    if command.output().is_err() {
        eprintln!("CANNOT RUN: another user may not start {}", env!("CARGO_BIN_EXE_memvisor"));
        return;
    }
    said(&mut command)
        .complains(125, &["you may not talk to the node", "as root or as the user that the node runs as"]);
}

#[test]
fn a_node_that_hangs_is_given_up_on() {
    let directory = Directory::new("hung");
    let _listener = std::os::unix::net::UnixListener::bind(directory.file("node.sock")).unwrap();
    let told = said(memvisor(["ps", "--timeout", "0.2"]).env("MEMVISOR_NODE", &directory.0));
    told.complains(125, &["has not answered within 0.2 s", "--timeout"]);
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    let node = FakeNode::new("garbled");
    node.answers("GET /v1/spaces", 200, &json!({ "spaces": 7 }));
    said(&mut node.memvisor(&["ps"])).complains(125, &["cannot be read", "invalid type", "version"]);
    node.script().answers.insert("GET /v1/spaces".into(), (502, "<html>".into()));
    said(&mut node.memvisor(&["ps"])).complains(1, &["502", "log"]);
    node.script().answers.insert("GET /v1/spaces".into(), (200, " ".repeat(65 << 20)));
    said(&mut node.memvisor(&["ps"])).complains(125, &["broke off", "length limit"]);
}

#[test]
fn an_unknown_space_is_answered_with_the_nearest_names() {
    let node = FakeNode::new("unknown");
    for words in [
        &["stats", "rediss"][..],
        &["set", "rediss", "shares", "7"],
        &["explain", "rediss"],
        &["drain", "web", "rediss"],
        &["drain", "rediss", "--cancel"],
        &["curve", "rediss"],
    ] {
        said(&mut node.memvisor(words)).complains(1, &["there is no space called `rediss`", "did you mean `redis`?"]);
    }
    node.script().spaces.clear();
    said(&mut node.memvisor(&["explain", "redis"])).complains(1, &["no space is attached", "memvisor run"]);
}

#[test]
fn ps_has_a_line_for_each_space_and_json_passes_on_what_it_does_not_know() {
    let node = FakeNode::new("ps");
    let table = said(&mut node.memvisor(&["ps"]));
    assert_eq!(table.code, 0, "{table:?}");
    let lines: Vec<Vec<&str>> = table.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0].join(" "),
        "NAME NO PID CLASS SHARES RESERVED LIMIT TARGET CHARGED WANTED ACTIVE FAULTS/s STATE"
    );
    assert_eq!(lines[2].join(" "), "redis 2 4002 standard 1000 - - 1 GiB 1 GiB 2 GiB 512 MiB 200 running");
    assert_eq!(lines.len(), 4);
    node.answers("GET /v1/spaces", 200, &json!({ "spaces": [{ "name": "x", "news": 1.5 }] }));
    let json: Value = serde_json::from_str(&said(&mut node.memvisor(&["ps", "--json"])).out).unwrap();
    assert_eq!(json["spaces"][0]["news"], 1.5);
}

#[test]
fn stats_tell_the_host_and_all_spaces_or_one() {
    let node = FakeNode::new("stats");
    let json = |words: &[&str]| -> Value { serde_json::from_str(&said(&mut node.memvisor(words)).out).unwrap() };
    let all = json(&["stats", "--json"]);
    assert_eq!((&all["host"]["tax"], &all["spaces"][1]["name"]), (&json!(0.75), &json!("redis")));
    assert_eq!(json(&["stats", "redis", "--json"])["charged_bytes"], GIB);
    let text = said(&mut node.memvisor(&["stats"])).out;
    for told in ["12 GiB of 16 GiB handed out", "soft · overcommitted · 1.32 wanted", "batch-job"] {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
    let text = said(&mut node.memvisor(&["stats", "redis"])).out;
    for told in ["redis · number 2 · running", "/usr/bin/redis", "1 GiB charged", "1000 shares", "limit none"] {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
}

#[test]
fn set_sends_one_change_and_says_what_is_in_force() {
    let node = FakeNode::new("set");
    let told = said(&mut node.memvisor(&["set", "redis", "reservation", "512M", "limit", "none", "class", "latency"]));
    assert_eq!(told.out, "redis: reservation 512 MiB · limit none · shares 1000 · class latency · target 1 GiB now\n");
    let sent = r#"PATCH /v1/spaces/redis {"reservation":536870912,"limit":"none","class":"latency"}"#;
    assert_eq!(node.script().asked, [sent]);
}

#[test]
fn a_slip_in_set_is_answered_before_the_node_is_asked() {
    let node = FakeNode::new("slips");
    for (words, told) in [
        (&["set", "redis", "limit", "2Q"][..], "`Q` is not a unit"),
        (&["set", "redis", "ram", "2G"], "use one of dram"),
        (&["set", "redis", "limit", "1G", "shares"], "`shares` has no value"),
        (&["set", "redis", "limit", "-1"], "does not start with a number"),
        (&["set", "redis", "shares", "none"], "from 1 to 1000000"),
        (&["set", "redis"], "KEY VALUE"),
    ] {
        said(&mut node.memvisor(words)).complains(2, &[told]);
    }
    assert!(node.script().asked.is_empty());
}

#[test]
fn a_refusal_tells_what_does_not_fit_and_the_way_out() {
    let node = FakeNode::new("refusal");
    let problem = wire::Problem {
        error: "the reservation does not fit".into(),
        way_out: "reserve less, or end something".into(),
        fits_bytes: Some(3 * GIB),
        missing_bytes: Some(GIB),
    };
    node.answers("PATCH /v1/spaces/redis", 409, &problem);
    node.answers("POST /v1/drain", 409, &problem);
    for words in [&["set", "redis", "dram", "4G"][..], &["drain", "--all"]] {
        said(&mut node.memvisor(words)).complains(
            1,
            &[
                "does not fit (1 GiB is missing, 3 GiB is the most that fits)",
                "way out: reserve less, or end something",
            ],
        );
    }
}

#[test]
fn explain_prints_the_sentences_of_the_node_and_who_else_was_cut() {
    let node = FakeNode::new("explain");
    let text = said(&mut node.memvisor(&["explain", "redis"])).out;
    for told in [
        "redis: target 4 GiB of 16 GiB",
        "The idle memory tax of 0.75 took 1 GiB.",
        "neighbour",
        "-1 GiB",
        "1 GiB kept",
    ] {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
    let json: Value = serde_json::from_str(&said(&mut node.memvisor(&["explain", "redis", "--json"])).out).unwrap();
    assert_eq!(json["reason"]["tax_bytes"], GIB);
}

#[test]
fn drain_waits_until_all_are_drained_unless_it_shall_not() {
    let node = FakeNode::new("drain");
    let told = said(&mut node.memvisor(&["drain", "web", "redis"]));
    assert_eq!(told.code, 0, "{told:?}");
    for line in [
        "draining 2 spaces: web, redis; they take 2 GiB more DRAM, 4 GiB is free",
        "redis is drained",
        "web is drained",
    ] {
        assert!(told.err.contains(line), "{line} is not in\n{}", told.err);
    }
    let looks = node.script().asked.len();
    let told = said(&mut node.memvisor(&["drain", "--all", "--no-wait"]));
    assert_eq!((told.code, node.script().asked.len()), (0, looks + 1), "{told:?}");
    said(&mut node.memvisor(&["drain"])).complains(2, &["<NAME>"]);
    said(&mut node.memvisor(&["drain", "web", "--all"])).complains(2, &["--all"]);
}

#[test]
fn a_drain_is_called_off_by_name_or_all_at_once() {
    let node = FakeNode::new("drain-cancel");
    said(&mut node.memvisor(&["drain", "web", "--no-wait"]));
    let told = said(&mut node.memvisor(&["drain", "web", "--cancel"]));
    assert!(told.code == 0 && told.err.contains("no longer draining 1 space: web"), "{told:?}");
    assert!(node.script().asked.contains(&r#"POST /v1/drain/cancel {"names":["web"]}"#.to_owned()));
    let told = said(&mut node.memvisor(&["drain", "--all", "--cancel"]));
    assert!(told.code == 0 && told.err.contains("there is nothing to call off"), "{told:?}");
    said(&mut node.memvisor(&["drain", "web", "--cancel", "--no-wait"])).complains(2, &["--cancel", "--no-wait"]);
    said(&mut node.memvisor(&["drain", "--cancel"])).complains(2, &["<NAME>"]);
}

#[test]
fn a_space_that_ends_while_it_drains_is_done() {
    let node = FakeNode::new("drain-end");
    node.answers("POST /v1/drain", 200, &wire::Drained { names: vec!["gone".into()], ..wire::Drained::default() });
    let told = said(&mut node.memvisor(&["drain", "--all"]));
    assert!(told.code == 0 && told.err.contains("gone has ended"), "{told:?}");
}

#[test]
fn the_curve_is_drawn_on_the_terminal_and_into_files() {
    let node = FakeNode::new("curve");
    node.answers("GET /v1/spaces/redis/curve", 200, &curve());
    let (png, svg) = (node.directory.file("c.png"), node.directory.file("c.svg"));
    let told = said(node.memvisor(&["curve", "redis"]).arg("--png").arg(&png).arg("--svg").arg(&svg));
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("900") && told.out.contains("• target 1 GiB: 900 loads/s"), "{}", told.out);
    assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));
    assert!(std::fs::read_to_string(&svg).unwrap().contains("<svg"));
    said(&mut node.memvisor(&["curve", "redis", "--png", "/no/such/place.png"]))
        .complains(125, &["cannot draw /no/such/place.png", "No such file", "way out: "]);
}

#[test]
fn a_space_without_a_curve_is_said_to_have_none_yet_and_not_to_be_unknown() {
    let node = FakeNode::new("no-curve");
    let problem = wire::Problem {
        error: "redis has no curve yet".into(),
        way_out: "wait for a minute".into(),
        ..wire::Problem::default()
    };
    node.answers("GET /v1/spaces/redis/curve", 404, &problem);
    said(&mut node.memvisor(&["curve", "redis"]))
        .complains(1, &["redis has no curve yet", "way out: wait for a minute"]);
}

#[test]
fn reload_tells_what_changed_or_why_it_could_not() {
    let node = FakeNode::new("reload");
    let reloaded = wire::Reloaded { rules: 2, changes: vec!["tax: 0.5".into()] };
    node.answers("POST /v1/reload", 200, &reloaded);
    assert_eq!(said(&mut node.memvisor(&["reload"])).out, "the configuration is in force: 2 rules\n  tax: 0.5\n");
    let problem = wire::Problem { error: "line 3: no such key".into(), ..wire::Problem::default() };
    node.answers("POST /v1/reload", 422, &problem);
    said(&mut node.memvisor(&["reload"])).complains(1, &["line 3: no such key"]);
}

#[test]
fn top_prints_one_picture_for_scripts_and_refuses_to_draw_on_no_terminal() {
    let node = FakeNode::new("once");
    let once = said(&mut node.memvisor(&["top", "--once", "--sort", "faults", "--filter", "B"]));
    assert_eq!(once.code, 0, "{once:?}");
    let lines: Vec<&str> = once.out.lines().collect();
    assert!(lines[0].contains("state soft · overcommitted ×1.32 · tax 0.75"), "{}", once.out);
    assert!(lines[1].contains("7 GiB charged · 12 GiB of 16 GiB handed out · 4 GiB free"), "{}", once.out);
    assert!(lines[4].starts_with("batch-job") && lines[5].starts_with("web") && lines.len() == 6, "{}", once.out);
    assert!(!once.out.contains('\x1b'));
    said(&mut node.memvisor(&["top"])).complains(2, &["needs a terminal", "--once"]);
}

#[test]
fn names_that_would_command_the_terminal_are_printed_harmlessly() {
    let node = FakeNode::new("names");
    node.script().spaces = vec![space(1, "\x1b[2Jx\n", GIB)];
    for words in [&["ps"][..], &["stats"], &["top", "--once"]] {
        let told = said(&mut node.memvisor(words));
        assert!(!told.out.contains('\x1b') && told.out.contains("\u{fffd}[2Jx\u{fffd}"), "{told:?}");
    }
}

#[test]
fn help_of_every_command_tells_its_exit_codes_and_manual_pages_have_them_too() {
    let directory = Directory::new("client-man");
    assert_eq!(said(memvisor(["man"]).arg(&directory.0)).code, 0);
    for words in COMMANDS {
        let help = said(&mut memvisor([words[0], "--help"]));
        let page = std::fs::read_to_string(directory.file(&format!("memvisor-{}.1", words[0]))).unwrap();
        for text in [&help.out, &page] {
            assert!(text.contains("Exit codes:") && text.contains("125") && text.contains("MEMVISOR_NODE"), "{text}");
        }
    }
}
