//! Rules as they are written in the configuration, and what they come to: a list that is matched without asking anybody.

use crate::config::{Bytes, Shares, StoreTable, Wrong};
use memvisor_policy::Class;
use memvisor_proto::rules::{Managed, RULES_FILE, Rule, Rules};
use serde::Deserialize;
use std::io;
use std::path::Path;
use toml::Spanned;

/// A `[[rule]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    #[serde(rename = "match")]
    asks: Spanned<Asks>,
    #[serde(default = "yes")]
    manage: bool,
    name: Option<Spanned<String>>,
    dram: Option<Bytes>,
    reservation: Option<Spanned<Bytes>>,
    limit: Option<Bytes>,
    shares: Option<Shares>,
    class: Option<Class>,
    store: Option<Spanned<String>>,
}

fn yes() -> bool {
    true
}

/// What a rule asks of a program.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asks {
    exe: Option<String>,
    user: Option<Spanned<User>>,
    cgroup: Option<String>,
    name: Option<String>,
}

/// A user by number or by name.
#[derive(Deserialize)]
#[serde(untagged, expecting = "the name or the number of a user")]
enum User {
    Number(u32),
    Name(String),
}

/// The rules that the tables mean, with users and stores found by their names.
///
/// # Errors
/// Says which part of the text is wrong, and why.
pub fn compile(tables: Vec<Spanned<RuleTable>>, stores: &[StoreTable], users: &str) -> Result<Rules, Wrong> {
    tables.into_iter().map(|table| compile_one(table.into_inner(), stores, users)).collect::<Result<_, _>>().map(Rules)
}

fn compile_one(table: RuleTable, stores: &[StoreTable], users: &str) -> Result<Rule, Wrong> {
    let span = table.asks.span();
    let asks = table.asks.into_inner();
    let uid = asks.user.map(|user| uid(user, users)).transpose()?;
    if asks.exe.is_none() && uid.is_none() && asks.cgroup.is_none() && asks.name.is_none() {
        return Err(("a rule says whom it means: by exe, user, cgroup or name".into(), span));
    }
    if let (Some(reservation), Some(limit)) = (&table.reservation, table.limit)
        && reservation.get_ref().0 > limit.0
    {
        return Err(("the reservation is more than the limit".into(), reservation.span()));
    }
    Ok(Rule {
        exe: asks.exe,
        uid,
        cgroup: asks.cgroup,
        name: asks.name,
        managed: if table.manage { Managed::Yes } else { Managed::No },
        set_name: table.name.map(name).transpose()?,
        dram_bytes: table.dram.map(|bytes| bytes.0),
        reservation_bytes: table.reservation.map(|bytes| bytes.into_inner().0),
        limit_bytes: table.limit.map(|bytes| bytes.0),
        shares: table.shares.map(|shares| shares.0),
        class: table.class.map(|class| class_name(class).to_owned()),
        store: table.store.map(|name| store(name, stores)).transpose()?,
    })
}

/// A name that can be a part of a path of the API.
fn name(name: Spanned<String>) -> Result<String, Wrong> {
    if crate::spaces::is_name(name.get_ref()) {
        Ok(name.into_inner())
    } else {
        Err((format!("`{}` is no name: use letters, digits and . _ - @", name.get_ref()), name.span()))
    }
}

fn store(name: Spanned<String>, stores: &[StoreTable]) -> Result<String, Wrong> {
    match stores.iter().find(|store| store.name == *name.get_ref()) {
        Some(store) => Ok(store.path.to_string_lossy().into_owned()),
        None => Err((format!("there is no [[store]] called `{}`", name.get_ref()), name.span())),
    }
}

fn uid(user: Spanned<User>, users: &str) -> Result<u32, Wrong> {
    let span = user.span();
    let name = match user.into_inner() {
        User::Number(uid) => return Ok(uid),
        User::Name(name) => name,
    };
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(&name)).then(|| fields.nth(1)?.parse().ok())?
    };
    users.lines().find_map(of_line).ok_or_else(|| (format!("there is no user `{name}`: write the number"), span))
}

/// What a class is called in files and messages.
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::Batch => "batch",
        Class::Standard => "standard",
        Class::Latency => "latency",
    }
}

/// The class that is called so.
pub fn class_named(name: &str) -> Option<Class> {
    [Class::Batch, Class::Standard, Class::Latency].into_iter().find(|class| class_name(*class) == name)
}

/// Writes the rules where those who start programs look for them, all at once or not at all.
///
/// # Errors
/// When the directory cannot be written to.
pub fn publish(rules: &Rules, directory: &Path) -> io::Result<()> {
    crate::state::replace_file(&directory.join(RULES_FILE), rules.to_text().as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    fn wrong(rule: &str) -> String {
        let text = format!("dram = \"1G\"\n[[rule]]\n{rule}");
        let users = "redis:x:110:115::/:/bin/false\n";
        Config::parse(&text, Path::new("node.toml"), users).unwrap_err().to_string()
    }

    #[test]
    fn what_a_rule_cannot_mean_is_refused_where_it_stands() {
        for (rule, start, reason) in [
            ("name = \"x\"", "node.toml, line 2, column 1: ", "missing field `match`"),
            ("match = {}", "node.toml, line 3, column 9: ", "says whom it means"),
            ("match = { user = \"nobody-here\" }", "node.toml, line 3, column 18: ", "no user `nobody-here`"),
            ("match = { uid = 7 }", "node.toml, line 3, column 11: ", "unknown field `uid`"),
            ("match = { user = 7 }\nstore = \"ssd\"", "node.toml, line 4, column 9: ", "no [[store]] called `ssd`"),
            ("match = { user = 7 }\nname = \"a/b\"", "node.toml, line 4, column 8: ", "is no name"),
            ("match = { user = 7 }\nclass = \"fast\"", "node.toml, line 4, column 9: ", "unknown variant `fast`"),
            (
                "match = { user = 7 }\nlimit = \"1M\"\nreservation = \"2M\"",
                "node.toml, line 5, column 15: ",
                "more than the limit",
            ),
        ] {
            let said = wrong(rule);
            assert!(said.starts_with(start) && said.contains(reason), "{rule:?}: {said}");
        }
    }
}
