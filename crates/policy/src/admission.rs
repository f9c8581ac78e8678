//! Admission: nothing is promised that the host lacks.
//!
//! ```text
//!   0           reservation                                  size
//!   ├── in DRAM ─────┼── in its file, if it must ────────────────┤        ├── overhead, in DRAM ──┤
//! ```
//!
//! What is reserved and the overhead have to be in DRAM, whatever the others do; what else the space may come to hold has to
//! find room in its store when the others leave it no more than that (Waldspurger, OSDI 2002, §6.1: min and overhead in memory,
//! max − min on disk). Stores are counted as if nothing could be compressed; compressed RAM is DRAM.
//!
//! Three rules, and nothing is promised beside them:
//!
//! 1. Reservation and overhead fit the DRAM that nobody was promised.
//! 2. The file of a space that lies in a store of the host takes its whole size of it, since it may grow so far whatever
//!    anybody says; that fits what nobody was promised there. A file anywhere else is its owner's matter.
//! 3. If the space says how much it holds at most, that is no more than its reservation and its file. A space that says nothing is
//!    promised nothing: its pager denies it what cannot be held. A limit is no such word: it bounds DRAM, and not what lies in stores.

use crate::Intent;
use serde::{Deserialize, Serialize};

/// The file that takes of a space what DRAM does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum File {
    /// It lies where the host promises nothing. A space without a file has one of no bytes.
    Own {
        /// What it can hold, in bytes.
        bytes: u64,
    },
    /// It lies in a store of the host.
    InStore {
        /// What it can hold, in bytes.
        bytes: u64,
    },
}

impl File {
    /// What it can hold, in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Own { bytes } | Self::InStore { bytes } => bytes,
        }
    }
}

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
    /// Where the rest goes.
    pub file: File,
}

/// What there is, or what is needed, of DRAM and of the store in which the file of a space lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// Of DRAM, in bytes. A host offers what is neither used by others nor kept free.
    pub dram_bytes: u64,
    /// Of the store, in bytes.
    pub store_bytes: u64,
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
        /// The least: with less its file is too small.
        least_bytes: u64,
        /// The most: with more there is not enough DRAM.
        most_bytes: u64,
    },
    /// The same space with a file from one number to the other, in bytes.
    File {
        /// The least: with less it cannot hold what is not reserved.
        least_bytes: u64,
        /// The most: the store has no more.
        most_bytes: u64,
    },
    /// A space of no more than these three.
    Size {
        /// Its size, in bytes.
        size_bytes: u64,
        /// Its reservation, in bytes.
        reservation_bytes: u64,
        /// Its file, in bytes.
        file_bytes: u64,
    },
    /// None: not even the overhead fits.
    Nothing,
}

impl Request {
    /// What has to be there for it.
    pub fn needs(&self) -> Room {
        Room {
            dram_bytes: self.intent.reserved_bytes().saturating_add(self.overhead_bytes),
            store_bytes: match self.file {
                File::Own { .. } => 0,
                File::InStore { bytes } => bytes,
            },
        }
    }

    /// What of its size has no place, in bytes: neither reserved nor in its file.
    pub fn homeless_bytes(&self) -> u64 {
        let held_bytes = self.intent.reserved_bytes().saturating_add(self.file.bytes());
        self.size_bytes.unwrap_or(0).saturating_sub(held_bytes)
    }
}

impl Room {
    /// What is left after `needs`, if they fit.
    fn without(self, needs: Self) -> Option<Self> {
        Some(Self {
            dram_bytes: self.dram_bytes.checked_sub(needs.dram_bytes)?,
            store_bytes: self.store_bytes.checked_sub(needs.store_bytes)?,
        })
    }

    /// What can be promised besides what was promised to those `admitted`, of whom those count as in the store whose files lie in the
    /// same. A host that lost DRAM since has none left.
    pub fn besides<'a>(self, admitted: impl IntoIterator<Item = &'a Request>) -> Self {
        admitted.into_iter().map(Request::needs).fold(self, |left, needs| Self {
            dram_bytes: left.dram_bytes.saturating_sub(needs.dram_bytes),
            store_bytes: left.store_bytes.saturating_sub(needs.store_bytes),
        })
    }
}

/// Whether a host that can promise `available` admits `request`. For a change of an admitted space ask with what is available
/// [besides](Room::besides) the others.
pub fn admit(request: &Request, available: Room) -> Admission {
    let needs = request.needs();
    let left = available.without(needs).filter(|_| request.homeless_bytes() == 0);
    match (request.intent.limit_bytes, left) {
        (Some(limit_bytes), _) if request.intent.reservation_bytes > limit_bytes => {
            Admission::Contradicted { reservation_bytes: request.intent.reservation_bytes, limit_bytes }
        }
        (_, Some(left)) => Admission::Admitted { needs, left },
        (_, None) => Admission::Refused { needs, available, fits: fit(request, available) },
    }
}

/// What would be admitted: with as little changed as can be. More reserved needs a smaller file, so there may be a window.
fn fit(request: &Request, available: Room) -> Fit {
    let Some(dram_bytes) = available.dram_bytes.checked_sub(request.overhead_bytes) else {
        return Fit::Nothing;
    };
    let most_reserved = dram_bytes.min(request.intent.limit_bytes.unwrap_or(u64::MAX));
    let most_filed = match request.file {
        File::Own { bytes } => bytes,
        File::InStore { .. } => available.store_bytes,
    };
    let (reserved, filed) = (request.intent.reserved_bytes(), request.file.bytes());
    let beside = |bytes: u64| request.size_bytes.unwrap_or(0).saturating_sub(bytes);
    if filed <= most_filed && beside(filed) <= most_reserved {
        Fit::Reservation { least_bytes: beside(filed), most_bytes: most_reserved }
    } else if reserved <= most_reserved && beside(reserved) <= most_filed {
        Fit::File { least_bytes: beside(reserved), most_bytes: most_filed }
    } else {
        let size_bytes = most_reserved.saturating_add(most_filed);
        match size_bytes {
            0 => Fit::Nothing,
            _ => Fit::Size { size_bytes, reservation_bytes: most_reserved, file_bytes: most_filed },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(reservation_bytes: u64, size_bytes: u64, overhead_bytes: u64, file_bytes: u64) -> Request {
        let intent = Intent { reservation_bytes, ..Intent::default() };
        Request { intent, size_bytes: Some(size_bytes), overhead_bytes, file: File::InStore { bytes: file_bytes } }
    }

    fn room(dram_bytes: u64, store_bytes: u64) -> Room {
        Room { dram_bytes, store_bytes }
    }

    #[test]
    fn what_is_reserved_and_overhead_is_in_dram_and_the_rest_in_its_file() {
        let admission = admit(&request(100, 300, 10, 200), room(110, 200));
        assert_eq!(admission, Admission::Admitted { needs: room(110, 200), left: room(0, 0) });
    }

    #[test]
    fn one_byte_too_much_is_refused_with_what_would_fit() {
        let refused = |request: Request, available| match admit(&request, available) {
            Admission::Refused { needs, available: told, fits } if told == available => (needs, fits),
            other => panic!("{other:?}"),
        };
        let (as_asked, needs) = (request(100, 300, 10, 200), room(110, 200));
        // Too little DRAM, but a larger file could take what is not reserved.
        let fits = Fit::Size { size_bytes: 599, reservation_bytes: 99, file_bytes: 500 };
        assert_eq!(refused(as_asked, room(109, 500)), (needs, fits));
        let fits = Fit::Reservation { least_bytes: 50, most_bytes: 99 };
        assert_eq!(refused(request(100, 300, 10, 250), room(109, 500)), (room(110, 250), fits));
        // The file is larger than what is left of the store, and then not all has a place.
        let fits = Fit::Size { size_bytes: 389, reservation_bytes: 190, file_bytes: 199 };
        assert_eq!(refused(as_asked, room(200, 199)), (needs, fits));
        let fits = Fit::File { least_bytes: 150, most_bytes: 199 };
        assert_eq!(refused(request(100, 250, 10, 200), room(200, 199)), (needs, fits));
        // The file is too small for what the space says that it holds.
        let fits = Fit::Reservation { least_bytes: 101, most_bytes: 190 };
        assert_eq!(refused(request(100, 300, 10, 199), room(200, 900)), (room(110, 199), fits));
        let fits = Fit::File { least_bytes: 200, most_bytes: 900 };
        assert_eq!(refused(request(100, 300, 10, 199), room(110, 900)), (room(110, 199), fits));
        assert_eq!(refused(as_asked, room(9, 900)), (needs, Fit::Nothing));
    }

    #[test]
    fn a_file_that_is_its_owners_own_takes_nothing_from_the_host() {
        let own = Request { file: File::Own { bytes: 200 }, ..request(100, 300, 10, 0) };
        assert_eq!(admit(&own, room(110, 0)), Admission::Admitted { needs: room(110, 0), left: room(0, 0) });
        let small = Request { file: File::Own { bytes: 150 }, ..own };
        let fits = Fit::Reservation { least_bytes: 150, most_bytes: 490 };
        assert!(matches!(admit(&small, room(500, 0)), Admission::Refused { fits: told, .. } if told == fits));
    }

    #[test]
    fn who_says_no_size_is_promised_its_reservation_and_its_file_whatever_its_limit() {
        let intent = Intent { reservation_bytes: 10, limit_bytes: Some(30), ..Intent::default() };
        let silent = Request { intent, size_bytes: None, overhead_bytes: 1, file: File::InStore { bytes: 7 } };
        assert_eq!(admit(&silent, room(11, 7)), Admission::Admitted { needs: room(11, 7), left: room(0, 0) });
        let fits = Fit::File { least_bytes: 0, most_bytes: 6 };
        assert!(matches!(admit(&silent, room(11, 6)), Admission::Refused { fits: told, .. } if told == fits));
    }

    #[test]
    fn a_reservation_above_the_limit_contradicts_itself() {
        let intent = Intent { reservation_bytes: 2, limit_bytes: Some(1), ..Intent::default() };
        let request = Request { intent, ..request(0, 0, 0, 0) };
        let contradicted = Admission::Contradicted { reservation_bytes: 2, limit_bytes: 1 };
        assert_eq!(admit(&request, room(1 << 40, 1 << 40)), contradicted);
    }

    #[test]
    fn what_was_promised_to_others_is_not_promised_again() {
        let admitted = [request(100, 300, 10, 200), request(50, 50, 5, 0)];
        assert_eq!(room(1000, 1000).besides(&admitted), room(835, 800));
        assert_eq!(room(100, 1000).besides(&admitted), room(0, 800));
    }

    fn requests() -> impl Strategy<Value = Request> {
        let bytes = || 0u64..1000;
        let file = (bytes(), any::<bool>())
            .prop_map(|(bytes, is_own)| if is_own { File::Own { bytes } } else { File::InStore { bytes } });
        (bytes(), prop::option::of(bytes()), prop::option::of(bytes()), bytes(), file).prop_map(
            |(reservation_bytes, limit_bytes, size_bytes, overhead_bytes, file)| {
                let intent = Intent { reservation_bytes, limit_bytes, ..Intent::default() };
                Request { intent, size_bytes, overhead_bytes, file }
            },
        )
    }

    fn is_admitted(request: &Request, available: Room) -> bool {
        matches!(admit(request, available), Admission::Admitted { .. })
    }

    proptest! {
        #[test]
        fn what_is_said_to_fit_is_admitted_and_what_is_just_beyond_is_not(
            request in requests(), dram in 0u64..2000, store in 0u64..1000,
        ) {
            let available = room(dram, store);
            let reserving = |request: &Request, reservation_bytes: u64| {
                let intent = Intent { reservation_bytes, ..request.intent };
                Request { intent, ..*request }
            };
            let reserves = |reservation: u64| is_admitted(&reserving(&request, reservation), available);
            let filing = |request: &Request, bytes: u64| match request.file {
                File::Own { .. } => *request,
                File::InStore { .. } => Request { file: File::InStore { bytes }, ..*request },
            };
            let files = |bytes: u64| is_admitted(&filing(&request, bytes), available);
            match admit(&request, available) {
                Admission::Refused { fits: Fit::Reservation { least_bytes, most_bytes }, .. } => {
                    prop_assert!(reserves(least_bytes) && reserves(most_bytes));
                    prop_assert!(least_bytes == 0 || !reserves(least_bytes - 1));
                    prop_assert!(!reserves(most_bytes + 1));
                }
                Admission::Refused { fits: Fit::File { least_bytes, most_bytes }, .. } => {
                    prop_assert!(files(least_bytes) && files(most_bytes));
                    prop_assert!(least_bytes == 0 || !files(least_bytes - 1));
                    prop_assert!(!files(most_bytes + 1));
                    prop_assert!((0..2000).all(|reservation| !reserves(reservation)), "its file would fit as it is");
                }
                Admission::Refused { fits: Fit::Size { size_bytes, reservation_bytes, file_bytes }, .. } => {
                    let with = |size: u64, reservation: u64, file: u64| {
                        let changed = filing(&reserving(&request, reservation), file);
                        is_admitted(&Request { size_bytes: Some(size), ..changed }, available)
                    };
                    prop_assert!(with(size_bytes, reservation_bytes, file_bytes));
                    prop_assert!(!with(size_bytes + 1, reservation_bytes, file_bytes));
                    prop_assert!((0..2000).all(|bytes| !reserves(bytes) && !files(bytes)), "one change would do");
                }
                Admission::Refused { fits: Fit::Nothing, .. } => {
                    prop_assert!((0..2000).all(|bytes| !reserves(bytes) && !files(bytes)));
                }
                Admission::Admitted { .. } | Admission::Contradicted { .. } => {}
            }
        }

        #[test]
        fn promises_to_all_who_are_admitted_fit(
            requests in prop::collection::vec(requests(), 0..20), dram in 0u64..9000, store in 0u64..9000,
        ) {
            let host = room(dram, store);
            let mut admitted: Vec<Request> = Vec::new();
            for request in requests {
                if is_admitted(&request, host.besides(&admitted)) {
                    admitted.push(request);
                }
            }
            prop_assert!(admitted.iter().map(|request| request.needs().dram_bytes).sum::<u64>() <= dram);
            prop_assert!(admitted.iter().map(|request| request.needs().store_bytes).sum::<u64>() <= store);
            for request in admitted {
                let held = request.intent.reserved_bytes() + request.file.bytes();
                prop_assert!(request.size_bytes.is_none_or(|size| size <= held), "what it says that it holds has no place");
            }
        }
    }
}
