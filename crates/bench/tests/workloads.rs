//! The workloads notice what they are there to notice.

use memvisor_bench::kv::resp::Connection;
use memvisor_bench::kv::server::{Home, Server};
use memvisor_bench::run::{Launch, Outcome};
use std::path::Path;

const CPUS: [usize; 1] = [0];

fn run(program: &str, words: &[&str]) -> Result<Outcome, String> {
    Launch::new([program].iter().chain(words), &CPUS).run(None)
}

#[test]
fn touch_touches_in_every_order() {
    for mode in ["random", "seq", "stride", "phase", "first"] {
        let outcome = run(env!("CARGO_BIN_EXE_touch"), &[mode, "4", "--ops", "2048", "--threads", "2"]).expect(mode);
        assert_eq!(outcome.number("ops"), Ok(2048.0), "{mode}");
        assert!(outcome.phase("touch").is_ok());
    }
}

#[test]
fn touch_writes_without_spoiling_its_tags() {
    let words = ["random", "4", "--ops", "5000", "--write-percent", "50", "--huge", "ask"];
    assert!(run(env!("CARGO_BIN_EXE_touch"), &words).is_ok());
}

#[test]
fn stream_and_sort_compute_what_they_must() {
    let stream = run(env!("CARGO_BIN_EXE_stream"), &["12", "--rounds", "3", "--huge"]).expect("stream runs");
    assert!(stream.number("gb_per_s").expect("a rate") > 0.0);
    let sort = run(env!("CARGO_BIN_EXE_sortgig"), &["8", "--rounds", "2"]).expect("sortgig runs");
    assert_eq!(sort.number("words"), Ok(2.0 * 8.0 * 131_072.0));
}

#[test]
fn kvload_verifies_every_value_and_finds_one_that_was_changed() {
    if !Path::new("/usr/bin/redis-server").exists() {
        return println!("CANNOT RUN: redis-server is not installed");
    }
    let home = Home::new().expect("a directory");
    let launch = Launch::new(home.command(), &CPUS);
    let server = Server::start(home, &launch, None).expect("redis-server starts");
    let socket = server.socket().display().to_string();
    let load = |phases: &[&str]| {
        let fixed = ["--server", &socket, "--keys", "500", "--value", "1000", "--any-version"];
        run(env!("CARGO_BIN_EXE_kvload"), &[&fixed, phases].concat())
    };
    let outcome =
        load(&["load", "run:zipf:2000:30", "run:gauss:2000:30", "run:uniform:0.1s", "verify"]).expect("all is well");
    assert_eq!(outcome.said["values_wrong"], 0);
    assert!(outcome.phase("verify").is_ok());

    let mut connection = Connection::open(&socket).expect("the server answers");
    let (key, mut value) = (b"key:000000000007", Vec::new());
    connection.call(&[b"GET", key], &mut value).expect("the value");
    value[500] ^= 1;
    connection.call(&[b"SET", key, &value.clone()], &mut Vec::new()).expect("it is changed");
    let error = load(&["verify"]).expect_err("a changed value must be found");
    assert!(error.contains("WRONG VALUE: key 7"), "{error}");
    connection.call(&[b"DEL", key], &mut Vec::new()).expect("it is removed");
    let error = load(&["verify"]).expect_err("a lost value must be found");
    assert!(error.contains("WRONG ANSWER: key 7"), "{error}");
    server.stop().expect("the server ends well");
}
