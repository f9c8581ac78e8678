//! Every order of events in the life of a page, run by machine against a model that knows the true bytes.
//!
//! The world is small: one or two pages, two staging frames, three or four slots, so that everything is used again soon
//! and a name that means two things in turn is met. The words are real page words, changed by the real transitions. The
//! actors are those that a pager has, each event of theirs on its own: a program that reads and writes, another thread
//! of it that gives memory away, an evictor, two savers, two servers of faults, a compactor, a keeper that dies, a store
//! that spoils what it holds. Two pagers are explored: one where any thread does anything at any time, and one where a
//! single monitor thread does it all.
//!
//! What must hold: a touch sees the true bytes or waits; a page is lost only when the store lost it; nothing is given
//! back twice; at rest every slot and frame has its owner; whatever was begun can end.

mod actors;
mod explore;
mod faults;
mod rules;
mod state;

use explore::{Seen, Violation, explore};
use rules::{Broken, Pager, Rules};
use state::Budgets;

const WRITES: Budgets = Budgets { writes: 2, discards: 0, refusals: 0, spoilings: 0, deaths: 0 };
const DISCARDS: Budgets = Budgets { discards: 1, ..WRITES };

/// One page and what every world has; any thread does anything.
const MANY: Rules = Rules {
    pager: Pager::ManyThreads,
    broken: Broken::Nothing,
    pages: 1,
    frames: 2,
    slots: 3,
    keeper: true,
    second_keeper_thread: false,
    pager_saver: true,
    servers: 2,
    relocator: false,
    budgets: WRITES,
};
/// The same with a single monitor thread.
const ONE: Rules = Rules { pager: Pager::OneMonitor, ..MANY };

/// Explores every order of up to `depth` events.
fn holds(name: &str, rules: Rules, depth: usize) {
    match explore(&rules, depth) {
        Ok(Seen { states, events, depth, complete }) => {
            let end = if complete { "all there are" } else { "and no further" };
            println!("{name}: {states} worlds, {events} events, orders of {depth} events {end}");
        }
        Err(Violation { wrong, trace }) => panic!("{name}: {wrong}, after\n{trace}"),
    }
}

/// Every world with one page, each with another kind of trouble, and all of them together.
fn one_page(name: &str, rules: Rules, depth: usize) {
    let everything = Budgets { writes: 2, discards: 1, refusals: 1, spoilings: 1, deaths: 1 };
    let of = |budgets| Rules { budgets, ..rules };
    holds(&format!("{name}, written once"), of(Budgets { writes: 1, ..WRITES }), 200);
    holds(&format!("{name}, given away"), of(Budgets { discards: 2, ..WRITES }), depth);
    holds(&format!("{name}, refused"), of(Budgets { refusals: 2, ..WRITES }), depth);
    holds(&format!("{name}, spoilt"), of(Budgets { spoilings: 1, ..WRITES }), depth);
    holds(&format!("{name}, keeper dead"), of(Budgets { deaths: 1, ..WRITES }), depth);
    holds(&format!("{name}, relocated"), Rules { relocator: true, slots: 4, ..rules }, depth);
    holds(&format!("{name}, everything"), Rules { relocator: true, slots: 4, budgets: everything, ..rules }, depth - 4);
}

#[test]
fn no_order_of_events_loses_a_page_when_any_thread_does_anything() {
    one_page("many threads", MANY, 28);
}

#[test]
fn no_order_of_events_loses_a_page_when_one_monitor_does_all() {
    one_page("one monitor", ONE, 30);
}

#[test]
fn no_order_of_events_mixes_up_two_pages() {
    let scarce = Rules { pages: 2, frames: 1, slots: 2, servers: 1, ..MANY };
    holds("many threads, two pages", Rules { budgets: DISCARDS, ..scarce }, 22);
    holds("many threads, two pages, relocated", Rules { relocator: true, slots: 3, ..scarce }, 22);
    holds("one monitor, two pages", Rules { pager: Pager::OneMonitor, servers: 2, budgets: DISCARDS, ..scarce }, 24);
}

#[test]
fn a_broken_rule_is_found_out() {
    use Broken::*;
    let discards = Rules { budgets: DISCARDS, ..MANY };
    let one_discards = Rules { pager: Pager::OneMonitor, ..discards };
    for (broken, rules) in [
        (PublishAnything, MANY),
        (PublishForTheOther, MANY),
        (PublishUnasked, MANY),
        (FreeUnpublished, MANY),
        (BelieveRetained, MANY),
        (IgnoreTicket, one_discards),
        (RelocateUnpinned, Rules { relocator: true, ..MANY }),
        (RelocateUnasked, Rules { relocator: true, ..MANY }),
        (DropFirst, discards),
        (DiscardLoading, discards),
        (CopyBackByMany, MANY),
        (CopyBackUnnoticed, ONE),
        (TrustResident, one_discards),
        (TrustExisting, discards),
        (TrustExisting, one_discards),
        (ParkHole, one_discards),
        (LeaveDeadClaims, Rules { budgets: Budgets { deaths: 1, ..WRITES }, ..MANY }),
    ] {
        match explore(&Rules { broken, ..rules }, 36) {
            Ok(Seen { states, .. }) => panic!("{broken:?} was not found out in {states} worlds"),
            Err(Violation { wrong, trace }) => {
                println!("{broken:?}, {:?}: {wrong}, after {} events", rules.pager, trace.lines().count());
            }
        }
    }
}

/// Why the two kinds of savers have states of their own, and why there is one of each kind: the frame in the word does
/// not tell two claims of the same page in the same frame apart.
#[test]
fn two_threads_that_save_under_one_name_lose_a_page() {
    let rules = Rules { second_keeper_thread: true, frames: 1, slots: 4, ..MANY };
    let Err(Violation { wrong, .. }) = explore(&rules, 36) else { panic!("two savers of one name went well") };
    assert_eq!(wrong, "the program saw bytes that are not its own");
}
