//! Spaces come, are refused, go and come back.

mod common;

use common::{FakeSpace, MIB, NodeProcess, as_nobody, until};
use memvisor_node::wire;
use memvisor_proto::attach::{Answer, Attach, StoreSize, VERSION, line};
use memvisor_proto::space::class;
use std::path::Path;
use std::sync::atomic::Ordering;

#[test]
fn the_process_of_a_node() {
    common::be_the_node();
}

#[test]
fn a_space_that_attaches_is_told_a_target_within_the_dram_and_names_are_unique() {
    let node = NodeProcess::start("1GiB", "");
    let (mut first, mut second) = (FakeSpace::new("redis"), FakeSpace::new("redis"));
    first.wish.class = Some("latency".into());
    let (first_number, first_name) = first.attach(&node, false);
    let (second_number, second_name) = second.attach(&node, false);
    assert_eq!((first_name.as_str(), second_name.as_str()), ("redis", "redis-2"));
    assert!(second_number > first_number);
    until("both are told within 1 GiB", || first.told_bytes() + second.told_bytes() <= 1 << 30);
    assert_ne!(first.header().planned_ns().load(Ordering::Relaxed), 0);
    assert_eq!(first.header().class().load(Ordering::Relaxed), class::LATENCY, "the intent is in the header");
    let shown = node.space("redis-2");
    assert_eq!((shown.number, shown.command.join(" ")), (second_number, "fake --space".to_owned()));
}

#[test]
fn a_space_whose_connection_ends_is_gone_and_its_dram_returns() {
    let node = NodeProcess::start("1GiB", "");
    let (mut stays, mut leaves) = (FakeSpace::new("stays"), FakeSpace::new("leaves"));
    stays.attach(&node, false);
    leaves.attach(&node, false);
    leaves.hold(400 * MIB);
    until("what it holds is missed", || stays.told_bytes() < 700 * MIB);
    leaves.leave();
    until("it is gone", || node.names() == ["stays"]);
    until("its DRAM went to the other", || stays.told_bytes() > 800 * MIB);
}

#[test]
fn a_reservation_that_does_not_fit_is_refused_with_one_that_does() {
    let node = NodeProcess::start("1GiB", "");
    let mut greedy = FakeSpace::new("greedy").reserve(2 << 30);
    let message = greedy.message(false);
    let (why, fits_bytes) = greedy.refusal(&node, &message);
    assert!(why.contains("2 GiB does not fit"), "{why}");
    let fits_bytes = fits_bytes.unwrap();
    let mut modest = FakeSpace::new("modest").reserve(fits_bytes / 2);
    modest.attach(&node, false);
    // What was promised to one is not promised to the next.
    let mut next = FakeSpace::new("next").reserve(fits_bytes);
    let message = next.message(false);
    let (_, fits_now) = next.refusal(&node, &message);
    assert!(fits_now.unwrap() <= fits_bytes / 2 + MIB);
    assert_eq!(node.names(), ["modest"]);
}

#[test]
fn what_is_set_aside_for_unmanaged_memory_is_promised_to_nobody_and_no_promise_breaks_when_it_is_taken() {
    let node = NodeProcess::start("300MiB", "overhead = \"48M\"\n");
    let (mut hog, mut keeps) = (FakeSpace::new("hog"), FakeSpace::new("keeps").reserve(300 * MIB));
    hog.attach(&node, false);
    let message = keeps.message(false);
    let (why, fits_bytes) = keeps.refusal(&node, &message);
    assert!(why.contains("48 MiB set aside for memory that is not managed"), "{why}");
    keeps.wish.reservation_bytes = fits_bytes.unwrap() - MIB;
    keeps.attach(&node, false);
    keeps.hold(MIB);
    // The hog is this process, which nothing of is managed.
    hog.join();
    let taken = std::hint::black_box(vec![7u8; 40 << 20]);
    until("it is seen", || node.space("hog").overhead_bytes >= 40 * MIB);
    node.plans_on();
    let said: wire::Explanation = serde_json::from_str(&node.get("/v1/spaces/keeps/explain")).unwrap();
    let promise = said.reason.promise.unwrap();
    assert_eq!(promise.kept_bytes, promise.reserved_bytes, "{:?}", said.sentences);
    let said: wire::Explanation = serde_json::from_str(&node.get("/v1/spaces/hog/explain")).unwrap();
    assert!(said.sentences.iter().any(|said| said.contains("not managed")), "{:?}", said.sentences);
    drop(taken);
}

#[test]
fn a_file_takes_its_size_of_the_store_that_it_lies_in_and_what_does_not_fit_is_refused_with_what_would() {
    let stores = "[[store]]\nname = \"disk\"\npath = \"/nowhere/disk\"\ncapacity = \"1GiB\"\n\
                  [[store]]\nname = \"deep\"\npath = \"/nowhere/disk/deep\"\ncapacity = \"128M\"\n";
    let node = NodeProcess::start("1GiB", stores);
    let with = |space: &FakeSpace, path: &str, mib: u64| Attach {
        store_path: Some(path.into()),
        store_bytes: mib * MIB,
        ..space.message(false)
    };
    let left = || node.host().stores.iter().map(|store| store.free_bytes.unwrap() / MIB).collect::<Vec<u64>>();
    let mut first = FakeSpace::new("first");
    let message = with(&first, "/nowhere/disk/first", 700);
    assert!(matches!(first.say(&node.directory(), &line(&message)), Answer::Attached { .. }));
    assert_eq!(left(), [324, 128]);

    let mut second = FakeSpace::new("second");
    let message = with(&second, "/nowhere/disk/second", 400);
    let Answer::Refused { why, fits_store_bytes, .. } = second.say(&node.directory(), &line(&message)) else {
        panic!()
    };
    for part in ["a file of 400 MiB", "the store disk", "324 MiB of its 1 GiB can still be promised", "at most 324 MiB"]
    {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    assert_eq!(fits_store_bytes, Some(324 * MIB));
    // Whose file is as large as it was found to be is offered a part.
    let found = Attach { store_size: StoreSize::Found, ..message.clone() };
    let Answer::Refused { fits_store_bytes, .. } = second.say(&node.directory(), &line(&found)) else { panic!() };
    assert_eq!(fits_store_bytes, Some(81 * MIB));
    // The store in the store has a capacity of its own, and what lies in none is its owner's.
    let message = with(&second, "/nowhere/disk/deep/second", 129);
    assert!(second.refusal(&node, &message).0.contains("the store deep"));
    let message = with(&second, "/nowhere/diskette/second", 4000);
    assert!(matches!(second.say(&node.directory(), &line(&message)), Answer::Attached { .. }));
    assert_eq!(left(), [324, 128]);

    first.leave();
    until("its part of the store returns", || left() == [1024, 128]);
}

#[test]
fn who_says_how_much_it_holds_must_find_a_place_for_it_in_its_reservation_and_its_file() {
    let stores = "[[store]]\nname = \"disk\"\npath = \"/nowhere/disk\"\ncapacity = \"1GiB\"\n";
    let node = NodeProcess::start("1GiB", stores);
    let mut space = FakeSpace::new("large").reserve(100 * MIB);
    space.wish.size_bytes = Some(600 * MIB);
    let with = |space: &FakeSpace, mib: u64| Attach {
        store_path: Some("/nowhere/disk/large".into()),
        store_bytes: mib * MIB,
        ..space.message(false)
    };
    let message = with(&space, 400);
    let (why, fits_bytes) = space.refusal(&node, &message);
    for part in [
        "100 MiB of the 600 MiB",
        "have no place",
        "100 MiB are reserved",
        "its file holds 400 MiB",
        "reserve 200 MiB to",
    ] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    assert!(fits_bytes.unwrap() > 200 * MIB);
    let message = with(&space, 500);
    assert!(matches!(space.say(&node.directory(), &line(&message)), Answer::Attached { .. }));
    // What it reserves is its place: it may reserve more, and no less.
    let refused = node.ask("PATCH", "/v1/spaces/large", r#"{"reservation":"50M"}"#).unwrap_err();
    assert!(refused.0 == 409 && refused.1.error.contains("50 MiB of the 600 MiB"), "{refused:?}");
    node.ask("PATCH", "/v1/spaces/large", r#"{"reservation":"150M"}"#).unwrap();
    node.ask("PATCH", "/v1/spaces/large", r#"{"reservation":"120M"}"#).unwrap();
}

#[test]
fn a_space_older_than_the_node_that_attaches_again_is_not_refused_for_want_of_memory() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("old");
    let header = space.header();
    header.reservation_bytes().store(8 << 30, Ordering::Relaxed);
    header.shares().store(77, Ordering::Relaxed);
    header.class().store(class::BATCH, Ordering::Relaxed);
    header.target_bytes().store(300 * MIB, Ordering::Relaxed);
    space.attach(&node, true);
    let shown = node.space("old");
    assert_eq!(
        (shown.intent.reservation_bytes, shown.intent.shares),
        (8 << 30, 77),
        "the intent is that of its header"
    );
    assert!(space.told_bytes() <= 1 << 30);
}

#[test]
fn what_is_not_a_space_of_this_version_is_refused() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    let good = space.message(false);
    let mut refused = |message, reason: &str| {
        let (why, _) = space.refusal(&node, &message);
        assert!(why.contains(reason), "{why}");
    };
    refused(
        memvisor_proto::attach::Attach { version: VERSION + 1, ..good.clone() },
        &format!("this node speaks {VERSION}"),
    );
    refused(memvisor_proto::attach::Attach { space_version: 99, ..good.clone() }, "version 99");
    refused(memvisor_proto::attach::Attach { id: "0".repeat(32), ..good.clone() }, "another number");
    refused(memvisor_proto::attach::Attach { id: "x".into(), ..good.clone() }, "32 hexadecimal digits");
    refused(memvisor_proto::attach::Attach { space_fd: 0, ..good.clone() }, "");
    refused(memvisor_proto::attach::Attach { space_fd: -1, ..good.clone() }, "cannot open the descriptor");
    space.header().version().store(98, Ordering::Relaxed);
    let (why, _) = space.refusal(&node, &good);
    assert!(why.contains("version 98"), "{why}");
    space.header().magic().store(7, Ordering::Relaxed);
    let (why, _) = space.refusal(&node, &good);
    assert!(why.contains("does not begin like a space"), "{why}");
    assert!(node.names().is_empty());
}

#[test]
fn a_line_that_is_no_message_is_answered_and_ends_the_connection() {
    let node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    for text in ["\n", "{}\n", "hello\n"] {
        assert!(matches!(space.say(&node.directory(), text), Answer::Refused { .. }), "{text}");
    }
    // A line without an end.
    let endless = "x".repeat(memvisor_proto::attach::LINE_BYTES_MAX + 1);
    assert!(matches!(space.say(&node.directory(), &endless), Answer::Refused { .. }));
    let alive = space.attach(&node, false).1;
    assert_eq!(alive, "x");
}

#[test]
fn a_rule_says_what_a_space_leaves_open() {
    let rules = "[classes.batch]\nshares = 250\n[[rule]]\nmatch = { name = \"job*\" }\nname = \"work\"\nclass = \"batch\"\nreservation = \"64M\"\n";
    let node = NodeProcess::start("1GiB", rules);
    let mut space = FakeSpace::new("job17");
    assert_eq!(space.attach(&node, false).1, "work");
    let intent = node.space("work").intent;
    assert_eq!((intent.shares, intent.reservation_bytes), (250, 64 * MIB));
    let compiled = std::fs::read_to_string(node.directory().join("rules")).unwrap();
    assert!(compiled.contains("name=job*\tmanage=1\tset-name=work\treservation=67108864"), "{compiled}");
}

/// Says that it attaches again, with a reservation that nobody promised.
#[test]
fn the_process_that_was_never_here() {
    let Some(directory) = std::env::var_os("MEMVISOR_TEST_DIRECTORY") else { return };
    let mut claims = FakeSpace::new("claims").reserve(8 << 30);
    claims.header().reservation_bytes().store(8 << 30, Ordering::Relaxed);
    println!("too much: {:?}", claims.say(Path::new(&directory), &line(&claims.message(true))));
    let mut modest = FakeSpace::new("modest").reserve(MIB);
    modest.header().reservation_bytes().store(8 << 30, Ordering::Relaxed);
    println!("modest: {:?}", modest.say(Path::new(&directory), &line(&modest.message(true))));
}

#[test]
fn a_space_younger_than_the_node_was_never_here_whatever_it_says_and_whoever_it_is() {
    let node = NodeProcess::start("1GiB", "");
    let directory = node.directory();
    let variables = [("MEMVISOR_TEST_DIRECTORY", directory.to_str().unwrap())];
    let mut own = std::process::Command::new(std::env::current_exe().unwrap());
    own.args(["--exact", "the_process_that_was_never_here", "--nocapture"]).envs(variables);
    let own = String::from_utf8_lossy(&own.output().unwrap().stdout).into_owned();
    let nobody = as_nobody(&node.scratch, "the_process_that_was_never_here", &variables);
    for said in [Some(own), nobody].into_iter().flatten() {
        assert!(said.contains("too much: Refused") && said.contains("8 GiB does not fit"), "{said}");
        assert!(said.contains("modest: Attached"), "it is a new one, and as a new one it fits: {said}");
    }
    assert!(node.host().reserved_bytes <= 2 * MIB);
}

/// Attaches a space of its own, and one that is another's.
#[test]
fn the_process_of_another_user() {
    let Some(directory) = std::env::var_os("MEMVISOR_TEST_DIRECTORY") else { return };
    let mut own = FakeSpace::new("own");
    let message = line(&own.message(false));
    println!("own: {:?}", own.say(Path::new(&directory), &message));
    let id = std::env::var("MEMVISOR_TEST_ID").unwrap();
    let mut stolen = FakeSpace::new("stolen");
    let halves = (u64::from_str_radix(&id[..16], 16).unwrap(), u64::from_str_radix(&id[16..], 16).unwrap());
    stolen.header().id_high().store(halves.0, Ordering::Relaxed);
    stolen.header().id_low().store(halves.1, Ordering::Relaxed);
    let message = memvisor_proto::attach::Attach { id, ..stolen.message(true) };
    println!("stolen: {:?}", stolen.say(Path::new(&directory), &line(&message)));
}

#[test]
fn a_user_attaches_spaces_of_his_own_and_takes_over_nobody_elses() {
    let node = NodeProcess::start("1GiB", "");
    let mut roots = FakeSpace::new("roots");
    roots.attach(&node, false);
    let id = node.space("roots").id;
    let directory = node.directory();
    let variables = [("MEMVISOR_TEST_DIRECTORY", directory.to_str().unwrap()), ("MEMVISOR_TEST_ID", id.as_str())];
    let Some(said) = as_nobody(&node.scratch, "the_process_of_another_user", &variables) else { return };
    assert!(said.contains("own: Attached"), "{said}");
    assert!(said.contains("stolen: Refused") && said.contains("belongs to another user"), "{said}");
    until("only that of root is left", || node.names() == ["roots"]);
}
