//! Changing what a space may have, draining, and calling that off: judged first, then done at once.

use crate::attach::{Refusal, request};
use crate::config::SHARES_MAX;
use crate::node::Node;
use crate::observe::Look;
use crate::spaces::Identity;
use crate::state::Record;
use crate::wire::{self, Amount, Change};
use memvisor_policy::Intent;
use memvisor_proto::size::Size;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use tracing::info;

/// Why a change is not made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// What was sent means nothing.
    Meaningless {
        /// What.
        what: String,
        /// What would be right.
        way_out: String,
    },
    /// It would break a promise.
    DoesNotFit(Refusal),
    /// The space is gone.
    Gone,
}

/// Why a drain does not begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrainError {
    /// DRAM that the spaces would take beside what they are charged for, in bytes.
    pub needed_bytes: u64,
    /// What of that can be had, in bytes.
    pub free_bytes: u64,
    /// What is missing, in bytes. It may be more than the difference: what the spaces hold by now may have been promised to others.
    pub missing_bytes: u64,
    /// What can be promised to all spaces together, in bytes.
    pub promisable_bytes: u64,
    /// Each space with what it would take, the most first.
    pub by_space: Vec<(String, u64)>,
    /// The others with what they were promised, the most first.
    pub promised: Vec<(String, u64)>,
}

/// What a drain would take, and what there is for it, in bytes.
struct Drain {
    /// Beside what its spaces are charged for.
    needed_bytes: u64,
    /// Of that, what can be had.
    free_bytes: u64,
    missing_bytes: u64,
}

impl Drain {
    /// Spaces that hold `charged_bytes` will hold `whole_bytes`. What was promised to nobody else is `room_bytes`; `idle_bytes` are held
    /// by nobody, and drains that are under way take `coming_bytes` of those.
    fn of(whole_bytes: u64, charged_bytes: u64, room_bytes: u64, idle_bytes: u64, coming_bytes: u64) -> Self {
        let needed_bytes = whole_bytes.saturating_sub(charged_bytes);
        let idle_bytes = idle_bytes.saturating_sub(coming_bytes);
        let beyond_bytes = whole_bytes.saturating_sub(room_bytes);
        Self {
            needed_bytes,
            free_bytes: room_bytes.saturating_sub(charged_bytes).min(idle_bytes),
            missing_bytes: needed_bytes.saturating_sub(idle_bytes).max(beyond_bytes),
        }
    }
}

impl Node {
    /// Changes what the owner of `id` wants, and divides anew.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing has changed then.
    pub fn change(&mut self, id: Identity, change: &Change) -> Result<(), ChangeError> {
        let (record, _) = self.space(id).ok_or(ChangeError::Gone)?;
        let old = record.intent;
        let intent = changed(&old, change)?;
        // Who asks for no more than it has is never refused: a host that lost DRAM must be able to be put in order.
        let asks_more = intent.reserved_bytes() > old.reserved_bytes();
        let asked = Record { intent, ..record.clone() };
        let has_less_place = request(&asked, false).homeless_bytes() > request(record, false).homeless_bytes();
        let contradicts = intent.limit_bytes.is_some_and(|limit| intent.reservation_bytes > limit);
        if asks_more || contradicts || has_less_place {
            self.admits(&asked, Some(id)).map_err(ChangeError::DoesNotFit)?;
        }
        if let Some(record) = self.kept.spaces.get_mut(&id) {
            record.intent = intent;
            info!(space = %record.name, ?intent, "changed");
        }
        if let Some(space) = self.attached.get(&id) {
            space.view.set_intent(&intent);
        }
        self.step();
        self.save();
        Ok(())
    }

    /// Asks spaces to bring all their pages back to plain DRAM, if they fit: beside what nobody holds, beside what all others were
    /// promised, used or not, and beside other drains.
    ///
    /// # Errors
    /// Says how much is missing and who was promised the rest; nobody drains then.
    pub fn drain(&mut self, ids: &[Identity]) -> Result<wire::Drained, DrainError> {
        self.step();
        let ids: BTreeSet<Identity> = ids.iter().copied().filter(|id| self.attached.contains_key(id)).collect();
        let situation = self.situation(memvisor_sys::clock::now_ns());
        let others = self.promised(&situation, None, |id| ids.contains(&id));
        let promisable = self.promisable(&situation, None);
        let room = promisable.besides(others.iter().map(|(_, promised)| promised));
        let looks = || ids.iter().filter_map(|id| self.space(*id)).map(|(record, at)| (record, at.observer.last()));
        let whole = |record: &Record, look: &Look| look.footprint_bytes().max(record.intent.reserved_bytes());
        let set_aside = sum(ids.iter().map(|id| self.set_aside_bytes(Some(*id))));
        let drain = Drain::of(
            sum(looks().map(|(record, look)| whole(record, look))),
            sum(looks().map(|(_, look)| look.charged_bytes)),
            room.dram_bytes.saturating_sub(set_aside),
            situation.host.free_bytes,
            self.coming_bytes(&ids),
        );
        if drain.missing_bytes > 0 {
            let more = |look: &Look| look.footprint_bytes().saturating_sub(look.charged_bytes);
            let promised = others.iter().map(|(record, promised)| (record.name.clone(), promised.needs().dram_bytes));
            return Err(DrainError {
                needed_bytes: drain.needed_bytes,
                free_bytes: drain.free_bytes,
                missing_bytes: drain.missing_bytes,
                promisable_bytes: promisable.dram_bytes,
                by_space: most_first(looks().map(|(record, look)| (record.name.clone(), more(look)))),
                promised: most_first(promised),
            });
        }
        let names: Vec<String> = looks().map(|(record, _)| record.name.clone()).collect();
        for id in &ids {
            if let Some(space) = self.attached.get(id) {
                space.view.drain();
            }
        }
        // Their targets follow at once.
        self.step();
        info!(?names, drain.needed_bytes, "draining");
        Ok(wire::Drained { names, needed_bytes: drain.needed_bytes, free_bytes: drain.free_bytes })
    }

    /// What drains that are under way will take beside what their spaces hold, but those of some, in bytes.
    fn coming_bytes(&self, but: &BTreeSet<Identity>) -> u64 {
        let others = self.attached.iter().filter(|(id, _)| !but.contains(id)).map(|(_, space)| space.observer.last());
        let draining = others.filter(|look| look.drains);
        sum(draining.map(|look| look.footprint_bytes().saturating_sub(look.charged_bytes)))
    }

    /// Calls drains off, however far they are; who does not drain stays as he is. Gives those that did.
    pub fn stop_draining(&mut self, ids: &[Identity]) -> Vec<String> {
        let names: Vec<String> = ids
            .iter()
            .filter_map(|id| {
                let (record, space) = self.space(*id).filter(|(_, space)| space.view.drains())?;
                space.view.stop_draining();
                Some(record.name.clone())
            })
            .collect();
        // Others are told at once what it was granted for the drain, as it comes back.
        self.step();
        info!(?names, "no longer draining");
        names
    }
}

fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// Who has something, the most first.
fn most_first(amounts: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut amounts: Vec<(String, u64)> = amounts.filter(|(_, bytes)| *bytes > 0).collect();
    amounts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    amounts
}

/// What is wanted after a change.
fn changed(old: &Intent, change: &Change) -> Result<Intent, ChangeError> {
    if change.dram.is_some() && (change.reservation.is_some() || change.limit.is_some()) {
        return Err(meaningless(
            "dram together with reservation or limit",
            "dram is both at once: leave it out, or the others",
        ));
    }
    if *change == Change::default() {
        return Err(meaningless("nothing is to change", "name one of dram, reservation, limit, shares, class"));
    }
    let mut intent = *old;
    if let Some(amount) = &change.dram {
        let bytes = bytes_of("dram", amount)?;
        (intent.reservation_bytes, intent.limit_bytes) = (bytes, Some(bytes));
    }
    if let Some(amount) = &change.reservation {
        intent.reservation_bytes = bytes_of("reservation", amount)?;
    }
    if let Some(amount) = &change.limit {
        intent.limit_bytes = match amount {
            Amount::Text(text) if text.trim() == "none" => None,
            amount => Some(bytes_of("limit", amount)?),
        };
    }
    if let Some(shares) = change.shares {
        intent.shares = NonZeroU32::new(shares)
            .filter(|shares| shares.get() <= SHARES_MAX)
            .ok_or_else(|| meaningless(&format!("shares {shares}"), &format!("shares are 1 to {SHARES_MAX}")))?;
    }
    if let Some(class) = change.class {
        intent.class = class.into();
    }
    if intent.limit_bytes == Some(0) {
        return Err(meaningless("a limit of nothing", "a program needs 16M at least; `none` takes a limit away"));
    }
    Ok(intent)
}

fn bytes_of(what: &str, amount: &Amount) -> Result<u64, ChangeError> {
    match amount {
        Amount::Bytes(bytes) => Ok(*bytes),
        Amount::Text(text) => match text.parse::<Size>() {
            Ok(size) => Ok(size.0),
            Err(error) => Err(meaningless(&format!("{what} `{text}`"), &error.to_string())),
        },
    }
}

fn meaningless(what: &str, way_out: &str) -> ChangeError {
    ChangeError::Meaningless { what: what.to_owned(), way_out: way_out.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<Amount> {
        Some(Amount::Text(text.into()))
    }

    fn intent(reservation_bytes: u64, limit_bytes: Option<u64>) -> Intent {
        Intent { reservation_bytes, limit_bytes, ..Intent::default() }
    }

    #[test]
    fn a_drain_fits_what_nobody_else_holds_or_was_promised_to_the_byte() {
        let missing = |whole, charged, room, idle, coming| Drain::of(whole, charged, room, idle, coming).missing_bytes;
        assert_eq!(
            (missing(100, 40, 100, 60, 0), missing(100, 40, 99, 60, 0)),
            (0, 1),
            "others were promised the rest"
        );
        assert_eq!(
            (missing(100, 40, 900, 59, 0), missing(100, 40, 900, 69, 10)),
            (1, 1),
            "others hold the rest, or will"
        );
        assert_eq!(missing(100, 100, 90, 0, 0), 10, "what it holds was promised to another");
        assert_eq!(Drain::of(100, 40, 70, 80, 60).free_bytes, 20);
    }

    #[test]
    fn what_is_left_out_stays() {
        let old = intent(5, Some(9));
        let new = changed(&old, &Change { shares: Some(7), ..Change::default() }).unwrap();
        assert_eq!(new, Intent { shares: NonZeroU32::new(7).unwrap(), ..old });
    }

    #[test]
    fn dram_is_reservation_and_limit_at_once_and_none_takes_a_limit_away() {
        let fixed = changed(&intent(0, None), &Change { dram: text("512M"), ..Change::default() }).unwrap();
        assert_eq!((fixed.reservation_bytes, fixed.limit_bytes), (512 << 20, Some(512 << 20)));
        let open = changed(&fixed, &Change { limit: text("none"), ..Change::default() }).unwrap();
        assert_eq!((open.reservation_bytes, open.limit_bytes), (512 << 20, None));
        let number = changed(&open, &Change { limit: Some(Amount::Bytes(7)), ..Change::default() }).unwrap();
        assert_eq!(number.limit_bytes, Some(7));
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_would_be_right() {
        for change in [
            Change::default(),
            Change { dram: text("1G"), limit: text("2G"), ..Change::default() },
            Change { dram: text("lots"), ..Change::default() },
            Change { reservation: text("none"), ..Change::default() },
            Change { shares: Some(0), ..Change::default() },
            Change { shares: Some(SHARES_MAX + 1), ..Change::default() },
            Change { limit: text("0"), ..Change::default() },
        ] {
            let error = changed(&Intent::default(), &change).unwrap_err();
            assert!(matches!(&error, ChangeError::Meaningless { way_out, .. } if !way_out.is_empty()), "{error:?}");
        }
    }
}
