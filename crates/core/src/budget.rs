//! Budget arithmetic: what is charged to a space, how much must leave, and how members share.
//!
//! ```text
//!   0                                                              target
//!   ├── resident ──┬─ staged ─┬── RAM store ──┬─ meta ─┬── free ─────┤
//!                                                      urgent│low│high
//! ```
//!
//! Free is kept so that a fault need not wait for an eviction. When it falls below *low*, eviction starts and goes on
//! to *high*; below *urgent* a fault evicts before it fills.

use crate::PAGE_BYTES;

const PAGE: u64 = PAGE_BYTES as u64;
const RUN: u64 = crate::RUN_PAGES as u64;

/// Free pages kept, as a part of the target: one in 128 is 0.8 % of the DRAM and, at 256 MiB, 32 runs – the faults of
/// some milliseconds, longer than a keeper takes to wake up.
const FREE_PART: u64 = 128;
/// Two moves of a whole staging batch.
const FREE_PAGES_MIN: u64 = 64;
/// 8 MiB: no machine saves so slowly that more is of use.
const FREE_PAGES_MAX: u64 = 2048;
/// In a very small budget the free pages must not be most of it.
const FREE_PART_MOST: u64 = 8;

/// Pages that a member keeps in their place when it may have so many: what one instruction needs, several times over.
const FLOOR_PAGES: std::ops::RangeInclusive<u64> = RUN..=4 * RUN;

/// Pages below which a member moves nothing out. With fewer, the page brought last is the next to leave: its thread finds it
/// gone, and both go on for ever. The members' floors together are at most a quarter of the target, unless members are very many.
pub fn floor_pages(target_bytes: u64, members: u64) -> u64 {
    (target_bytes / PAGE / 4 / members.max(1)).clamp(*FLOOR_PAGES.start(), *FLOOR_PAGES.end())
}

/// DRAM that a space is charged for, by what it is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Charge {
    /// Managed pages in their place, of all members.
    pub resident_pages: u64,
    /// Frames in staging areas that hold memory, of all members.
    pub staged_pages: u64,
    /// Slabs of the RAM store that hold memory, in bytes.
    pub ram_bytes: u64,
    /// Page tables and tables of stores, in bytes.
    pub meta_bytes: u64,
}

impl Charge {
    /// The sum, in bytes.
    pub const fn bytes(&self) -> u64 {
        let pages = self.resident_pages.saturating_add(self.staged_pages);
        pages.saturating_mul(PAGE).saturating_add(self.ram_bytes).saturating_add(self.meta_bytes)
    }
}

/// Free pages at which something begins or ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    /// Below this a fault must evict before it fills.
    pub urgent_pages: u64,
    /// Below this eviction starts.
    pub low_pages: u64,
    /// At this it ends.
    pub high_pages: u64,
}

/// What the free pages ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// Nothing: there are free pages enough.
    Calm,
    /// That so many pages are moved out soon.
    Evict(u64),
    /// That so many pages are moved out, and that no page is filled before some are.
    Urgent(u64),
}

/// What a space may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// DRAM granted to the space now, in bytes.
    pub target_bytes: u64,
}

impl Budget {
    /// The free pages to keep.
    pub fn watermarks(&self) -> Watermarks {
        let target = self.target_bytes / PAGE;
        let wanted = (target / FREE_PART).clamp(FREE_PAGES_MIN, FREE_PAGES_MAX);
        let high = wanted.min(target / FREE_PART_MOST);
        Watermarks { urgent_pages: high / 8, low_pages: high / 2, high_pages: high }
    }

    /// Whole pages that may still be taken.
    pub const fn free_pages(&self, charge: &Charge) -> u64 {
        self.target_bytes.saturating_sub(charge.bytes()) / PAGE
    }

    /// How many pages must leave. `leaving_pages` of the staged ones are with a saver already and will be given up
    /// without another word; the rest of staging is there as a second chance.
    ///
    /// A space over its target is told the whole excess: the caller does it in portions.
    pub fn pressure(&self, charge: &Charge, leaving_pages: u64) -> Pressure {
        let marks = self.watermarks();
        let free = self.free_pages(charge);
        let over = charge.bytes().saturating_sub(self.target_bytes).div_ceil(PAGE);
        let missing = (marks.high_pages + over).saturating_sub(free);
        let pages = missing.saturating_sub(leaving_pages);
        if over > 0 || free < marks.urgent_pages {
            Pressure::Urgent(pages)
        } else if free < marks.low_pages && pages > 0 {
            Pressure::Evict(pages)
        } else {
            Pressure::Calm
        }
    }
}

/// Whether pages can sink below the RAM store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Below {
    /// Nothing is below: what is not resident must stay in the RAM store.
    Nothing,
    /// A log takes what the RAM store does not.
    Log,
}

/// The part of the DRAM that the RAM store gets when a log is below it: a quarter of the budget, at 3:1, holds as much
/// again as three quarters of it, and beyond that each page is dearer in lost residence than in reads of the log.
const RAM_PART_ABOVE_LOG: u64 = 4;
/// The most that the RAM store gets without a log: a sixteenth is the least in which a program still moves.
const RESIDENT_PART_LEAST: u64 = 16;

/// What compressed pages may take of `usable_bytes` (the target without metadata and staging), in bytes, when
/// `managed_pages` are managed and a stored page takes `ratio_permille` of a page (1..=1000).
///
/// Without a log this is what the pages that cannot be resident need: with `r` the ratio, `(N − T) · r / (1 − r)`,
/// plus an eighth for pages that compress worse than those seen. With a log it is no more than a quarter of the DRAM.
pub fn ram_limit_bytes(usable_bytes: u64, managed_pages: u64, ratio_permille: u64, below: Below) -> u64 {
    let ratio = u128::from(ratio_permille.clamp(1, 1000));
    let most = usable_bytes - usable_bytes / RESIDENT_PART_LEAST;
    let excess = u128::from(managed_pages) * u128::from(PAGE);
    let excess = excess.saturating_sub(u128::from(usable_bytes));
    let needed = if ratio == 1000 && excess > 0 { u128::from(most) } else { excess * ratio / (1000 - ratio).max(1) };
    let needed = u64::try_from(needed + needed / 8).unwrap_or(u64::MAX);
    match below {
        Below::Nothing => needed.min(most),
        Below::Log => needed.min(usable_bytes / RAM_PART_ABOVE_LOG),
    }
}

/// What one member sees of its space when it asks for its share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Pages that this member has resident and staged.
    pub member_pages: u64,
    /// Members in the space, this one included.
    pub members: u64,
    /// Pages that all members together may have: the target without the RAM store and metadata.
    pub shared_pages: u64,
    /// Pages that all members together have.
    pub taken_pages: u64,
    /// Whether another member is hungry, see [`Share::is_hungry`].
    pub others_hungry: bool,
}

impl Share {
    /// The pages that are this member's whatever the others want.
    pub const fn fair_pages(&self) -> u64 {
        self.shared_pages / if self.members == 0 { 1 } else { self.members }
    }

    /// Whether this member, if it wants to grow, may ask the others to shed: it has less than its fair share and
    /// nothing is free.
    pub const fn is_hungry(&self) -> bool {
        self.member_pages < self.fair_pages() && self.taken_pages >= self.shared_pages
    }

    /// The pages that this member may have now.
    ///
    /// While something is free each member may take an equal part of it, at least one page. When nothing is free a
    /// member keeps what it has, and replaces its own pages to take others; but above its fair share, while another
    /// is hungry, it sheds a quarter of what it has too much, at least one run – a program is not stripped in one go,
    /// and four rounds later two thirds are given back.
    pub fn allowance_pages(&self) -> u64 {
        let fair = self.fair_pages();
        if self.others_hungry && self.member_pages > fair {
            let excess = self.member_pages - fair;
            return self.member_pages - (excess / 4).max(RUN).min(excess);
        }
        let free = self.shared_pages.saturating_sub(self.taken_pages);
        self.member_pages + free.div_ceil(self.members.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn charge() -> impl Strategy<Value = Charge> {
        (0..1u64 << 30, 0..1u64 << 12, 0..1u64 << 42, 0..1u64 << 34).prop_map(|(resident, staged, ram, meta)| Charge {
            resident_pages: resident,
            staged_pages: staged,
            ram_bytes: ram,
            meta_bytes: meta,
        })
    }

    #[test]
    fn the_marks_of_a_usual_budget_are_as_described() {
        let marks = Budget { target_bytes: 256 * MIB }.watermarks();
        assert_eq!(marks, Watermarks { urgent_pages: 64, low_pages: 256, high_pages: 512 });
        assert_eq!(Budget { target_bytes: 1 << 40 }.watermarks().high_pages, 2048);
        assert_eq!(Budget { target_bytes: MIB }.watermarks().high_pages, 32);
        assert_eq!(Budget { target_bytes: 0 }.watermarks().high_pages, 0);
    }

    #[test]
    fn pressure_rises_as_free_pages_go() {
        let budget = Budget { target_bytes: 256 * MIB };
        let at = |free: u64| budget.pressure(&Charge { resident_pages: 65536 - free, ..Charge::default() }, 0);
        assert_eq!(at(256), Pressure::Calm);
        assert_eq!(at(255), Pressure::Evict(257));
        assert_eq!(at(64), Pressure::Evict(448));
        assert_eq!(at(63), Pressure::Urgent(449));
        assert_eq!(at(0), Pressure::Urgent(512));
        let over = Charge { resident_pages: 65536 + 100, ..Charge::default() };
        assert_eq!(budget.pressure(&over, 0), Pressure::Urgent(612));
        assert_eq!(budget.pressure(&over, 600), Pressure::Urgent(12));
    }

    #[test]
    fn pages_on_their_way_out_are_not_asked_for_again() {
        let budget = Budget { target_bytes: 256 * MIB };
        let charge = Charge { resident_pages: 65336, ..Charge::default() };
        assert_eq!(budget.pressure(&charge, 0), Pressure::Evict(312));
        assert_eq!(budget.pressure(&charge, 300), Pressure::Evict(12));
        assert_eq!(budget.pressure(&charge, 312), Pressure::Calm);
    }

    #[test]
    fn floors_take_at_most_a_quarter_of_the_target_and_hold_what_an_instruction_needs() {
        for (target, members, floor) in
            [(256 * MIB, 1, 64), (256 * MIB, 256, 64), (MIB, 2, 32), (MIB, 100, 16), (0, 0, 16)]
        {
            assert_eq!(floor_pages(target, members), floor, "{target} bytes, {members} members");
        }
        assert!(1024 * floor_pages(256 * MIB, 1024) * PAGE <= 64 * MIB);
    }

    #[test]
    fn a_gigabyte_of_half_random_pages_in_a_quarter_leaves_it_a_resident_part() {
        // 1 GiB at 0.12 in 256 MiB: about 105 MiB compressed, the rest resident.
        let limit = ram_limit_bytes(256 * MIB, 262_144, 120, Below::Nothing);
        assert!((105 * MIB..125 * MIB).contains(&limit), "{}", limit / MIB);
        // At 0.55 it does not fit, and all but the least resident part goes to the store.
        assert_eq!(ram_limit_bytes(256 * MIB, 262_144, 550, Below::Nothing), 240 * MIB);
        assert_eq!(ram_limit_bytes(256 * MIB, 262_144, 550, Below::Log), 64 * MIB);
        assert_eq!(ram_limit_bytes(256 * MIB, 65_536, 500, Below::Nothing), 0);
    }

    #[test]
    fn a_member_above_its_share_sheds_until_the_hungry_one_has_its_own() {
        let (shared, mut big, mut small, mut rounds) = (1000u64, 1000u64, 0u64, 0);
        loop {
            let of = |member_pages, others_hungry| Share {
                member_pages,
                members: 2,
                shared_pages: shared,
                taken_pages: big + small,
                others_hungry,
            };
            let hungry = of(small, false).is_hungry();
            let next = of(big, hungry).allowance_pages();
            small = of(small, false).allowance_pages();
            big = next.min(big);
            small = small.min(shared - big);
            rounds += 1;
            if big == 500 && small == 500 {
                break;
            }
            assert!(rounds < 100, "{big} {small}");
        }
        assert!(rounds > 4, "not in one go");
    }

    proptest! {
        #[test]
        fn doing_what_pressure_asks_makes_it_calm(
            target in MIB..1u64 << 44, resident in 0u64..1 << 32, staged in 0u64..1 << 12, leaving in 0u64..1 << 12,
            rest in 0u64..MIB,
        ) {
            let budget = Budget { target_bytes: target };
            let leaving = leaving.min(staged);
            let charge = Charge { resident_pages: resident, staged_pages: staged, ram_bytes: rest, meta_bytes: 0 };
            let pages = match budget.pressure(&charge, leaving) {
                Pressure::Calm => 0,
                Pressure::Evict(pages) | Pressure::Urgent(pages) => pages,
            };
            prop_assume!(pages <= resident);
            let after = Charge { resident_pages: resident - pages, staged_pages: staged - leaving, ..charge };
            prop_assert_eq!(budget.pressure(&after, 0), Pressure::Calm);
        }

        #[test]
        fn no_charge_overflows(target: u64, charge in charge()) {
            let budget = Budget { target_bytes: target };
            budget.pressure(&charge, 0);
            prop_assert!(budget.free_pages(&charge) <= target / PAGE);
        }

        #[test]
        fn the_marks_are_in_order_and_leave_most_of_the_budget(target in 0u64..1 << 50) {
            let marks = Budget { target_bytes: target }.watermarks();
            prop_assert!(marks.urgent_pages <= marks.low_pages && marks.low_pages <= marks.high_pages);
            prop_assert!(marks.high_pages * FREE_PART_MOST <= target / PAGE);
        }

        #[test]
        fn what_the_limit_leaves_holds_the_rest_when_it_can(
            usable in MIB..1u64 << 40, pages in 0u64..1 << 28, ratio in 1u64..=1000,
        ) {
            let limit = ram_limit_bytes(usable, pages, ratio, Below::Nothing);
            prop_assert!(limit <= usable - usable / RESIDENT_PART_LEAST);
            prop_assert!(ram_limit_bytes(usable, pages, ratio, Below::Log) <= limit);
            if limit < usable - usable / RESIDENT_PART_LEAST {
                let outside = (pages * PAGE).saturating_sub(usable - limit);
                let takes = u128::from(outside) * u128::from(ratio) / 1000;
                prop_assert!(takes <= u128::from(limit) + u128::from(PAGE), "{takes} in {limit}");
            }
        }

        #[test]
        fn nobody_is_pushed_below_its_share_and_all_together_take_no_more_than_there_is(
            shared in 0u64..1 << 30, taken in prop::collection::vec(0u64..1 << 26, 1..20), hungry: bool,
        ) {
            let sum: u64 = taken.iter().sum();
            let shares = taken.iter().map(|&member_pages| Share {
                member_pages, members: taken.len() as u64, shared_pages: shared, taken_pages: sum, others_hungry: hungry,
            });
            let mut allowed = 0;
            for share in shares {
                let pages = share.allowance_pages();
                prop_assert!(pages >= share.member_pages.min(share.fair_pages()));
                allowed += pages;
            }
            prop_assert!(allowed <= sum.max(shared + taken.len() as u64));
        }
    }
}
