//! `memvisor set`: what is wanted for a space, changed while it runs.
//!
//! Words are checked here, so that a slip is answered at once and with what would be right; whether an amount fits is
//! the node's to say.

use super::args::SetArgs;
use super::node::Node;
use super::text::{class, clean, print, print_json};
use crate::exit::{Exit, Failure, Outcome};
use memvisor_node::wire::{Amount, Change, Class, Space};
use memvisor_proto::size::{Size, SizeError};
use std::error::Error;
use std::fmt;

/// The keys, as they are typed.
const KEYS: [&str; 5] = ["dram", "reservation", "limit", "shares", "class"];
/// The most shares: a node refuses more.
const SHARES_MAX: u32 = 1_000_000;

/// Why what was typed is no change.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// A key has no value.
    Odd(String),
    /// There is no such key.
    UnknownKey(String),
    /// The same key twice.
    Twice(String),
    /// `dram` says both already.
    DramAndPart(&'static str),
    /// The value of this key is no amount.
    NotASize(String, SizeError),
    /// The value is no number of shares.
    NotShares(String),
    /// The value is no class.
    NotAClass(String),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Odd(key) => write!(f, "`{}` has no value", clean(key)),
            ChangeError::UnknownKey(key) => write!(f, "a space has no `{}` that could be set", clean(key)),
            ChangeError::Twice(key) => write!(f, "`{key}` is set twice"),
            ChangeError::DramAndPart(part) => write!(f, "`dram` and `{part}` contradict each other"),
            ChangeError::NotASize(key, _) => write!(f, "cannot set `{key}`"),
            ChangeError::NotShares(text) => write!(f, "`{}` is not a number of shares", clean(text)),
            ChangeError::NotAClass(text) => write!(f, "`{}` is not a class", clean(text)),
        }
    }
}

impl Error for ChangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ChangeError::NotASize(_, error) => Some(error),
            ChangeError::Odd(_)
            | ChangeError::UnknownKey(_)
            | ChangeError::Twice(_)
            | ChangeError::DramAndPart(_)
            | ChangeError::NotShares(_)
            | ChangeError::NotAClass(_) => None,
        }
    }
}

impl Failure for ChangeError {
    fn way_out(&self) -> Option<String> {
        Some(match self {
            ChangeError::Odd(_) => "write keys and values in turn: memvisor set redis limit 1G shares 2000".into(),
            ChangeError::UnknownKey(_) => format!("use one of {}", KEYS.join(", ")),
            ChangeError::Twice(_) => "say it once".into(),
            ChangeError::DramAndPart(_) => {
                "`dram` sets reservation and limit to the same amount; set either it or those".into()
            }
            ChangeError::NotASize(key, _) if key == "limit" => {
                "memvisor set redis limit 1G; `none` takes the limit away".into()
            }
            ChangeError::NotASize(key, _) => format!("memvisor set redis {key} 1G"),
            ChangeError::NotShares(_) => format!("write a number from 1 to {SHARES_MAX}; 1000 is what all begin with"),
            ChangeError::NotAClass(_) => "use batch, standard or latency".into(),
        })
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Changes the space and prints what is in force then.
///
/// # Errors
/// When what was typed is no change, and when the node refuses it.
pub fn set(args: &SetArgs) -> Outcome {
    let change = change(&args.pairs)?;
    let node = Node::meant(&args.node)?;
    if args.json {
        return print_json(&node.change(&args.name, &change)?);
    }
    let space: Space = node.change(&args.name, &change)?;
    print(&text(&space))
}

fn text(space: &Space) -> String {
    let intent = &space.intent;
    let limit = intent.limit_bytes.map_or("none".into(), |bytes| Size(bytes).to_string());
    format!(
        "{}: reservation {} · limit {limit} · shares {} · class {} · target {} now\n",
        clean(&space.name),
        Size(intent.reservation_bytes),
        intent.shares,
        class(intent.class),
        Size(space.target_bytes)
    )
}

/// The change that keys and values in turn say.
fn change(words: &[String]) -> Result<Change, ChangeError> {
    let mut change = Change::default();
    for pair in words.chunks(2) {
        let [key, value] = pair else { return Err(ChangeError::Odd(pair[0].clone())) };
        put(&mut change, key, value)?;
    }
    let part = change.reservation.as_ref().map(|_| "reservation").or(change.limit.as_ref().map(|_| "limit"));
    match part.filter(|_| change.dram.is_some()) {
        Some(part) => Err(ChangeError::DramAndPart(part)),
        None => Ok(change),
    }
}

fn put(change: &mut Change, key: &str, value: &str) -> Result<(), ChangeError> {
    let size = || {
        let size = value.parse::<Size>().map_err(|error| ChangeError::NotASize(key.into(), error))?;
        Ok(Amount::Bytes(size.0))
    };
    let is_new = match key {
        "dram" => change.dram.replace(size()?).is_none(),
        "reservation" => change.reservation.replace(size()?).is_none(),
        "limit" if value == "none" => change.limit.replace(Amount::Text("none".into())).is_none(),
        "limit" => change.limit.replace(size()?).is_none(),
        "shares" => change.shares.replace(shares(value)?).is_none(),
        "class" => change.class.replace(class_named(value)?).is_none(),
        _ => return Err(ChangeError::UnknownKey(key.into())),
    };
    if is_new { Ok(()) } else { Err(ChangeError::Twice(key.into())) }
}

fn shares(text: &str) -> Result<u32, ChangeError> {
    let shares = text.parse().ok().filter(|shares| (1..=SHARES_MAX).contains(shares));
    shares.ok_or_else(|| ChangeError::NotShares(text.into()))
}

fn class_named(text: &str) -> Result<Class, ChangeError> {
    let classes = [Class::Batch, Class::Standard, Class::Latency];
    classes.into_iter().find(|known| class(*known) == text).ok_or_else(|| ChangeError::NotAClass(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Change, ChangeError> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        change(&words)
    }

    #[test]
    fn pairs_are_one_change() {
        let change = said("reservation 512M limit none shares 7 class latency").unwrap();
        assert_eq!(
            change,
            Change {
                dram: None,
                reservation: Some(Amount::Bytes(512 << 20)),
                limit: Some(Amount::Text("none".into())),
                shares: Some(7),
                class: Some(Class::Latency),
            }
        );
        assert_eq!(said("dram 1.5G").unwrap().dram, Some(Amount::Bytes(3 << 29)));
    }

    #[test]
    fn what_is_no_change_is_refused_with_what_would_be_right() {
        use ChangeError::{DramAndPart, NotAClass, NotASize, NotShares, Odd, Twice, UnknownKey};
        for (typed, error, right) in [
            ("limit 1G shares", Odd("shares".into()), "in turn"),
            ("ram 1G", UnknownKey("ram".into()), "dram, reservation"),
            ("limit 1G limit 2G", Twice("limit".into()), "once"),
            ("dram 1G limit 2G", DramAndPart("limit"), "either"),
            ("limit 2G dram 1G", DramAndPart("limit"), "either"),
            ("limit 2Q", NotASize("limit".into(), SizeError::UnknownUnit("Q".into())), "none"),
            ("dram -1", NotASize("dram".into(), SizeError::NoNumber("-1".into())), "dram 1G"),
            ("shares 0", NotShares("0".into()), "1 to 1000000"),
            ("shares 1000001", NotShares("1000001".into()), "1 to 1000000"),
            ("class gold", NotAClass("gold".into()), "batch, standard"),
        ] {
            let refused = said(typed).unwrap_err();
            assert!(refused.way_out().unwrap().contains(right), "{typed}: {refused:?}");
            assert_eq!((refused.exit(), refused), (Exit::Usage, error), "{typed}");
        }
    }
}
