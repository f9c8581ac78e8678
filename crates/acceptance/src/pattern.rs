//! Contents that can be told from any other: what a page holds is a function of its number and its version.
//!
//! A page that comes back at the wrong place, from an earlier time, as zeros or torn differs from what is expected.
//! The kinds of page are mixed, so that every way to store one is used: one word repeated, half random, text-like, and
//! random. A version's kind differs from that of the version before.

/// Words of 64 bits in a page.
pub const PAGE_WORDS: usize = 512;

/// A bijection that spreads every bit of `x` over the result (the finaliser of splitmix64).
pub const fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// What page `page` holds at `version`, as a rule for its words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    seed: u64,
    kind: Kind,
}

/// How well a page compresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// One word, repeated.
    Filled,
    /// Random words, then one word repeated.
    Half,
    /// Few different words in random order.
    Text,
    /// Random words.
    Random,
}

impl Pattern {
    /// The contents of page `page` at `version`.
    pub const fn new(page: u64, version: u64) -> Self {
        let seed = mix(page.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(version));
        let kind = match seed >> 61 {
            0 => Kind::Filled,
            1..=3 => Kind::Half,
            4 | 5 => Kind::Text,
            _ => Kind::Random,
        };
        Self { seed, kind }
    }

    /// The word at `at` of the page.
    pub const fn word(self, at: usize) -> u64 {
        match self.kind {
            Kind::Filled => self.seed,
            Kind::Half if at >= PAGE_WORDS / 2 => self.seed,
            Kind::Text => mix(self.seed ^ (mix(self.seed.wrapping_add(at as u64)) & 15)),
            Kind::Half | Kind::Random => mix(self.seed.wrapping_add(at as u64)),
        }
    }

    /// Writes the page.
    pub fn fill(self, words: &mut [u64]) {
        for (at, word) in words.iter_mut().enumerate() {
            *word = self.word(at);
        }
    }

    /// Compares the page.
    ///
    /// # Errors
    /// The first word that differs.
    pub fn check(self, words: &[u64]) -> Result<(), Mismatch> {
        for (at, &found) in words.iter().enumerate() {
            let expected = self.word(at);
            if found != expected {
                return Err(Mismatch { at, found, expected });
            }
        }
        Ok(())
    }
}

/// A word that is not what was written there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Its place in the page.
    pub at: usize,
    /// What is there.
    pub found: u64,
    /// What was written.
    pub expected: u64,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "word {} is {:#018x}, must be {:#018x}", self.at, self.found, self.expected)
    }
}

/// Pseudo-random numbers from a printed seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(bound)) >> 64) as u64
    }
}

/// Visits `0..count` once each, in an order that looks random and needs no memory: an affine walk whose step has no
/// factor in common with `count`.
pub fn scattered(count: u64, seed: u64) -> impl Iterator<Item = u64> {
    let mut step = (mix(seed) % count.max(1)) | 1;
    while gcd(step, count) != 1 {
        step += 2;
    }
    let start = mix(seed ^ 1) % count.max(1);
    (0..count).map(move |at| ((u128::from(at) * u128::from(step) + u128::from(start)) % u128::from(count)) as u64)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_not_taken_for_its_neighbour_its_past_or_zeros() {
        let mut words = [0; PAGE_WORDS];
        for page in 0..200 {
            Pattern::new(page, 7).fill(&mut words);
            assert_eq!(Pattern::new(page, 7).check(&words), Ok(()));
            assert!(Pattern::new(page + 1, 7).check(&words).is_err());
            assert!(Pattern::new(page, 6).check(&words).is_err());
            assert!(Pattern::new(page, 7).check(&[0; PAGE_WORDS]).is_err());
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_found() {
        let mut words = [0; PAGE_WORDS];
        for page in 0..16 {
            let pattern = Pattern::new(page, 1);
            pattern.fill(&mut words);
            for at in [0, 255, 256, PAGE_WORDS - 1] {
                words[at] ^= 1 << (page * 4);
                assert_eq!(pattern.check(&words).map_err(|mismatch| mismatch.at), Err(at));
                words[at] ^= 1 << (page * 4);
            }
        }
    }

    #[test]
    fn a_scattered_walk_visits_everything_once() {
        for count in [1, 2, 3, 64, 1000, 4096] {
            let mut seen: Vec<u64> = scattered(count, count ^ 5).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..count));
        }
    }
}
