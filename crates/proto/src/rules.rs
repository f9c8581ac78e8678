//! Rules: which programs are managed without being started by hand, and how. A node writes them, one a line, into
//! `DIR/rules`; whoever starts programs reads them there.
//!
//! ```text
//!   memvisor-rules 1
//!   exe=/usr/bin/redis-server <tab> uid=110 <tab> manage=1 <tab> set-name=redis <tab> reservation=1073741824
//!   cgroup=/batch/* <tab> manage=0
//! ```
//! A backslash stands before `t`, `n` and itself where a value has a tab, a line end or a backslash. The first rule that
//! matches counts; a rule matches when all that it asks for is so.

use std::fmt;

/// The file, in the directory of a node.
pub const RULES_FILE: &str = "rules";
const FIRST_LINE: &str = "memvisor-rules 1";

/// A program, as far as rules ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subject<'a> {
    /// The path of its executable.
    pub exe: &'a str,
    /// Whose process it is.
    pub uid: u32,
    /// Its cgroup: the path below the root of the hierarchy.
    pub cgroup: &'a str,
    /// What it is called: the last part of the executable, or the name of its space.
    pub name: &'a str,
}

/// Whether a program is managed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Managed {
    /// It runs in a space.
    #[default]
    Yes,
    /// It runs plain.
    No,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// A pattern for the executable; `*` is any text, `?` any character.
    pub exe: Option<String>,
    /// Whose.
    pub uid: Option<u32>,
    /// A pattern for the cgroup.
    pub cgroup: Option<String>,
    /// A pattern for the name.
    pub name: Option<String>,
    /// Whether what matches is managed.
    pub managed: Managed,
    /// What its space is called.
    pub set_name: Option<String>,
    /// DRAM that it starts with, in bytes.
    pub dram_bytes: Option<u64>,
    /// DRAM that it is promised, in bytes.
    pub reservation_bytes: Option<u64>,
    /// The most DRAM, in bytes.
    pub limit_bytes: Option<u64>,
    /// Weight.
    pub shares: Option<u32>,
    /// Class by name.
    pub class: Option<String>,
    /// Path of its store.
    pub store: Option<String>,
}

impl Rule {
    /// Whether it speaks of `subject`.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let fits = |pattern: &Option<String>, text| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        fits(&self.exe, subject.exe)
            && self.uid.is_none_or(|uid| uid == subject.uid)
            && fits(&self.cgroup, subject.cgroup)
            && fits(&self.name, subject.name)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let managed = match self.managed {
            Managed::Yes => "1",
            Managed::No => "0",
        };
        let all = [
            ("exe", self.exe.clone()),
            ("uid", number(self.uid.map(u64::from))),
            ("cgroup", self.cgroup.clone()),
            ("name", self.name.clone()),
            ("manage", Some(managed.to_owned())),
            ("set-name", self.set_name.clone()),
            ("dram", number(self.dram_bytes)),
            ("reservation", number(self.reservation_bytes)),
            ("limit", number(self.limit_bytes)),
            ("shares", number(self.shares.map(u64::from))),
            ("class", self.class.clone()),
            ("store", self.store.clone()),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        let bytes = |value: &str| value.parse::<u64>().map_err(|_| format!("{key} is no number: {value}"));
        let small = |value: &str| value.parse::<u32>().map_err(|_| format!("{key} is no number: {value}"));
        match key {
            "exe" => self.exe = Some(value),
            "uid" => self.uid = Some(small(&value)?),
            "cgroup" => self.cgroup = Some(value),
            "name" => self.name = Some(value),
            "manage" => self.managed = if value == "0" { Managed::No } else { Managed::Yes },
            "set-name" => self.set_name = Some(value),
            "dram" => self.dram_bytes = Some(bytes(&value)?),
            "reservation" => self.reservation_bytes = Some(bytes(&value)?),
            "limit" => self.limit_bytes = Some(bytes(&value)?),
            "shares" => self.shares = Some(small(&value)?),
            "class" => self.class = Some(value),
            "store" => self.store = Some(value),
            _ => return Err(format!("{key} is not known")),
        }
        Ok(())
    }
}

/// Rules in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules(pub Vec<Rule>);

/// Why a text is no list of rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RulesError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rules, line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for RulesError {}

impl Rules {
    /// The first rule that speaks of `subject`.
    pub fn first_match(&self, subject: &Subject<'_>) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.matches(subject))
    }

    /// The text that [`Rules::parse`] reads.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        for rule in &self.0 {
            let fields: Vec<String> =
                rule.fields().iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
            text += &fields.join("\t");
            text.push('\n');
        }
        text
    }

    /// The rules that a text holds.
    ///
    /// # Errors
    /// Names the first line that is none.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line) != Some(FIRST_LINE) {
            return Err(RulesError { line: 1, reason: format!("it is not `{FIRST_LINE}`") });
        }
        let rule = |(at, line): (usize, &str)| parse_line(line).map_err(|reason| RulesError { line: at + 1, reason });
        lines.map(rule).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_line(line: &str) -> Result<Rule, String> {
    let mut rule = Rule::default();
    for field in line.split('\t') {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("no `=` in `{field}`"))?;
        rule.set(key, unescape(value)?)?;
    }
    Ok(rule)
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape(value: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => match letters.next() {
                Some('\\') => '\\',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                _ => return Err(format!("a backslash before nothing that it stands for in `{value}`")),
            },
            plain => plain,
        });
    }
    Ok(text)
}

/// Whether `text` is of the form `pattern`. Goes back to the last star only, so it takes no more steps than the product of
/// both lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut in_text) = (0, 0);
    let mut star = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[in_text] => {
                at += 1;
                in_text += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                at = after + 1;
                in_text = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REDIS: Subject<'_> =
        Subject { exe: "/usr/bin/redis-server", uid: 110, cgroup: "/system.slice/redis.service", name: "redis-server" };

    fn rule(exe: Option<&str>, uid: Option<u32>, cgroup: Option<&str>) -> Rule {
        Rule { exe: exe.map(Into::into), uid, cgroup: cgroup.map(Into::into), ..Rule::default() }
    }

    #[test]
    fn a_rule_matches_when_all_that_it_asks_for_is_so() {
        assert!(rule(Some("/usr/bin/redis*"), Some(110), Some("/system.slice/*")).matches(&REDIS));
        assert!(!rule(Some("/usr/bin/redis*"), Some(0), None).matches(&REDIS));
        assert!(!rule(None, Some(110), Some("/user.slice/*")).matches(&REDIS));
        assert!(rule(None, None, None).matches(&REDIS), "who asks for nothing means all");
        assert!(Rule { name: Some("redis-????er".into()), ..Rule::default() }.matches(&REDIS));
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let never = Rule { managed: Managed::No, ..rule(Some("*/redis-server"), None, None) };
        let rules = Rules(vec![rule(Some("/bin/x"), None, None), never.clone(), rule(None, None, None)]);
        assert_eq!(rules.first_match(&REDIS), Some(&never));
        assert_eq!(Rules::default().first_match(&REDIS), None);
    }

    #[test]
    fn stars_stand_for_any_text_and_for_none() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "", false),
            ("", "", true),
            ("", "x", false),
            ("*x", "xxy", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_line_that_is_no_rule_is_named() {
        let text = "memvisor-rules 1\nexe=/bin/a\tmanage=1\nshares=many\n";
        assert_eq!(Rules::parse(text).unwrap_err(), RulesError { line: 3, reason: "shares is no number: many".into() });
        assert_eq!(Rules::parse("").unwrap_err().line, 1);
        assert!(Rules::parse("memvisor-rules 1\ncolour=red\n").is_err());
    }

    fn some_rule() -> impl Strategy<Value = Rule> {
        let text = || prop::option::of(any::<String>());
        let number = || prop::option::of(any::<u64>());
        let asks = (text(), prop::option::of(any::<u32>()), text(), text(), any::<bool>());
        let sets = (text(), number(), number(), number(), prop::option::of(any::<u32>()), text(), text());
        (asks, sets).prop_map(|((exe, uid, cgroup, name, managed), sets)| {
            let (set_name, dram_bytes, reservation_bytes, limit_bytes, shares, class, store) = sets;
            let managed = if managed { Managed::Yes } else { Managed::No };
            Rule {
                exe,
                uid,
                cgroup,
                name,
                managed,
                set_name,
                dram_bytes,
                reservation_bytes,
                limit_bytes,
                shares,
                class,
                store,
            }
        })
    }

    proptest! {
        #[test]
        fn rules_come_back_as_they_were_written(rules in prop::collection::vec(some_rule(), 0..5)) {
            let rules = Rules(rules);
            prop_assert_eq!(Rules::parse(&rules.to_text()), Ok(rules));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = Rules::parse(&text);
            let _ = Rules::parse(&format!("{FIRST_LINE}\n{text}"));
        }
    }
}
