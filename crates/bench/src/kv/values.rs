//! Values that can be derived from key and version alone, so that each one read can be verified.
//!
//! ```text
//!   | key 8 | version 8 | random bytes drawn from key and version … half of the value | blanks … |
//! ```

use crate::pages::{Random, mix};

/// The least length of a value: key, version and one random word.
pub const LENGTH_MIN: usize = 24;

/// Writes the value of `key` at `version` into all of `out`.
///
/// # Panics
/// When `out` is shorter than [`LENGTH_MIN`].
pub fn write(out: &mut [u8], key: u64, version: u64) {
    assert!(out.len() >= LENGTH_MIN, "a value has {LENGTH_MIN} bytes at least");
    let half = (out.len() / 2).max(LENGTH_MIN);
    let (random_part, blanks) = out.split_at_mut(half);
    random_part[..8].copy_from_slice(&key.to_le_bytes());
    random_part[8..16].copy_from_slice(&version.to_le_bytes());
    let mut random = Random::new(seed(key, version));
    for piece in random_part[16..].chunks_mut(8) {
        piece.copy_from_slice(&random.next_word().to_le_bytes()[..piece.len()]);
    }
    blanks.fill(b' ');
}

/// Why a value is not the one that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It has another length.
    Length(usize),
    /// It is the value of another key.
    Key(u64),
    /// It is an older or newer value of this key.
    Version(u64),
    /// Its bytes are not those that belong to its key and version.
    Bytes,
}

/// Checks that `value` is what [`write()`] gives for `key`, at `version` or, with none, at the version that it names.
///
/// `scratch` is used to build the expected value; its contents do not matter.
///
/// # Errors
/// The first difference.
pub fn check(value: &[u8], length: usize, key: u64, version: Option<u64>, scratch: &mut Vec<u8>) -> Result<(), Wrong> {
    if value.len() != length {
        return Err(Wrong::Length(value.len()));
    }
    let named_key = word(value, 0);
    if named_key != key {
        return Err(Wrong::Key(named_key));
    }
    let named_version = word(value, 8);
    if version.is_some_and(|version| version != named_version) {
        return Err(Wrong::Version(named_version));
    }
    scratch.resize(length, 0);
    write(scratch, key, named_version);
    if scratch == value { Ok(()) } else { Err(Wrong::Bytes) }
}

fn seed(key: u64, version: u64) -> u64 {
    mix(key ^ mix(version))
}

fn word(value: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| value[at + byte]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_true_for_its_own_key_and_version_only() {
        let mut value = vec![0; 100];
        let mut scratch = Vec::new();
        write(&mut value, 5, 2);
        assert_eq!(check(&value, 100, 5, Some(2), &mut scratch), Ok(()));
        assert_eq!(check(&value, 100, 5, None, &mut scratch), Ok(()));
        assert_eq!(check(&value, 100, 6, None, &mut scratch), Err(Wrong::Key(5)));
        assert_eq!(check(&value, 100, 5, Some(3), &mut scratch), Err(Wrong::Version(2)));
        assert_eq!(check(&value[1..], 100, 5, None, &mut scratch), Err(Wrong::Length(99)));
    }

    #[test]
    fn any_flipped_byte_is_found() {
        let mut value = vec![0; 101];
        let mut scratch = Vec::new();
        write(&mut value, 5, 2);
        for at in 0..value.len() {
            value[at] ^= 1;
            assert!(check(&value, 101, 5, Some(2), &mut scratch).is_err(), "byte {at}");
            value[at] ^= 1;
        }
    }
}
