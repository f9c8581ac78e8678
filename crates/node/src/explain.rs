//! Explaining: why a space has the target that it has, as data and in sentences with numbers.

use crate::wire;
use memvisor_policy::{Bound, Grant, Plan, Promise, Settings, Situation, Space, SpaceId, State, Step};
use memvisor_proto::size::Size;
use std::collections::BTreeMap;

/// What is known of a space beside the plan.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What it is called.
    pub name: &'a str,
    /// What its pager is told, in bytes.
    pub told_bytes: u64,
    /// What is still set aside for its memory that is not managed, in bytes.
    pub set_aside_bytes: u64,
}

/// Others that are named in sentences: those that matter most.
const NAMED_MAX: usize = 3;

/// Why `id` has its target in `plan`, which was made from `situation`; `None` when the plan does not know it.
pub fn explain(
    id: SpaceId,
    situation: &Situation,
    plan: &Plan,
    settings: &Settings,
    known: &BTreeMap<SpaceId, Known<'_>>,
) -> Option<wire::Explanation> {
    let at = plan.grants.iter().position(|grant| grant.id == id)?;
    let (grant, space, this) = (&plan.grants[at], situation.spaces.get(at)?, known.get(&id)?);
    let mut others: Vec<wire::Other> = plan
        .grants
        .iter()
        .filter(|grant| grant.id != id)
        .filter_map(|grant| {
            let known = known.get(&grant.id)?;
            Some(wire::Other { name: known.name.to_owned(), reason: reason(grant, known.told_bytes) })
        })
        .collect();
    others.sort_by_key(|other| std::cmp::Reverse(other.reason.tax_bytes));
    let reason = reason(grant, this.told_bytes);
    let unmanaged = unmanaged(situation, known);
    let sentences = Sentences {
        name: this.name,
        grant,
        space,
        reason: &reason,
        plan,
        settings,
        others: &others,
        set_aside_bytes: this.set_aside_bytes,
        unmanaged: &unmanaged,
    }
    .all();
    Some(wire::Explanation {
        name: this.name.to_owned(),
        sentences,
        state: plan.state.into(),
        host_price: plan.price,
        capacity_bytes: plan.capacity_bytes,
        reason,
        others,
    })
}

/// Each space with its memory that is not managed, in bytes, the most first.
fn unmanaged(situation: &Situation, known: &BTreeMap<SpaceId, Known<'_>>) -> Vec<(String, u64)> {
    let of = |space: &Space| Some((known.get(&space.id)?.name.to_owned(), space.observation.overhead_bytes));
    let mut all: Vec<(String, u64)> = situation.spaces.iter().filter_map(of).filter(|(_, bytes)| *bytes > 0).collect();
    all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    all
}

fn reason(grant: &Grant, told_bytes: u64) -> wire::Reason {
    let why = &grant.reason;
    wire::Reason {
        target_bytes: grant.target_bytes,
        budget_bytes: told_bytes,
        goal_bytes: why.goal_bytes,
        untaxed_bytes: why.untaxed_bytes,
        tax_bytes: why.tax_bytes(),
        bound: match why.bound {
            Bound::Reservation => wire::Bound::Reservation,
            Bound::Limit => wire::Bound::Limit,
            Bound::Wanted => wire::Bound::Wanted,
            Bound::Price => wire::Bound::Price,
        },
        step: match why.step {
            Step::Whole => wire::Step::Whole,
            Step::DeadBand => wire::Step::DeadBand,
            Step::Rate => wire::Step::Rate,
            Step::Waiting => wire::Step::Waiting,
        },
        promise: match why.promise {
            Promise::None => None,
            Promise::Kept(bytes) => Some(wire::Promise { reserved_bytes: bytes, kept_bytes: bytes }),
            Promise::Cut { reserved_bytes, kept_bytes } => Some(wire::Promise { reserved_bytes, kept_bytes }),
        },
        price: why.price,
        active_fraction: why.active_fraction,
        action: grant.action.into(),
    }
}

/// The part of a target by which what is told may differ from it unsaid.
const TOLD_PART: u64 = 100;

/// All that sentences are made from.
struct Sentences<'a> {
    name: &'a str,
    grant: &'a Grant,
    space: &'a Space,
    reason: &'a wire::Reason,
    plan: &'a Plan,
    settings: &'a Settings,
    others: &'a [wire::Other],
    set_aside_bytes: u64,
    /// Memory that is not managed of all spaces, the most first.
    unmanaged: &'a [(String, u64)],
}

impl Sentences<'_> {
    fn all(&self) -> Vec<String> {
        let all = [
            Some(self.bound()),
            self.promise(),
            self.unmanaged(),
            self.overhead(),
            self.tax(),
            self.taxed(),
            self.step(),
            self.told(),
            self.action(),
        ];
        all.into_iter().flatten().collect()
    }

    fn bound(&self) -> String {
        let (name, goal) = (self.name, Size(self.reason.goal_bytes));
        match self.grant.reason.bound {
            Bound::Reservation => {
                format!("{name} has {goal}, its reservation: at the price that others pay it would have less.")
            }
            Bound::Limit => {
                format!("{name} has {goal}, its limit: it {}, and its owner allows no more.", self.wants())
            }
            Bound::Wanted => format!("{name} has all that it wants, {goal}."),
            Bound::Price => format!(
                "{name} has {goal}, and {}: {} are divided, and that is its part with {} shares and {} of it in use.",
                self.wants(),
                Size(self.plan.capacity_bytes),
                self.space.intent.shares,
                percent(self.reason.active_fraction)
            ),
        }
    }

    /// What it wants. The plan believes only slowly that it wants less, so that may be less than it has.
    fn wants(&self) -> String {
        match self.space.observation.wanted_bytes {
            wanted if wanted > self.reason.goal_bytes => format!("wants {}", Size(wanted)),
            wanted => format!("wanted more until a moment ago, {} now", Size(wanted)),
        }
    }

    fn promise(&self) -> Option<String> {
        let promise = self.reason.promise?;
        let (reserved, kept) = (Size(promise.reserved_bytes), Size(promise.kept_bytes));
        Some(if promise.kept_bytes < promise.reserved_bytes {
            format!(
                "Its reservation of {reserved} is broken: the host lacks the DRAM, and {kept} of it are kept; classes are \
                 cut from batch to latency."
            )
        } else {
            format!("Its reservation of {reserved} is kept.")
        })
    }

    /// Whose memory that nobody can take is missing where a promise is broken.
    fn unmanaged(&self) -> Option<String> {
        self.reason.promise.filter(|promise| promise.kept_bytes < promise.reserved_bytes)?;
        let all_bytes = self.unmanaged.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
        let named: Vec<String> =
            self.unmanaged.iter().take(NAMED_MAX).map(|(name, bytes)| format!("{name} ({})", Size(*bytes))).collect();
        (all_bytes > 0).then(|| {
            format!(
                "{} of the DRAM are memory of programs that is not managed, and that nobody can take: {}.",
                Size(all_bytes),
                named.join(", ")
            )
        })
    }

    /// What it has beside what it is charged for.
    fn overhead(&self) -> Option<String> {
        let held_bytes = self.space.observation.overhead_bytes;
        let aside = match self.set_aside_bytes {
            0 => String::new(),
            bytes => format!(", and {} more are set aside for it", Size(bytes)),
        };
        (held_bytes > 0).then(|| {
            format!("Beside that its programs have {} that are not managed and not divided{aside}.", Size(held_bytes))
        })
    }

    fn tax(&self) -> Option<String> {
        let (tax, bytes) = (f64::from(self.settings.tax), self.reason.tax_bytes);
        let idle_price = self.settings.tax.idle_price();
        let idle = percent(1.0 - self.reason.active_fraction);
        match bytes {
            0 => None,
            taken @ 1.. => Some(format!(
                "The idle memory tax of {tax} took {} from it: {idle} of its memory is idle and costs {idle_price:.3} \
                 times as much; without the tax it would have {}.",
                Size(taken as u64),
                Size(self.reason.untaxed_bytes)
            )),
            gained => Some(format!(
                "The idle memory tax of {tax} gave {} to it: without the tax it would have {}.",
                Size(gained.unsigned_abs()),
                Size(self.reason.untaxed_bytes)
            )),
        }
    }

    fn taxed(&self) -> Option<String> {
        let taxed = self.others.iter().filter(|other| other.reason.tax_bytes > 0).take(NAMED_MAX);
        let named: Vec<String> = taxed
            .map(|other| {
                let idle = percent(1.0 - other.reason.active_fraction);
                format!("{} ({} less, {idle} idle)", other.name, Size(other.reason.tax_bytes as u64))
            })
            .collect();
        (!named.is_empty()).then(|| format!("Taxed for memory that they do not use: {}.", named.join(", ")))
    }

    fn step(&self) -> Option<String> {
        let (target, goal) = (Size(self.reason.target_bytes), Size(self.reason.goal_bytes));
        match self.grant.reason.step {
            Step::Whole => None,
            Step::DeadBand => {
                let off = Size(self.reason.goal_bytes.abs_diff(self.reason.target_bytes));
                Some(format!("Its target stays at {target}: its goal is {off} off, too little to be worth a change."))
            }
            Step::Rate => Some(format!(
                "Its target is {target} on the way to {goal}: it falls by no more than {} a second.",
                Size(self.settings.shrink_bytes_per_s)
            )),
            Step::Waiting => Some(format!("Its target is {target} on the way to {goal}: it rises as others give.")),
        }
    }

    fn told(&self) -> Option<String> {
        let (told, target) = (self.reason.budget_bytes, self.reason.target_bytes);
        // Rounding is nobody's concern.
        if told.abs_diff(target) <= target / TOLD_PART {
            None
        } else if told > target {
            Some(format!(
                "Its pager is told {}: {} beyond the target, which nobody else was granted.",
                Size(told),
                Size(told - target)
            ))
        } else {
            Some(format!(
                "Its pager is told {} so far: {} have still to come back from others.",
                Size(told),
                Size(target - told)
            ))
        }
    }

    fn action(&self) -> Option<String> {
        let charged = Size(self.space.observation.charged_bytes);
        let free = match self.plan.state {
            State::High => "enough",
            State::Soft => "little",
            State::Hard => "very little",
            State::Low => "next to no",
        };
        match self.reason.action {
            wire::Action::Leave => None,
            wire::Action::Balloon | wire::Action::Page => {
                Some(format!("It holds {charged}, more than its target, and is paged: the host has {free} free DRAM."))
            }
            wire::Action::Block => Some(format!(
                "It is blocked: it holds {charged}, more than its target, and the host has {free} free DRAM. It is paged, and \
                 its threads wait wherever they would take more, until it is within its target."
            )),
        }
    }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_policy::{Host, Intent, Memory, Observation, plan};

    const GIB: u64 = 1 << 30;

    fn space(id: u64, reservation_bytes: u64, wanted_bytes: u64, active_bytes: u64) -> Space {
        let intent = Intent { reservation_bytes, ..Intent::default() };
        let observation =
            Observation { charged_bytes: wanted_bytes / 2, wanted_bytes, active_bytes, ..Observation::default() };
        Space { id: SpaceId(id), intent, observation }
    }

    fn explained(id: u64, spaces: Vec<Space>, dram_bytes: u64) -> wire::Explanation {
        let settings = Settings::default();
        let charged: u64 = spaces.iter().map(|space| space.observation.charged_bytes).sum();
        let host = Host { dram_bytes, free_bytes: dram_bytes.saturating_sub(charged) };
        let situation = Situation { now_ns: 1, host, spaces };
        let (plan, _) = plan(&situation, &settings, &Memory::default());
        let names = ["cache", "job", "third"];
        let known = situation
            .spaces
            .iter()
            .map(|space| {
                let name = names[space.id.0 as usize - 1];
                let grant = plan.grants.iter().find(|grant| grant.id == space.id).unwrap();
                (space.id, Known { name, told_bytes: grant.target_bytes, set_aside_bytes: 3 << 20 })
            })
            .collect();
        explain(SpaceId(id), &situation, &plan, &settings, &known).unwrap()
    }

    #[test]
    fn who_fits_is_told_that_it_has_all_that_it_wants() {
        let said = explained(1, vec![space(1, 0, GIB, GIB)], 16 * GIB);
        assert_eq!(said.sentences[0], "cache has all that it wants, 1 GiB.");
        assert_eq!((said.reason.bound, said.reason.tax_bytes), (wire::Bound::Wanted, 0));
    }

    #[test]
    fn a_kept_promise_is_named_with_its_size() {
        let said = explained(1, vec![space(1, 2 * GIB, 3 * GIB, GIB), space(2, 0, 9 * GIB, 9 * GIB)], 4 * GIB);
        assert!(said.sentences.contains(&"Its reservation of 2 GiB is kept.".to_owned()), "{:?}", said.sentences);
        assert_eq!(said.reason.promise.unwrap().kept_bytes, 2 * GIB);
    }

    #[test]
    fn a_broken_promise_is_said_to_be_broken() {
        let said = explained(1, vec![space(1, 9 * GIB, 9 * GIB, GIB)], 4 * GIB);
        assert!(said.sentences.iter().any(|sentence| sentence.contains("is broken")), "{:?}", said.sentences);
        let promise = said.reason.promise.unwrap();
        assert!(promise.kept_bytes < promise.reserved_bytes);
    }

    #[test]
    fn memory_that_is_not_managed_is_named_and_whose_it_is_where_it_breaks_a_promise() {
        let with = |overhead_bytes, mut space: Space| {
            space.observation.overhead_bytes = overhead_bytes;
            space
        };
        let spaces = || vec![with(5 << 20, space(1, 3 * GIB, 4 * GIB, GIB)), with(2 * GIB, space(2, 0, GIB, GIB))];
        let kept = explained(1, spaces(), 16 * GIB).sentences.join(" ");
        let beside = "Beside that its programs have 5 MiB that are not managed and not divided, and 3 MiB more are set aside for it.";
        assert!(kept.contains(beside) && !kept.contains("nobody can take"), "{kept}");
        let broken = explained(1, spaces(), 4 * GIB).sentences.join(" ");
        assert!(
            broken.contains("is broken") && broken.contains("nobody can take: job (2 GiB), cache (5 MiB)."),
            "{broken}"
        );
    }

    #[test]
    fn who_is_idle_is_taxed_and_who_gains_is_told_from_whom() {
        let spaces = vec![space(1, 0, 8 * GIB, 8 * GIB), space(2, 0, 8 * GIB, 0)];
        let busy = explained(1, spaces.clone(), 10 * GIB);
        assert!(busy.reason.tax_bytes < 0 && busy.others[0].reason.tax_bytes > 0);
        assert!(
            busy.sentences.iter().any(|s| s.starts_with("Taxed for memory that they do not use: job (")),
            "{:?}",
            busy.sentences
        );
        let idle = explained(2, spaces, 10 * GIB);
        assert!(
            idle.sentences.iter().any(|s| s.starts_with("The idle memory tax of 0.75 took")),
            "{:?}",
            idle.sentences
        );
        assert!(idle.sentences[0].starts_with("job has ") && idle.sentences[0].contains("with 1000 shares"));
    }

    #[test]
    fn what_still_has_to_come_back_is_told() {
        let settings = Settings::default();
        let situation = Situation {
            now_ns: 1,
            host: Host { dram_bytes: 16 * GIB, free_bytes: 15 * GIB },
            spaces: vec![space(1, 0, 2 * GIB, GIB)],
        };
        let (plan, _) = plan(&situation, &settings, &Memory::default());
        let known =
            |told_bytes| BTreeMap::from([(SpaceId(1), Known { name: "cache", told_bytes, set_aside_bytes: 0 })]);
        let said = |told| explain(SpaceId(1), &situation, &plan, &settings, &known(told)).unwrap().sentences.join(" ");
        let target = plan.grants[0].target_bytes;
        assert!(said(target - target / 10).contains("have still to come back"));
        assert!(said(target + target / 10).contains("beyond the target"));
        assert!(!said(target - 4096).contains("is told"));
    }
}
