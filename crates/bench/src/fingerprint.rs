//! What proves that a sort has lost nothing: sum and product over a prime field, which know no order.

/// A prime just below 2⁶¹, so that a product of two numbers below it fits into 128 bits with room to spare.
const PRIME: u128 = (1 << 61) - 1;

/// What a set of words is known by, in whatever order they come.
#[derive(Debug, PartialEq, Eq)]
pub struct Fingerprint {
    sum: u64,
    product: u128,
}

impl Fingerprint {
    /// That of `words`.
    #[must_use]
    pub fn of(words: &[u64]) -> Self {
        let sum = words.iter().fold(0u64, |sum, &word| sum.wrapping_add(word));
        // Shifted by a constant, so that a zero among the words does not hide all others.
        let product = words
            .iter()
            .fold(1u128, |product, &word| product * ((u128::from(word) + 0x9e37_79b9) % PRIME).max(1) % PRIME);
        Self { sum, product }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_knows_words_in_any_order_and_no_others() {
        let known = Fingerprint::of(&[0, 1, 2, u64::MAX]);
        assert_eq!(Fingerprint::of(&[u64::MAX, 2, 1, 0]), known);
        assert_ne!(Fingerprint::of(&[0, 1, 3, u64::MAX - 1]), known, "the same sum");
        assert_ne!(Fingerprint::of(&[0, 0, 0, 0]), known);
    }
}
