//! The API: its questions, its refusals, and who may ask what.

mod common;

use common::{FakeSpace, MIB, NodeProcess, as_nobody, until};
use memvisor_node::client::{AskError, ask};
use memvisor_node::wire;
use memvisor_proto::space::member_state;
use memvisor_sys::process;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

const SIGHUP: i32 = 1;

#[test]
fn the_process_of_a_node() {
    common::be_the_node();
}

/// Status and body of a question with any method, as it is on the wire.
fn raw(node: &NodeProcess, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(node.directory().join("node.sock")).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn every_route_in_the_description_answers_and_every_answer_is_in_it() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    space.attach(&node, false);
    node.plans_on();
    let document: Value = serde_json::from_str(&node.get("/v1/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let wanted = [
        "GET /healthz",
        "GET /metrics",
        "GET /v1/host",
        "GET /v1/openapi.json",
        "GET /v1/spaces",
        "GET /v1/spaces/{name}",
        "GET /v1/spaces/{name}/curve",
        "GET /v1/spaces/{name}/explain",
        "GET /v1/spaces/{name}/history",
        "PATCH /v1/spaces/{name}",
        "POST /v1/drain",
        "POST /v1/drain/cancel",
        "POST /v1/reload",
    ];
    let mut described = Vec::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            let body = if method == "PATCH" { "{\"shares\":1000}" } else { "" };
            let (status, answer) = raw(&node, &method, &path.replace("{name}", "x"), body);
            let statuses = operation["responses"].as_object().unwrap();
            assert!(statuses.contains_key(&status.to_string()), "{method} {path}: {status} {answer}");
            assert_ne!(status, 405);
            // A route that is not there answers 404 with other words.
            assert!(!answer.contains("there is nothing at"), "{method} {path}");
            described.push(format!("{method} {path}"));
            let other = if method == "DELETE" { "PUT" } else { "DELETE" };
            assert_eq!(raw(&node, other, &path.replace("{name}", "x"), "").0, 405, "{other} {path}");
        }
    }
    described.sort();
    assert_eq!(described, wanted, "the table in the documentation of the wire is this one");
    let table = include_str!("../src/wire.rs");
    for route in wanted {
        assert!(table.contains(&format!("| `{route}")), "{route} is not in the table");
    }
}

#[test]
fn what_cannot_be_understood_is_answered_with_what_would_be_right() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    space.attach(&node, false);
    for (method, path, body, status) in [
        ("GET", "/v1/nothing", "", 404),
        ("GET", "/v1/spaces/y", "", 404),
        ("GET", "/v1/spaces/y/explain", "", 404),
        ("GET", "/v1/spaces/x/curve", "", 404),
        ("GET", "/v1/spaces/x/history?resolution=hourly", "", 400),
        ("PUT", "/v1/spaces/x", "{}", 405),
        ("PATCH", "/v1/spaces/y", "{\"shares\":7}", 404),
        ("PATCH", "/v1/spaces/x", "", 400),
        ("PATCH", "/v1/spaces/x", "{", 400),
        ("PATCH", "/v1/spaces/x", "{\"share\":7}", 400),
        ("PATCH", "/v1/spaces/x", "{\"shares\":0}", 400),
        ("PATCH", "/v1/spaces/x", "{\"shares\":-1}", 400),
        ("PATCH", "/v1/spaces/x", "{\"class\":\"fast\"}", 400),
        ("PATCH", "/v1/spaces/x", "{\"limit\":\"lots\"}", 400),
        ("PATCH", "/v1/spaces/x", "{\"reservation\":\"2G\",\"limit\":\"1G\"}", 409),
        ("POST", "/v1/drain", "{\"names\":[\"y\"]}", 404),
        ("POST", "/v1/drain", "[]", 400),
        ("POST", "/v1/drain/cancel", "{\"names\":[\"y\"]}", 404),
    ] {
        let (said, body_said) = raw(&node, method, path, body);
        assert_eq!(said, status, "{method} {path} {body}: {body_said}");
        let problem: wire::Problem = serde_json::from_str(&body_said).unwrap();
        assert!(!problem.error.is_empty() && !problem.way_out.is_empty(), "{method} {path}: {problem:?}");
    }
    // One that sends without end is cut off, before or after it is told why.
    let mut endless = UnixStream::connect(node.directory().join("node.sock")).unwrap();
    let _ =
        write!(endless, "PATCH /v1/spaces/x HTTP/1.0\r\ncontent-length: {}\r\n\r\n{}", 2 << 20, " ".repeat(2 << 20));
    assert_eq!(node.space("x").intent.shares, 1000, "nothing has changed");
}

#[test]
fn a_change_is_in_force_and_in_the_header_and_what_does_not_fit_is_refused_with_what_would() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    space.attach(&node, false);
    let body = r#"{"reservation":"256M","limit":536870912,"shares":2000,"class":"batch"}"#;
    let shown: wire::Space = serde_json::from_str(&node.ask("PATCH", "/v1/spaces/x", body).unwrap()).unwrap();
    assert_eq!((shown.intent.reservation_bytes, shown.intent.limit_bytes), (256 * MIB, Some(512 * MIB)));
    let header = space.header();
    let words = [header.reservation_bytes(), header.limit_bytes(), header.shares(), header.class()];
    assert_eq!(words.map(|word| word.load(Ordering::Relaxed)), [256 * MIB, 512 * MIB, 2000, 0]);
    assert!((256 * MIB..=512 * MIB).contains(&space.told_bytes()), "its pager is told at once");

    let (status, problem) = node.ask("PATCH", "/v1/spaces/x", r#"{"dram":"2GiB"}"#).unwrap_err();
    let fits_bytes = problem.fits_bytes.unwrap();
    assert_eq!(status, 409);
    node.ask("PATCH", "/v1/spaces/x", &format!("{{\"dram\":{}}}", fits_bytes - MIB)).unwrap();
    let intent = node.space("x").intent;
    assert_eq!(intent.limit_bytes, Some(intent.reservation_bytes));
}

#[test]
fn an_explanation_has_sentences_with_numbers_and_names_the_others() {
    let node = NodeProcess::start("1GiB", "");
    let mut spaces = [FakeSpace::new("x").reserve(64 * MIB), FakeSpace::new("y")];
    for space in &mut spaces {
        space.attach(&node, false);
        space.hold(450 * MIB);
        space.join();
        space.store(600 * MIB);
    }
    until("not all fits", || node.host().price.is_some());
    let said: wire::Explanation = serde_json::from_str(&node.get("/v1/spaces/x/explain")).unwrap();
    assert_eq!(said.others[0].name, "y");
    assert!(said.sentences[0].contains("MiB") && said.sentences[0].contains("1000 shares"), "{:?}", said.sentences);
    assert!(
        said.sentences.iter().any(|sentence| sentence == "Its reservation of 64 MiB is kept."),
        "{:?}",
        said.sentences
    );
}

#[test]
fn a_drain_that_does_not_fit_is_refused_with_numbers_and_one_that_does_is_asked_for_in_the_header() {
    let node = NodeProcess::start("1GiB", "");
    let (mut small, mut large) = (FakeSpace::new("small"), FakeSpace::new("large"));
    small.attach(&node, false);
    large.attach(&node, false);
    small.join();
    small.hold(100 * MIB);
    small.store(50 * MIB);
    large.hold(300 * MIB);
    large.join();
    large.store(2048 * MIB);
    node.plans_on();
    let (status, problem) = node.ask("POST", "/v1/drain", "").unwrap_err();
    assert_eq!(status, 409);
    assert!(problem.error.contains("large 2 GiB") && problem.missing_bytes.unwrap() > 1 << 30, "{problem:?}");
    assert_eq!(large.header().drain().load(Ordering::Relaxed) + small.header().drain().load(Ordering::Relaxed), 0);

    node.ask("POST", "/v1/drain", r#"{"names":["small"]}"#).unwrap();
    assert_eq!(small.header().drain().load(Ordering::Relaxed), 1);
    assert_eq!(node.space("small").drain, wire::DrainState::Draining);
    until("it is told all that it will hold", || small.told_bytes() >= 150 * MIB);
    small.member().drained().store(1, Ordering::Relaxed);
    until("it has let go", || node.space("small").drain == wire::DrainState::Drained);
}

#[test]
fn a_drain_takes_nothing_that_others_were_promised_used_or_not() {
    let node = NodeProcess::start("300MiB", "overhead = 0\n");
    let (mut keeps, mut paged) = (FakeSpace::new("keeps").reserve(150 * MIB), FakeSpace::new("paged"));
    for space in [&mut keeps, &mut paged] {
        space.attach(&node, false);
        space.join();
    }
    keeps.hold(2 * MIB);
    paged.hold(60 * MIB);
    paged.store(143 * MIB);
    node.plans_on();
    assert!(node.host().free_bytes > 143 * MIB, "it would fit if nobody had been promised anything");
    let (status, problem) = node.ask("POST", "/v1/drain", r#"{"names":["paged"]}"#).unwrap_err();
    assert_eq!(status, 409);
    for part in ["paged 143 MiB", "keeps 150 MiB", "promised to others"] {
        assert!(problem.error.contains(part), "{part} is not in {}", problem.error);
    }
    assert!(problem.missing_bytes.unwrap() > 0 && problem.fits_bytes.unwrap() < 143 * MIB, "{problem:?}");
    assert_eq!(paged.header().drain().load(Ordering::Relaxed), 0);
    // What is not promised any more may be taken.
    node.ask("PATCH", "/v1/spaces/keeps", r#"{"reservation":"10M"}"#).unwrap();
    node.ask("POST", "/v1/drain", r#"{"names":["paged"]}"#).unwrap();
}

#[test]
fn what_drains_or_has_drained_is_given_to_no_other_drain_and_to_no_new_space() {
    let node = NodeProcess::start("300MiB", "overhead = 0\n");
    let mut spaces = ["first", "second"].map(FakeSpace::new);
    for space in &mut spaces {
        space.attach(&node, false);
        space.join();
        space.hold(20 * MIB);
        space.store(140 * MIB);
    }
    node.plans_on();
    node.ask("POST", "/v1/drain", r#"{"names":["first"]}"#).unwrap();
    let refused = |what: &str| {
        let (status, problem) = node.ask("POST", "/v1/drain", r#"{"names":["second"]}"#).unwrap_err();
        assert_eq!(status, 409, "{what}");
        assert!(problem.error.contains("first 160 MiB"), "{what}: {}", problem.error);
        let mut new = FakeSpace::new("new").reserve(150 * MIB);
        let message = new.message(false);
        assert!(new.refusal(&node, &message).0.contains("150 MiB does not fit"), "{what}");
    };
    refused("it is under way");
    spaces[0].hold(160 * MIB);
    spaces[0].store(0);
    spaces[0].member().drained().store(1, Ordering::Relaxed);
    until("it has let go", || node.space("first").drain == wire::DrainState::Drained);
    refused("it is over");
    node.ask("POST", "/v1/drain/cancel", "").unwrap();
    node.ask("POST", "/v1/drain", r#"{"names":["second"]}"#).unwrap_err();
    let mut new = FakeSpace::new("new").reserve(150 * MIB);
    new.attach(&node, false);
}

#[test]
fn a_drain_that_is_called_off_is_no_longer_asked_for_in_the_header_and_what_it_was_granted_is_taken_back() {
    let node = NodeProcess::start("1GiB", "");
    let (mut small, mut other) = (FakeSpace::new("small"), FakeSpace::new("other"));
    for space in [&mut small, &mut other] {
        space.attach(&node, false);
        space.join();
        space.hold(100 * MIB);
        space.store(50 * MIB);
    }
    node.ask("PATCH", "/v1/spaces/small", r#"{"limit":"100M"}"#).unwrap();
    node.ask("POST", "/v1/drain", r#"{"names":["small"]}"#).unwrap();
    until("it is told all that it will hold", || small.told_bytes() >= 150 * MIB);
    let cancel = |body: &str| -> Vec<String> {
        let answer = node.ask("POST", "/v1/drain/cancel", body).unwrap();
        serde_json::from_str::<wire::Undrained>(&answer).unwrap().names
    };
    assert_eq!(cancel(""), ["small"], "the other one did not drain");
    assert_eq!(small.header().drain().load(Ordering::Relaxed), 0);
    assert_eq!(node.space("small").drain, wire::DrainState::No);
    until("its limit holds again", || small.told_bytes() <= 100 * MIB);
    assert!(cancel(r#"{"names":["small"]}"#).is_empty());
}

#[test]
fn a_configuration_that_cannot_be_used_leaves_the_old_one_in_force() {
    let node = NodeProcess::start("1GiB", "tax = 0.5\n[[rule]]\nmatch = { name = \"a\" }\n");
    let rules = || std::fs::read_to_string(node.directory().join("rules")).unwrap();
    let before = rules();
    node.configure("2GiB", "tax = 7\n");
    let (status, problem) = node.ask("POST", "/v1/reload", "").unwrap_err();
    assert_eq!(status, 422);
    assert!(problem.error.contains("node.toml, line 5, column 7: "), "{problem:?}");
    process::kill(node.pid(), SIGHUP).unwrap();
    node.plans_on();
    let host = node.host();
    assert_eq!((host.dram_bytes, host.tax, rules()), (1 << 30, 0.5, before.clone()));

    node.configure("512MiB", "tax = 0.25\n");
    process::kill(node.pid(), SIGHUP).unwrap();
    until("the new one is in force", || node.host().tax == 0.25 && node.host().dram_bytes == 512 * MIB);
    until("the rules are written anew", || rules() != before);
}

#[test]
fn how_use_is_sampled_is_in_the_header_and_follows_the_configuration() {
    let node = NodeProcess::start("1GiB", "[sample]\nperiod = \"2s\"\npages = 17\n");
    let mut space = FakeSpace::new("x");
    space.attach(&node, false);
    let words =
        || [space.header().sample_period_ms(), space.header().sample_pages()].map(|w| w.load(Ordering::Relaxed));
    assert_eq!(words(), [2000, 17]);
    node.configure("1GiB", "[sample]\npages = 256\n");
    let reloaded = node.ask("POST", "/v1/reload", "").unwrap();
    assert!(reloaded.contains("pages of a sample"), "{reloaded}");
    assert_eq!(words(), [30_000, 256]);
}

#[test]
fn the_process_of_another_user() {
    let Some(directory) = std::env::var_os("MEMVISOR_TEST_DIRECTORY") else { return };
    let directory = Path::new(&directory);
    let try_it = |method: &str, path: &str, body: &str| match ask(directory, method, path, body) {
        Ok(_) => println!("{method} {path} {body}: 200"),
        Err(AskError::Refused(status, problem)) => println!("{method} {path} {body}: {status} {}", problem.way_out),
        Err(other) => println!("{method} {path}: {other:?}"),
    };
    let mut own = FakeSpace::new("own");
    let message = memvisor_proto::attach::line(&own.message(false));
    own.say(directory, &message);
    try_it("GET", "/v1/host", "");
    try_it("PATCH", "/v1/spaces/own", "{\"shares\":7}");
    try_it("PATCH", "/v1/spaces/roots", "{\"shares\":7}");
    try_it("POST", "/v1/drain", "{\"names\":[\"roots\"]}");
    try_it("POST", "/v1/drain", "{\"names\":[\"own\"]}");
    try_it("POST", "/v1/drain", "");
    try_it("POST", "/v1/drain/cancel", "{\"names\":[\"roots\"]}");
    try_it("POST", "/v1/drain/cancel", "{\"names\":[\"own\"]}");
    try_it("POST", "/v1/reload", "");
}

#[test]
fn a_user_changes_what_is_his_and_nothing_else() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("roots");
    space.attach(&node, false);
    let directory = node.directory();
    let variables = [("MEMVISOR_TEST_DIRECTORY", directory.to_str().unwrap())];
    let Some(said) = as_nobody(&node.scratch, "the_process_of_another_user", &variables) else { return };
    for expected in [
        "GET /v1/host : 200",
        "PATCH /v1/spaces/own {\"shares\":7}: 200",
        "PATCH /v1/spaces/roots {\"shares\":7}: 403 ask as its owner",
        "POST /v1/drain {\"names\":[\"roots\"]}: 403 ask as its owner",
        "POST /v1/drain {\"names\":[\"own\"]}: 200",
        "POST /v1/drain : 403 name your own",
        "POST /v1/drain/cancel {\"names\":[\"roots\"]}: 403 ask as its owner",
        "POST /v1/drain/cancel {\"names\":[\"own\"]}: 200",
        "POST /v1/reload : 403 ask as root",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    assert_eq!(node.space("roots").intent.shares, 1000);
}

#[test]
fn the_checker_of_prometheus_finds_nothing_wrong_with_the_metrics() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    space.attach(&node, false);
    space.join();
    node.plans_on();
    let text = node.get("/metrics");
    assert!(text.contains("memvisor_space_target_bytes{space=\"x\"} "));
    let checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut checker) = checker else {
        println!("CANNOT RUN: promtool is not there (Debian package prometheus)");
        return;
    };
    checker.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = checker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn counters_do_not_fall_when_a_member_ends() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    space.attach(&node, false);
    space.join();
    let member = space.member();
    member.faults().store(1000, Ordering::Relaxed);
    until("it is counted", || node.space("x").counters.faults == 1000);
    member.state().store(member_state::FREE, Ordering::Relaxed);
    until("it is gone", || node.space("x").members == 0);
    assert_eq!(node.space("x").counters.faults, 1000);
    member.faults().store(5, Ordering::Relaxed);
    member.joined_ns().store(2, Ordering::Relaxed);
    member.state().store(member_state::LIVE, Ordering::Relaxed);
    until("the next one in its block counts anew", || node.space("x").counters.faults == 1005);
}

#[test]
fn what_a_curve_costs_is_shown_with_the_space_and_in_the_metrics() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    space.attach(&node, false);
    space.join();
    // As a recorder writes it: looks in the fifth word, pages that are watched in the upper half of the eighth.
    let words = space.member().curve().0;
    words[4].store(700, Ordering::Relaxed);
    words[7].store(300 << 32 | 50, Ordering::Relaxed);
    until("it is shown", || {
        let shown = node.space("x");
        (shown.counters.rechecks, shown.watched_pages) == (700, 300)
    });
    until("it is a rate", || {
        words[4].fetch_add(10, Ordering::Relaxed);
        node.space("x").rates.rechecks_per_s > 0.0
    });
    let text = node.get("/metrics");
    assert!(text.contains("memvisor_space_watched_pages{space=\"x\"} 300"), "{text}");
    assert!(text.contains("memvisor_space_rechecks_total{space=\"x\"} "), "{text}");
}

#[test]
fn a_health_check_says_that_plans_are_made() {
    let node = NodeProcess::start("1GiB", "");
    until("it is well", || {
        let health: wire::Health = serde_json::from_str(&node.get("/healthz")).unwrap();
        health.status == "ok"
    });
}
