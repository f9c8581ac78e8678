//! Admission: nothing is promised that the host lacks.
//!
//! ```text
//!   0           reservation                                  size
//!   ├── in DRAM ─────┼── in stores, if it must ────────────────┤        ├── overhead, in DRAM ──┤
//! ```
//!
//! What is reserved and the overhead have to be in DRAM, whatever the others do; what else the space may come to hold has to
//! find room in the stores when the others leave it no more than that (Waldspurger, OSDI 2002, §6.1: min and overhead in memory,
//! max − min on disk). Stores are counted as if nothing could be compressed.
//!
//! The size is what the space holds at most: the memory of a guest, what its owner says of a program. Where nobody says,
//! the limit bounds what it needs; where there is none either, nothing but the reservation is promised.

use crate::Intent;
use serde::{Deserialize, Serialize};

/// A space that asks to be admitted, or one that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What its owner wants.
    pub intent: Intent,
    /// What it holds at most, in bytes; `None` when nobody says.
    pub size_bytes: Option<u64>,
    /// Its memory that is not managed, in bytes.
    pub overhead_bytes: u64,
}

/// What there is, or what is needed, of DRAM and of stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// Of DRAM, in bytes. A host offers what is neither used by others nor kept free.
    pub dram_bytes: u64,
    /// Of stores, in bytes.
    pub stores_bytes: u64,
}

/// The answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// It is admitted.
    Admitted {
        /// What it needs.
        needs: Room,
        /// What can be promised to others after it.
        left: Room,
    },
    /// It is refused.
    Refused {
        /// What it needs.
        needs: Room,
        /// What can be promised.
        available: Room,
        /// What would be admitted.
        fits: Fit,
    },
    /// It is refused wherever it asks: the reservation is above the limit.
    Contradicted {
        /// What it would have reserved, in bytes.
        reservation_bytes: u64,
        /// What it must not exceed, in bytes.
        limit_bytes: u64,
    },
}

/// What would be admitted in place of what was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The same space with a reservation from one number to the other, in bytes.
    Reservation {
        /// The least: with less the stores are too small.
        least_bytes: u64,
        /// The most: with more there is not enough DRAM.
        most_bytes: u64,
    },
    /// A smaller space: of so many bytes, with so many of them reserved.
    Size {
        /// Its size, in bytes.
        size_bytes: u64,
        /// Its reservation, in bytes.
        reservation_bytes: u64,
    },
    /// None: not even the overhead fits.
    Nothing,
}

impl Request {
    /// What has to be there for it.
    pub fn needs(&self) -> Room {
        let reserved_bytes = self.intent.reserved_bytes();
        Room {
            dram_bytes: reserved_bytes.saturating_add(self.overhead_bytes),
            stores_bytes: self.most_bytes().unwrap_or(0).saturating_sub(reserved_bytes),
        }
    }

    /// What it may come to hold, in bytes, if that has a bound.
    fn most_bytes(&self) -> Option<u64> {
        self.size_bytes.or(self.intent.limit_bytes)
    }
}

impl Room {
    /// What is left after `needs`, if they fit.
    fn without(self, needs: Self) -> Option<Self> {
        Some(Self {
            dram_bytes: self.dram_bytes.checked_sub(needs.dram_bytes)?,
            stores_bytes: self.stores_bytes.checked_sub(needs.stores_bytes)?,
        })
    }

    /// What can be promised besides what was promised to those `admitted`. A host that lost DRAM since has none left.
    pub fn besides<'a>(self, admitted: impl IntoIterator<Item = &'a Request>) -> Self {
        admitted.into_iter().map(Request::needs).fold(self, |left, needs| Self {
            dram_bytes: left.dram_bytes.saturating_sub(needs.dram_bytes),
            stores_bytes: left.stores_bytes.saturating_sub(needs.stores_bytes),
        })
    }
}

/// Whether a host that can promise `available` admits `request`. For a change of an admitted space ask with what is available
/// [besides](Room::besides) the others.
pub fn admit(request: &Request, available: Room) -> Admission {
    let needs = request.needs();
    match (request.intent.limit_bytes, available.without(needs)) {
        (Some(limit_bytes), _) if request.intent.reservation_bytes > limit_bytes => {
            Admission::Contradicted { reservation_bytes: request.intent.reservation_bytes, limit_bytes }
        }
        (_, Some(left)) => Admission::Admitted { needs, left },
        (_, None) => Admission::Refused { needs, available, fits: fit(request, available) },
    }
}

/// What would be admitted. More reserved takes more DRAM and less of the stores, so there may be a window.
fn fit(request: &Request, available: Room) -> Fit {
    let Some(dram_bytes) = available.dram_bytes.checked_sub(request.overhead_bytes) else {
        return Fit::Nothing;
    };
    let limit_bytes = request.intent.limit_bytes.unwrap_or(u64::MAX);
    let size_bytes = request.most_bytes().unwrap_or(0);
    let most_bytes = dram_bytes.min(limit_bytes);
    let least_bytes = size_bytes.saturating_sub(available.stores_bytes);
    if least_bytes <= most_bytes {
        return Fit::Reservation { least_bytes, most_bytes };
    }
    let size_bytes = most_bytes.saturating_add(available.stores_bytes);
    if size_bytes == 0 { Fit::Nothing } else { Fit::Size { size_bytes, reservation_bytes: most_bytes } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(reservation_bytes: u64, size_bytes: u64, overhead_bytes: u64) -> Request {
        let intent = Intent { reservation_bytes, ..Intent::default() };
        Request { intent, size_bytes: Some(size_bytes), overhead_bytes }
    }

    fn room(dram_bytes: u64, stores_bytes: u64) -> Room {
        Room { dram_bytes, stores_bytes }
    }

    #[test]
    fn what_is_reserved_and_overhead_is_in_dram_and_the_rest_in_stores() {
        let admission = admit(&request(100, 300, 10), room(110, 200));
        assert_eq!(admission, Admission::Admitted { needs: room(110, 200), left: room(0, 0) });
    }

    #[test]
    fn one_byte_too_much_is_refused_with_what_would_fit() {
        let refused = |needs, available, fits| Admission::Refused { needs, available, fits };
        // Too little DRAM, but the stores could take what is not reserved.
        let available = room(109, 500);
        let fits = Fit::Reservation { least_bytes: 0, most_bytes: 99 };
        assert_eq!(admit(&request(100, 300, 10), available), refused(room(110, 200), available, fits));
        // Stores too small, but more could be reserved.
        let available = room(200, 199);
        let fits = Fit::Reservation { least_bytes: 101, most_bytes: 190 };
        assert_eq!(admit(&request(100, 300, 10), available), refused(room(110, 200), available, fits));
        // Neither.
        let available = room(100, 100);
        let fits = Fit::Size { size_bytes: 190, reservation_bytes: 90 };
        assert_eq!(admit(&request(100, 300, 10), available), refused(room(110, 200), available, fits));
        let available = room(9, 900);
        assert_eq!(admit(&request(100, 300, 10), available), refused(room(110, 200), available, Fit::Nothing));
    }

    #[test]
    fn a_reservation_above_the_limit_contradicts_itself() {
        let intent = Intent { reservation_bytes: 2, limit_bytes: Some(1), ..Intent::default() };
        let request = Request { intent, size_bytes: None, overhead_bytes: 0 };
        let contradicted = Admission::Contradicted { reservation_bytes: 2, limit_bytes: 1 };
        assert_eq!(admit(&request, room(1 << 40, 1 << 40)), contradicted);
    }

    #[test]
    fn without_a_size_the_limit_bounds_what_is_needed_and_without_either_only_the_reservation_is() {
        let intent = Intent { reservation_bytes: 10, limit_bytes: Some(30), ..Intent::default() };
        assert_eq!(Request { intent, size_bytes: None, overhead_bytes: 1 }.needs(), room(11, 20));
        assert_eq!(Request { intent, size_bytes: Some(90), overhead_bytes: 1 }.needs(), room(11, 80));
        let intent = Intent { limit_bytes: None, ..intent };
        assert_eq!(Request { intent, size_bytes: None, overhead_bytes: 1 }.needs(), room(11, 0));
    }

    #[test]
    fn what_was_promised_to_others_is_not_promised_again() {
        let admitted = [request(100, 300, 10), request(50, 50, 5)];
        assert_eq!(room(1000, 1000).besides(&admitted), room(835, 800));
        assert_eq!(room(100, 1000).besides(&admitted), room(0, 800));
    }

    fn requests() -> impl Strategy<Value = Request> {
        let bytes = || 0u64..1000;
        (bytes(), prop::option::of(bytes()), prop::option::of(bytes()), bytes()).prop_map(
            |(reservation_bytes, limit_bytes, size_bytes, overhead_bytes)| {
                let intent = Intent { reservation_bytes, limit_bytes, ..Intent::default() };
                Request { intent, size_bytes, overhead_bytes }
            },
        )
    }

    fn is_admitted(request: &Request, available: Room) -> bool {
        matches!(admit(request, available), Admission::Admitted { .. })
    }

    proptest! {
        #[test]
        fn what_is_said_to_fit_is_admitted_and_what_is_just_beyond_is_not(
            request in requests(), dram in 0u64..2000, stores in 0u64..1000,
        ) {
            let available = room(dram, stores);
            let with = |reservation_bytes: u64| {
                let intent = Intent { reservation_bytes, ..request.intent };
                is_admitted(&Request { intent, ..request }, available)
            };
            match admit(&request, available) {
                Admission::Refused { fits: Fit::Reservation { least_bytes, most_bytes }, .. } => {
                    prop_assert!(with(least_bytes) && with(most_bytes));
                    prop_assert!(least_bytes == 0 || !with(least_bytes - 1));
                    prop_assert!(!with(most_bytes + 1));
                }
                Admission::Refused { fits: Fit::Size { size_bytes, reservation_bytes }, .. } => {
                    let intent = Intent { reservation_bytes, ..request.intent };
                    let of = |size_bytes| is_admitted(&Request { intent, size_bytes: Some(size_bytes), ..request }, available);
                    prop_assert!(of(size_bytes) && !of(size_bytes + 1));
                    prop_assert!((0..2000).all(|reservation| !with(reservation)), "the same size would fit");
                }
                Admission::Refused { fits: Fit::Nothing, .. } => {
                    prop_assert!((0..2000).all(|reservation| !with(reservation)));
                }
                Admission::Admitted { .. } | Admission::Contradicted { .. } => {}
            }
        }

        #[test]
        fn promises_to_all_who_are_admitted_fit(
            requests in prop::collection::vec(requests(), 0..20), dram in 0u64..9000, stores in 0u64..9000,
        ) {
            let host = room(dram, stores);
            let mut admitted: Vec<Request> = Vec::new();
            for request in requests {
                if is_admitted(&request, host.besides(&admitted)) {
                    admitted.push(request);
                }
            }
            prop_assert!(admitted.iter().map(|request| request.needs().dram_bytes).sum::<u64>() <= dram);
            prop_assert!(admitted.iter().map(|request| request.needs().stores_bytes).sum::<u64>() <= stores);
        }
    }
}
