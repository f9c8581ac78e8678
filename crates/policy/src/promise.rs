//! Reservations that the host cannot keep. Admission sees to it that it never comes to that; but DRAM may be taken from a host, and what
//! others use may grow.
//!
//! Classes are kept whole one after the other, the last to be sacrificed first. The first class that does not fit has
//! each reservation cut by the same part, and the classes after it have nothing reserved. So as few owners as possible
//! have a broken promise, and those are the ones that said that they can wait. To cut everybody by the same part would break
//! the promise to everybody.

use crate::Class;

/// A reservation of a space of some class, in bytes.
pub type Reservation = (Class, u64);

/// What of each reservation is kept in `capacity_bytes`, in bytes, in their order. The sum is no more than the capacity.
pub fn kept_bytes(reservations: &[Reservation], capacity_bytes: u64) -> Vec<u64> {
    let mut kept = vec![0; reservations.len()];
    let mut left = capacity_bytes;
    for class in [Class::Latency, Class::Standard, Class::Batch] {
        let reserved: u128 = reservations.iter().filter(|of| of.0 == class).map(|of| u128::from(of.1)).sum();
        let given = reserved.min(u128::from(left));
        for (kept, of) in kept.iter_mut().zip(reservations).filter(|(_, of)| of.0 == class) {
            // At most what is reserved, as `given` is at most their sum. Below 2^53 no product overflows.
            *kept = (u128::from(of.1) * given / reserved.max(1)) as u64;
        }
        left -= given as u64;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::{Batch, Latency, Standard};
    use proptest::prelude::*;

    #[test]
    fn what_fits_is_kept_whole() {
        assert_eq!(kept_bytes(&[(Batch, 3), (Latency, 5)], 8), [3, 5]);
        assert_eq!(kept_bytes(&[], 8), [0; 0]);
    }

    #[test]
    fn the_promise_to_batch_breaks_before_that_to_standard_and_to_latency_last() {
        let reservations = [(Batch, 100), (Latency, 100), (Standard, 100)];
        assert_eq!(kept_bytes(&reservations, 250), [50, 100, 100]);
        assert_eq!(kept_bytes(&reservations, 150), [0, 100, 50]);
        assert_eq!(kept_bytes(&reservations, 50), [0, 50, 0]);
    }

    #[test]
    fn within_a_class_all_are_cut_by_the_same_part() {
        assert_eq!(kept_bytes(&[(Batch, 300), (Batch, 100)], 200), [150, 50]);
    }

    proptest! {
        #[test]
        fn what_is_kept_fits_and_is_never_more_than_was_reserved(
            reserved in prop::collection::vec(0u64..1 << 50, 0..30), capacity in 0u64..1 << 54,
        ) {
            let class = |at: usize| [Batch, Standard, Latency][at % 3];
            let reservations: Vec<Reservation> = reserved.iter().enumerate().map(|(at, of)| (class(at), *of)).collect();
            let kept = kept_bytes(&reservations, capacity);
            prop_assert!(kept.iter().zip(&reserved).all(|(kept, reserved)| kept <= reserved));
            let (sum, wanted): (u64, u64) = (kept.iter().sum(), reserved.iter().sum());
            prop_assert!(sum <= capacity && sum + 30 >= capacity.min(wanted));
        }
    }
}
