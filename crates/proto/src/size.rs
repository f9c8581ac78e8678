//! Amounts of memory as people write them in arguments and in files, and as people read them.
//!
//! `512M`, `2GiB`, `1.5G` and `4096` are sizes. `K`, `M`, `G`, `T` and `KiB` … `TiB` are powers of 1024, as for memory;
//! `KB` … `TB` are powers of 1000, as for disks; a number alone is bytes.

use std::fmt;
use std::str::FromStr;

/// An amount of memory in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

/// Why a text is not a size.
#[derive(Debug, PartialEq, Eq)]
pub enum SizeError {
    /// Nothing was written.
    Empty,
    /// There is no number at the start; a sign is none.
    NoNumber(String),
    /// The unit is not one of ours.
    UnknownUnit(String),
    /// A part of a byte was asked for.
    PartOfByte(String),
    /// More than 2⁶⁴ bytes.
    TooLarge(String),
}

impl std::error::Error for SizeError {}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RIGHT: &str = "write a number and a unit, such as 512M, 2GiB or 1.5G";
        match self {
            SizeError::Empty => write!(f, "a size is missing: {RIGHT}"),
            SizeError::NoNumber(text) => write!(f, "`{text}` does not start with a number: {RIGHT}"),
            SizeError::UnknownUnit(unit) => write!(
                f,
                "`{unit}` is not a unit of memory: use K, M, G or T (powers of 1024, also KiB, MiB, GiB, TiB), KB, MB, GB \
                 or TB (powers of 1000), or none for bytes"
            ),
            SizeError::PartOfByte(text) => write!(f, "`{text}` is a part of a byte: {RIGHT}"),
            SizeError::TooLarge(text) => write!(f, "`{text}` is more than a machine can address: {RIGHT}"),
        }
    }
}

/// Bytes in a unit, which may be written in either case.
fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    })
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SizeError::Empty);
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..end], text[end..].trim());
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.contains('.') || (number.ends_with('.')) {
            return Err(SizeError::NoNumber(text.into()));
        }
        let unit = unit_bytes(unit).ok_or_else(|| SizeError::UnknownUnit(unit.into()))?;
        let too_large = || SizeError::TooLarge(text.into());
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let whole = whole.checked_mul(unit).ok_or_else(too_large)?;
        let part = fraction_bytes(fraction, unit);
        let bytes = whole.checked_add(part).ok_or_else(too_large)?;
        if unit == 1 && fraction.bytes().any(|digit| digit != b'0') {
            return Err(SizeError::PartOfByte(text.into()));
        }
        Ok(Self(bytes))
    }
}

/// The bytes of the decimal `fraction` of a unit, rounded down. Twelve digits tell every byte of a TiB apart.
fn fraction_bytes(fraction: &str, unit: u64) -> u64 {
    let digits = &fraction[..fraction.len().min(12)];
    let Ok(value) = digits.parse::<u128>() else { return 0 };
    (value * u128::from(unit) / 10u128.pow(digits.len() as u32)) as u64
}

impl fmt::Display for Size {
    /// Three significant digits and a binary unit: `1.50 GiB`, `512 MiB`, `17 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut unit = 0;
        let mut value = self.0 as f64;
        // 999.5 would be printed as 1000 of its unit.
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let digits = match (unit, value) {
            (0, _) => 0,
            (_, v) if v < 9.995 && v.fract() != 0.0 => 2,
            (_, v) if v < 99.95 && v.fract() != 0.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {}", UNITS[unit]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Result<u64, SizeError> {
        text.parse::<Size>().map(|size| size.0)
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("0", 0),
            ("17b", 17),
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("2GiB", 2 << 30),
            ("2 GiB", 2 << 30),
            (" 1T ", 1 << 40),
            ("1.5G", 3 << 29),
            ("0.5k", 512),
            ("10MB", 10_000_000),
            ("1.25MB", 1_250_000),
            ("2.0", 2),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_reason() {
        assert_eq!(size(""), Err(SizeError::Empty));
        assert_eq!(size("lots"), Err(SizeError::NoNumber("lots".into())));
        assert_eq!(size("-5M"), Err(SizeError::NoNumber("-5M".into())));
        assert_eq!(size("1.2.3G"), Err(SizeError::NoNumber("1.2.3G".into())));
        assert_eq!(size("1.G"), Err(SizeError::NoNumber("1.G".into())));
        assert_eq!(size(".5G"), Err(SizeError::NoNumber(".5G".into())));
        assert_eq!(size("512Q"), Err(SizeError::UnknownUnit("Q".into())));
        assert_eq!(size("1.5"), Err(SizeError::PartOfByte("1.5".into())));
        assert_eq!(size("99999999T"), Err(SizeError::TooLarge("99999999T".into())));
        assert_eq!(size("99999999999999999999"), Err(SizeError::TooLarge("99999999999999999999".into())));
    }

    #[test]
    fn every_refusal_says_what_would_be_right() {
        for text in ["", "lots", "512Q", "1.5", "99999999T"] {
            let said = size(text).unwrap_err().to_string();
            assert!(said.contains("512M") || said.contains("use K, M, G"), "{said}");
        }
    }

    #[test]
    fn sizes_are_printed_with_three_digits() {
        for (bytes, text) in [
            (17, "17 B"),
            (1000, "0.98 KiB"),
            (1 << 20, "1 MiB"),
            (512 << 20, "512 MiB"),
            (3 << 29, "1.50 GiB"),
            (1023 << 20, "1.00 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
