//! Runs every order of events, breadth first, and looks at every world that comes of it.

use crate::actors::{Event, Events, KEEPER, PROGRAM, SERVERS};
use crate::rules::Rules;
use crate::state::{At, HOLE, State};
use memvisor_core::{Page, Saver};
use std::collections::HashSet;
use std::fmt::Write;

/// What an exploration saw.
#[derive(Debug)]
pub struct Seen {
    pub states: usize,
    pub events: usize,
    /// Events in the longest order.
    pub depth: usize,
    /// Every world that can be reached was reached.
    pub complete: bool,
}

/// An order of events at whose end something is wrong.
pub struct Violation {
    pub wrong: &'static str,
    pub trace: String,
}

/// The event that led to a world: the world before it, who, what, which page.
struct Step {
    from: u32,
    actor: u8,
    what: &'static str,
    page: u8,
}

/// A world in so many is led to its end, to see that it can be.
const DRAIN_EVERY: usize = 32;

pub fn explore(rules: &Rules, depth_max: usize) -> Result<Seen, Violation> {
    let mut visited = HashSet::new();
    let mut steps = vec![Step { from: 0, actor: 0, what: "begins", page: 0 }];
    let mut level = vec![(0u32, State::new(rules.budgets))];
    visited.insert(level[0].1);
    let (mut events, mut depth) = (0, 0);
    while depth < depth_max && !level.is_empty() {
        depth += 1;
        let mut next_level = Vec::new();
        for (at, state) in &level {
            for Event { actor, what, page, next } in next_events(rules, state) {
                events += 1;
                let step = Step { from: *at, actor, what, page };
                let next = match next {
                    Ok(next) => canonical(rules, next),
                    Err(wrong) => return Err(violation(&mut steps, step, wrong)),
                };
                if !visited.insert(next) {
                    continue;
                }
                let wrong = if next.is_quiet() {
                    next.check_owners().and_then(|()| drain(rules, next))
                } else if visited.len() % DRAIN_EVERY == 0 {
                    drain(rules, next)
                } else {
                    Ok(())
                };
                if let Err(wrong) = wrong {
                    return Err(violation(&mut steps, step, wrong));
                }
                next_level.push((steps.len() as u32, next));
                steps.push(step);
            }
        }
        level = next_level;
    }
    Ok(Seen { states: visited.len(), events, depth, complete: level.is_empty() })
}

fn next_events(rules: &Rules, state: &State) -> Vec<Event> {
    let mut events = Events { rules, state, out: Vec::with_capacity(32) };
    events.all();
    events.out
}

/// The servers are alike: which of them is where does not matter.
fn canonical(rules: &Rules, mut state: State) -> State {
    let [first, second] = SERVERS;
    if rules.servers == SERVERS.len() && state.at[first] > state.at[second] {
        state.at.swap(first, second);
        state.monitor = match state.monitor as usize {
            at if at == first => second as u8,
            at if at == second => first as u8,
            at => at as u8,
        };
    }
    state
}

/// Whatever was begun comes to an end, and then every page that is not lost can be had, with the right bytes.
fn drain(rules: &Rules, mut state: State) -> Result<(), &'static str> {
    const STEPS_MAX: usize = 100;
    for _ in 0..STEPS_MAX {
        let is_ending = |event: &Event| {
            let begun = !matches!(state.at[event.actor as usize], At::Idle | At::Dead);
            let claims = event.what == "gets the dead keeper's claim back";
            (begun && event.what != "dies") || claims
        };
        let wanted = (0..rules.pages as u8)
            .find(|&page| state.memory[page as usize] == HOLE && state.word(page).page() != Page::Lost);
        let is_service = |event: &Event| event.actor as usize == SERVERS[0] && Some(event.page) == wanted;
        let events = next_events(rules, &state);
        let event = match events.into_iter().reduce(|a, b| if is_ending(&a) || !is_ending(&b) { a } else { b }) {
            Some(event) if is_ending(&event) => event,
            _ if !state.is_quiet() => return Err("something that was begun cannot end"),
            _ if has_dead_claim(rules, &state) => return Err("a dead keeper has a claim"),
            _ if wanted.is_none() => return at_rest(rules, &state),
            _ => match next_events(rules, &state).into_iter().find(is_service) {
                Some(event) => event,
                None => return Err("a touched page cannot be had"),
            },
        };
        state = event.next?;
    }
    Err("something that was begun goes on for ever")
}

fn at_rest(rules: &Rules, state: &State) -> Result<(), &'static str> {
    state.check_owners()?;
    match next_events(rules, state).into_iter().find(|event| event.actor as usize == PROGRAM && event.next.is_err()) {
        Some(event) => event.next.map(|_| ()),
        None => Ok(()),
    }
}

fn has_dead_claim(rules: &Rules, state: &State) -> bool {
    let claimed = |page| matches!(state.word(page).page(), Page::Saving(_, Saver::Keeper));
    state.at[KEEPER] == At::Dead && (0..rules.pages as u8).any(claimed)
}

fn violation(steps: &mut Vec<Step>, last: Step, wrong: &'static str) -> Violation {
    const NAMES: [&str; 9] = [
        "program",
        "evictor",
        "keeper",
        "pager's saver",
        "server 1",
        "server 2",
        "discarder",
        "relocator",
        "second keeper",
    ];
    steps.push(last);
    let mut order = Vec::new();
    let mut at = steps.len() - 1;
    while at != 0 {
        order.push(at);
        at = steps[at].from as usize;
    }
    let mut trace = String::new();
    for at in order.into_iter().rev() {
        let Step { actor, what, page, .. } = steps[at];
        writeln!(trace, "  {} {what} {page}", NAMES[actor as usize]).expect("a string takes everything");
    }
    Violation { wrong, trace }
}
