//! `memvisor sim`: exit codes and what is said.

mod common;

use common::{Directory, memvisor, said};
use std::path::PathBuf;

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../sim/scenarios").join(name)
}

#[test]
fn a_scenario_that_holds_gives_0_and_ends_with_its_figure() {
    let said = said(memvisor(["sim"]).arg(shipped("shares.toml")));
    assert_eq!(said.code, 0, "{}", said.err);
    let last = said.out.lines().last().unwrap();
    assert!(last.starts_with("holds: all 3 expectations; target of double"), "{last}");
    assert!(said.err.contains("600 plans: median "), "{}", said.err);
}

#[test]
fn a_scenario_that_does_not_hold_gives_1_and_says_which_figure() {
    let directory = Directory::new("sim-false");
    let text = std::fs::read_to_string(shipped("shares.toml")).unwrap();
    let file = directory.file("even.toml");
    std::fs::write(&file, text.replace("shares = 2000", "shares = 1000")).unwrap();
    let said = said(memvisor(["sim"]).arg(&file));
    assert_eq!(said.code, 1);
    let last = said.out.lines().last().unwrap();
    assert!(last.starts_with("DOES NOT HOLD: 2 of 3 expectations; target of double"), "{last}");
}

#[test]
fn a_bad_scenario_gives_2_with_its_line() {
    let directory = Directory::new("sim-bad");
    let file = directory.file("bad.toml");
    std::fs::write(&file, "title = \"x\"\nseed = many\n").unwrap();
    said(memvisor(["sim"]).arg(&file)).complains(2, &["bad.toml is no scenario: line 2: ", "way out: "]);
    said(&mut memvisor(["sim", "/no/such.toml"])).complains(125, &["cannot read /no/such.toml"]);
    said(&mut memvisor(["sim"])).complains(2, &["SCENARIO.toml"]);
}

#[test]
fn json_is_the_same_twice_and_plots_are_drawn() {
    let directory = Directory::new("sim-json");
    let run =
        |plot: &str| said(memvisor(["sim", "--json", "--plot"]).arg(directory.file(plot)).arg(shipped("shares.toml")));
    let (first, second) = (run("a.png"), run("a.svg"));
    assert_eq!((first.code, &first.out), (0, &second.out), "{}", first.err);
    let value: serde_json::Value = serde_json::from_str(&first.out).unwrap();
    assert_eq!((value["holds"].as_bool(), value["samples"].as_array().map(Vec::len)), (Some(true), Some(600)));
    assert!(std::fs::read(directory.file("a.png")).unwrap().starts_with(b"\x89PNG"));
    assert!(std::fs::read_to_string(directory.file("a.svg")).unwrap().contains("<svg"));
    assert_eq!(run("a.gif").code, 2);
}

#[test]
fn recorded_plans_come_out_again_and_a_changed_byte_is_found() {
    let directory = Directory::new("sim-replay");
    let record = directory.file("plans.jsonl");
    said(memvisor(["sim", "--record"]).arg(&record).arg(shipped("shares.toml")));
    let replay = || said(memvisor(["sim", "--replay"]).arg(&record));
    let same = replay();
    assert_eq!((same.code, same.out.as_str()), (0, "600 plans were made again, all the same\n"));

    let mut text = std::fs::read_to_string(&record).unwrap();
    let at = text.rfind("\"goal_bytes\":").unwrap() + "\"goal_bytes\":".len();
    let other = if text.as_bytes()[at] == b'1' { "2" } else { "1" };
    text.replace_range(at..=at, other);
    std::fs::write(&record, text).unwrap();
    let differs = replay();
    assert_eq!(differs.code, 1);
    for part in
        ["line 600", "plan.grants[3].reason.goal_bytes", "recorded", "planned", "599 plans before it were the same"]
    {
        assert!(differs.out.contains(part), "{}", differs.out);
    }
}
