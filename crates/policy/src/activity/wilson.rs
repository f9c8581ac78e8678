//! What a share may be that was found in a sample.

/// Standard deviations that hold 95 of 100.
const Z: f64 = 1.96;

/// The bounds of a share of which `touched` in a sample of `pages` were found, 95 times in 100 (Wilson, "Probable
/// inference", 1927): never below 0 or above 1, and not a point when none or all were found. Fractions of pages are
/// allowed: averages stand for them. (0, 1) for no sample.
pub fn wilson(touched: f64, pages: f64) -> (f64, f64) {
    within(Z, touched, pages)
}

/// The same with bounds that are `z` standard deviations away.
pub(super) fn within(z: f64, touched: f64, pages: f64) -> (f64, f64) {
    if pages <= 0.0 {
        return (0.0, 1.0);
    }
    let share = (touched / pages).clamp(0.0, 1.0);
    let square = z * z / pages;
    let middle = share + square / 2.0;
    let half = z * (share * (1.0 - share) / pages + square / (4.0 * pages)).sqrt();
    let bound = |value: f64| (value / (1.0 + square)).clamp(0.0, 1.0);
    (bound(middle - half).min(share), bound(middle + half).max(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_the_textbook() {
        // Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
        for (touched, pages, low, high) in [
            (81.0, 263.0, 0.2553, 0.3662),
            (15.0, 148.0, 0.0624, 0.1605),
            (0.0, 20.0, 0.0, 0.1611),
            (1.0, 29.0, 0.0061, 0.1718),
        ] {
            let (at_least, at_most) = wilson(touched, pages);
            assert!((at_least - low).abs() < 1e-4 && (at_most - high).abs() < 1e-4, "{at_least} {at_most}");
        }
    }

    #[test]
    fn a_small_sample_says_little() {
        assert_eq!(wilson(0.0, 0.0), (0.0, 1.0));
        let (low, high) = wilson(1.0, 2.0);
        assert!(high - low > 0.8, "{low} {high}");
    }
}
