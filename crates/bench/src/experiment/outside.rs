//! What the kernel says that all spaces take, once a second, beside what their own words say.
//!
//! ```text
//!   words   Σ spaces ─┐                                        ┌─ Σ spaces
//!   kernel            └─ Σ members: memory that is managed ────┘
//!                        Σ spaces: memory behind the space file
//! ```
//! It is counted as `memvisor-acceptance` counts it, by mappings in /proc. While one is read pages move, so the words are read before
//! and after, and a *difference* is how far the kernel's count lies outside of what they said then. The kernel says less where
//! memory is charged before it is touched; that it says more is what nobody should see.

use super::watch::{List, Seat};
use super::{MIB, mib};
use memvisor_acceptance::proc;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Time between two looks: one takes some milliseconds of CPU, in which the mappings of a member are held.
const PERIOD: Duration = Duration::from_secs(1);
/// The kernel's count may exceed the host by a fiftieth, as acceptance has it: a page that moves while it counts is counted twice.
const TOLERANCE: u64 = 50;
/// How often it is asked meanwhile whether the watch is over.
const TICK: Duration = Duration::from_millis(50);

/// Looks at spaces from outside.
#[derive(Default)]
pub(super) struct Outside {
    seats: Vec<Seat>,
    unlike: Unlike,
}

/// How far the kernel's count and the words were apart, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Unlike {
    looks: usize,
    /// The most that the kernel counted.
    kernel_max: u64,
    /// The most that it counted beyond the words.
    more_max: u64,
    /// The most that it counted less than the words.
    less_max: u64,
}

impl Outside {
    /// Looks until the watch is over.
    pub(super) fn look(mut self, list: &List) -> Result<Unlike, String> {
        let mut next = Instant::now();
        while !list.is_over() {
            if Instant::now() >= next {
                next = Instant::now() + PERIOD;
                list.seat(&mut self.seats);
                self.once()?;
            }
            std::thread::sleep(TICK);
        }
        Ok(self.unlike)
    }

    fn once(&mut self) -> Result<(), String> {
        let before = self.words()?;
        let everyone = proc::everyone();
        let keepers: Vec<i32> = self.seats.iter_mut().filter_map(Seat::keeper).collect();
        let kernel = keepers.iter().map(|&keeper| taken(&everyone, keeper)).sum();
        let after = self.words()?;
        // Of a space that came or went meanwhile one of the two does not know.
        if let Some((before, after)) = before.zip(after)
            && before.0 == after.0
        {
            self.unlike.add(before.1, kernel, after.1);
        }
        Ok(())
    }

    /// How many spaces there are and what they say they are charged for; none when there are none.
    fn words(&mut self) -> Result<Option<(usize, u64)>, String> {
        let seen = self.seats.iter_mut().map(Seat::amounts).collect::<Result<Vec<_>, _>>()?;
        let charged: Vec<u64> = seen.into_iter().flatten().map(|amounts| amounts.charged).collect();
        Ok((!charged.is_empty()).then(|| (charged.len(), charged.iter().sum())))
    }
}

/// What the space that process `keeper` keeps takes of DRAM; the keeper's own is not charged.
fn taken(everyone: &[proc::Kin], keeper: i32) -> u64 {
    let members = proc::tree(everyone, keeper).into_iter().skip(1).filter(|kin| !kin.zombie);
    // What is marked is the set of `workingset`, which wants no huge pages, and some tens of KiB of stacks.
    let had = |found: proc::Anonymous| found.managed() + found.marked;
    let managed: u64 = members.filter_map(|kin| proc::anonymous(kin.process.pid)).map(had).sum();
    managed + proc::space_file(keeper).map_or(0, |file| file.bytes)
}

impl Unlike {
    fn add(&mut self, before: u64, kernel: u64, after: u64) {
        self.looks += 1;
        self.kernel_max = self.kernel_max.max(kernel);
        self.more_max = self.more_max.max(kernel.saturating_sub(before.max(after)));
        self.less_max = self.less_max.max(before.min(after).saturating_sub(kernel));
    }

    /// Whether it was asked, and counted no more than the host has.
    pub(super) fn is_within(&self, host_bytes: u64) -> bool {
        self.looks > 0 && self.kernel_max <= host_bytes + host_bytes / TOLERANCE
    }

    /// One look, at which the words were right.
    #[cfg(test)]
    pub(super) fn of_one(bytes: u64) -> Self {
        let mut one = Self::default();
        one.add(bytes, bytes, bytes);
        one
    }

    pub(super) fn sentence(&self) -> String {
        format!(
            "the kernel, asked {} times, counts at most {}, and at most {:.1} MiB more than the spaces say and {:.1} MiB less (what \
             is charged before it is touched)",
            self.looks,
            mib(self.kernel_max),
            self.more_max as f64 / MIB as f64,
            self.less_max as f64 / MIB as f64
        )
    }

    pub(super) fn figures(&self) -> Value {
        json!({
            "looks": self.looks, "bytes_max": self.kernel_max, "more_bytes_max": self.more_max, "less_bytes_max": self.less_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_what_lies_outside_of_what_was_said_before_and_after() {
        let mut unlike = Unlike::default();
        unlike.add(10 * MIB, 12 * MIB, 14 * MIB);
        assert_eq!((unlike.more_max, unlike.less_max, unlike.kernel_max), (0, 0, 12 * MIB));
        unlike.add(10 * MIB, 15 * MIB, 8 * MIB);
        unlike.add(10 * MIB, 7 * MIB, 11 * MIB);
        assert_eq!((unlike.more_max, unlike.less_max, unlike.kernel_max), (5 * MIB, 3 * MIB, 15 * MIB));
        assert!(unlike.sentence().contains("asked 3 times, counts at most 15 MiB, and at most 5.0 MiB more"));
    }
}
