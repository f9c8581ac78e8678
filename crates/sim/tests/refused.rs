//! Files that are no scenario are refused with the line and the reason.

use memvisor_sim::scenario::Scenario;

const GOOD: &str = r#"title = "two spaces"
seed = 1
dram = "4GiB"
length = "1m"

[[group]]
name = "a"
footprint = "1GiB"
[[group.phase]]
working_set = "512M"
touches = 1000

[[group]]
name = "b"
footprint = "1GiB"
[[group.phase]]
idle = true

[[event]]
at = "10s"
group = "a"
set = { shares = 2 }

[[expect]]
figure = "target"
of = "a"
at_least = 0.1
"#;

/// Replaces a part of a good file, which must be there; gives the refusal.
fn refusal(part: &str, by: &str) -> String {
    assert!(GOOD.contains(part), "{part}");
    Scenario::parse(&GOOD.replacen(part, by, 1)).expect_err(by).to_string()
}

#[test]
fn a_good_file_is_read() {
    let scenario = Scenario::parse(GOOD).unwrap();
    assert_eq!((scenario.groups.len(), scenario.events.len(), scenario.expectations.len()), (2, 1, 1));
}

#[test]
fn a_bad_file_is_refused_with_its_line_and_reason() {
    for (part, by, line, reason) in [
        ("seed = 1", "seed = ", 2, ""),
        ("dram = \"4GiB\"", "dram = \"4Gob\"", 3, "`Gob` is not a unit"),
        ("dram = \"4GiB\"", "dram = 0", 3, "0 bytes of DRAM"),
        ("length = \"1m\"", "length = \"soon\"", 4, "`soon` is no time"),
        ("length = \"1m\"", "length = \"99h\"", 4, "periods"),
        ("length = \"1m\"", "length = \"1m\"\nlooks = 0", 5, "0 looks"),
        ("length = \"1m\"", "length = \"1m\"\ntax = 1.5", 5, "a tax is a part from 0 to 0.99"),
        ("name = \"b\"", "name = \"a\"", 14, "two groups called `a`"),
        ("footprint = \"1GiB\"", "footprint = \"1GiB\"\nshare = 3", 9, "unknown field `share`"),
        ("footprint = \"1GiB\"", "footprint = \"1GiB\"\nshares = 0", 9, "nonzero"),
        ("footprint = \"1GiB\"", "footprint = \"1GiB\"\ncount = 999999", 7, "spaces"),
        ("footprint = \"1GiB\"", "footprint = \"1GiB\"\nreservation = \"1G\"\nlimit = \"1M\"", 6, "above the limit"),
        ("working_set = \"512M\"", "working_set = \"2G\"", 9, "larger than the footprint"),
        ("touches = 1000", "touches = 1000\npattern = \"zipf\"", 9, "zipf has a `skew`"),
        ("touches = 1000", "touches = 1000\npattern = \"random\"", 12, "unknown variant `random`"),
        ("touches = 1000", "touches = 1000\npattern = \"toggle\"", 9, "a toggle has `every`"),
        ("touches = 1000", "", 9, "`working_set` and `touches`"),
        ("idle = true", "idle = true\ntouches = 5", 16, "an idle phase"),
        ("group = \"a\"\nset", "group = \"c\"\nset", 19, "there is no group `c`; there are: a, b"),
        ("group = \"a\"\nset = { shares = 2 }", "die = true", 19, "an event has"),
        ("of = \"a\"", "of = \"c\"", 24, "there is no group `c`"),
        ("at_least = 0.1", "", 24, "`at_least` or `at_most`"),
        ("at_least = 0.1", "at_least = 0.1\nfrom = \"50s\"\nto = \"40s\"", 24, "not in order"),
    ] {
        let refusal = refusal(part, by);
        assert!(refusal.starts_with(&format!("line {line}: ")) && refusal.contains(reason), "{by}: {refusal}");
    }
}

#[test]
fn a_file_without_expectations_is_refused() {
    let section = "[[expect]]\nfigure = \"target\"\nof = \"a\"\nat_least = 0.1\n";
    assert!(refusal(section, "").contains("missing field `expect`"));
    let empty = format!("expect = []\n{}", GOOD.replacen(section, "", 1));
    assert_eq!(Scenario::parse(&empty).unwrap_err().to_string(), "line 1: a scenario expects something: [[expect]]");
}
