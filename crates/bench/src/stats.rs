//! Median and spread of a few numbers.

use serde_json::{Value, json};

/// Rounds from which on a median is a claim and not an impression.
pub const CLAIM_ROUNDS: usize = 10;

/// Median, quartiles and extremes of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// A quarter of the values lie below.
    pub quartile_1: f64,
    /// A quarter of the values lie above.
    pub quartile_3: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many values there were.
    pub count: usize,
}

impl Spread {
    /// The spread of `values`; none of no values. Values that are not numbers are left out.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Self {
            median: quantile(&sorted, 0.5),
            quartile_1: quantile(&sorted, 0.25),
            quartile_3: quantile(&sorted, 0.75),
            min,
            max,
            count: sorted.len(),
        })
    }

    /// All fields as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "median": self.median, "quartile_1": self.quartile_1, "quartile_3": self.quartile_3,
            "min": self.min, "max": self.max, "count": self.count,
        })
    }
}

/// Linear interpolation between the two nearest ranks (type 7 of Hyndman and Fan).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).expect("values");
        assert_eq!((spread.median, spread.quartile_1, spread.quartile_3), (2.5, 1.75, 3.25));
        assert_eq!((spread.min, spread.max, spread.count), (1.0, 4.0, 4));
    }

    #[test]
    fn nothing_has_no_spread() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
