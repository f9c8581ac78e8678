//! `sort BYTES SEED`: sorts random 64-bit numbers in place; the result is in order and a permutation of what was there.

use super::{number, say};
use crate::pattern::{Dice, mix};

/// Two sums over the set of numbers that do not depend on their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Checksum {
    sum: u64,
    mixed: u64,
}

impl Checksum {
    fn of(numbers: &[u64]) -> Self {
        numbers.iter().fold(Self::default(), |at, &number| Self {
            sum: at.sum.wrapping_add(number),
            mixed: at.mixed.wrapping_add(mix(number)),
        })
    }
}

/// Runs it. Prints the checksum.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let count = number(arguments, 0, "BYTES")? / 8;
    let seed = number(arguments, 1, "SEED")?;
    let mut dice = Dice::new(seed);
    let mut expected = Checksum::default();
    let mut numbers: Vec<u64> = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let number = dice.roll();
        expected.sum = expected.sum.wrapping_add(number);
        expected.mixed = expected.mixed.wrapping_add(mix(number));
        numbers.push(number);
    }
    say("filled");
    numbers.sort_unstable();
    say("sorted");
    if let Some(at) = numbers.windows(2).position(|pair| pair[0] > pair[1]) {
        return Err(format!("seed {seed}: number {at} is greater than the next"));
    }
    let found = Checksum::of(&numbers);
    if found != expected {
        return Err(format!("seed {seed}: the checksum is {found:x?}, must be {expected:x?}"));
    }
    say(&format!("checksum {:016x}{:016x} of {count} numbers", found.sum, found.mixed));
    Ok(())
}
