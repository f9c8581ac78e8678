//! Amounts and times as people write them in a scenario.

use memvisor_proto::size::Size;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// Bytes, written as a size or as a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bytes(pub u64);

/// Nanoseconds, written as `500ms`, `30s`, `10m`, `1h` or `8us`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Time(pub u64);

/// A text or a number of TOML.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a size such as \"512M\", or a number of bytes")]
enum TextOrNumber {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match TextOrNumber::deserialize(from)? {
            TextOrNumber::Number(bytes) => Ok(Self(bytes)),
            TextOrNumber::Text(text) => text.parse::<Size>().map(|size| Self(size.0)).map_err(D::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        time_ns(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no time: write a number and us, ms, s, m or h, such as 500ms or 10m"))
        })
    }
}

fn time_ns(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u64 = text[..end].parse().ok()?;
    let unit_ns: u64 = match text[end..].trim() {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit_ns)
}

/// A time as people read it.
pub(crate) fn told(ns: u64) -> String {
    match ns {
        _ if ns.is_multiple_of(1_000_000_000) => format!("{} s", ns / 1_000_000_000),
        _ if ns.is_multiple_of(1_000_000) => format!("{} ms", ns / 1_000_000),
        _ => format!("{} us", ns / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them_and_nothing_else_is() {
        assert_eq!(
            ["8us", "500ms", "30s", "2m", "1h"].map(time_ns),
            [Some(8_000), Some(500_000_000), Some(30_000_000_000), Some(120_000_000_000), Some(3_600_000_000_000)]
        );
        assert_eq!(["", "5", "s", "-1s", "1.5s", "3 days", "99999999999999999999s"].map(time_ns), [None; 7]);
    }

    #[test]
    fn a_time_is_told_in_the_largest_unit_that_is_exact() {
        assert_eq!([told(10_000_000_000), told(1_500_000_000), told(8_000)], ["10 s", "1500 ms", "8 us"]);
    }
}
