//! What the workloads write into their memory: pages of which one half is random and the other a pattern.
//!
//! Such a page compresses to about half of its size, which is what real heaps do. The first word of each page is a
//! tag that only this page can have, so that a page which comes back as another page, or as zeros, is noticed by
//! the program that reads it.

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// Bytes of a page that are random; the rest repeats one word.
pub const RANDOM_BYTES: usize = 2048;

/// The word that fills the compressible half of a page.
const PATTERN: u64 = 0x0000_0020_2020_2020;

/// A xorshift generator: fast, repeatable, and good enough that its output does not compress.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for `seed`; any seed gives a usable one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Self(mix(seed) | 1);
        random.next_word();
        random
    }

    /// The next word of the sequence.
    #[inline]
    pub fn next_word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// An index below `bound`, which must not be zero. The bias is below 2⁻³⁰ for the sizes used here.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_word()) * bound as u128) >> 64) as usize
    }

    /// A number in `0.0..1.0`.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_word() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Spreads the bits of `word` over all 64: the finaliser of SplitMix64.
#[must_use]
#[inline]
pub fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The tag of page `index` in a set that was filled with `seed`. It is never zero.
#[must_use]
#[inline]
pub fn tag(seed: u64, index: usize) -> u64 {
    mix(seed ^ (index as u64).rotate_left(20)) | 1
}

/// Fills one page: tag, random half, pattern half.
///
/// # Panics
/// When `page` is not [`PAGE`] bytes long.
pub fn fill(page: &mut [u8], seed: u64, index: usize, random: &mut Random) {
    assert_eq!(page.len(), PAGE, "a page is filled whole");
    for (at, word) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = match at * 8 {
            0 => tag(seed, index),
            offset if offset < RANDOM_BYTES => random.next_word(),
            _ => PATTERN,
        }
        .to_le_bytes();
    }
}

/// Reads the tag of page `index` of `set` and compares it with the one that belongs there.
#[inline]
#[must_use]
pub fn is_true(set: &[u8], seed: u64, index: usize) -> bool {
    let start = index * PAGE;
    set[start..start + 8] == tag(seed, index).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_page_is_true_and_a_zero_or_misplaced_page_is_not() {
        let mut set = vec![0u8; 3 * PAGE];
        let mut random = Random::new(1);
        for index in 0..2 {
            fill(&mut set[index * PAGE..][..PAGE], 7, index, &mut random);
        }
        assert!(is_true(&set, 7, 0) && is_true(&set, 7, 1));
        assert!(!is_true(&set, 7, 2), "a page of zeros");
        set.copy_within(0..PAGE, PAGE);
        assert!(!is_true(&set, 7, 1), "the page of another index");
    }

    #[test]
    fn half_of_a_page_repeats_and_half_does_not() {
        let mut page = vec![0u8; PAGE];
        fill(&mut page, 7, 0, &mut Random::new(1));
        let words = page.as_chunks::<8>().0;
        let distinct: std::collections::HashSet<_> = words.iter().collect();
        assert_eq!(distinct.len(), RANDOM_BYTES / 8 + 1);
    }

    #[test]
    fn indices_stay_below_their_bound_and_reach_both_ends() {
        let mut random = Random::new(3);
        let drawn: Vec<usize> = (0..10_000).map(|_| random.below(10)).collect();
        assert!((0..10).all(|wanted| drawn.contains(&wanted)));
        assert!(drawn.iter().all(|&index| index < 10));
    }
}
