//! Every order of events in a drain, against a model that knows the true bytes.
//!
//! The world is small: some pages, and two of them brought back in a turn. The walk is the one that pagers take. Whoever
//! asks for a drain and calls it off is heard at any instant; while none is asked for, pages leave. The program touches its
//! pages and moves them, stores are slow, busy and lose pages, and memory may be changing whenever the kernel is asked for something.
//!
//! What must hold: a page that is not in its place is never let go; a lost one is a SIGBUS for good; and a drain that
//! nobody calls off any more comes to its end.

use memvisor_core::drain::{Pages, Walk};
use memvisor_core::{Page, SlotRef};
use std::collections::HashMap;

const PAGES: usize = 4;
/// Pages brought back in a turn.
const MOST: usize = 2;
/// Turns after which a drain is over that nothing is in the way of: the rest of a walk, walks that bring back all of the pages and
/// wait for the last of them, and one that meets nothing.
const TURNS_MAX: usize = 8;

/// Where the bytes of a page are, as its word says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Place,
    /// In a store that gives them at once, or that is read while others are served.
    Ram,
    Log,
    Coming,
    Nowhere,
}

/// What the program finds when it touches a page that nobody serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Found {
    True,
    Zeros,
    Sigbus,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Content {
    at: At,
    found: Found,
}

const HERE: Content = Content { at: At::Place, found: Found::True };

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    pages: [Content; PAGES],
    walk: Walk,
    is_asked: bool,
    /// The kernel says EAGAIN.
    is_changing: bool,
    is_let_go: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Asked,
    CalledOff,
    /// The monitor has its turn; it may come to see only the last of what was asked for.
    Turn,
    Leaves(usize, At),
    Touched(usize),
    Came(usize),
    Lost(usize),
    /// The program moves what is in one place to another, and back.
    Exchanged(usize, usize),
    Changing(bool),
    ArmedAgain,
}

fn events() -> Vec<Event> {
    use Event::*;
    let mut events = vec![Asked, CalledOff, Turn, Changing(true), Changing(false), ArmedAgain];
    for page in 0..PAGES {
        events.extend([Leaves(page, At::Ram), Leaves(page, At::Log), Touched(page), Came(page), Lost(page)]);
        events.extend((0..page).map(|other| Exchanged(other, page)));
    }
    events
}

impl Pages for World {
    fn count(&self) -> usize {
        PAGES
    }

    fn page(&self, at: usize) -> Page {
        match self.pages[at].at {
            At::Place => Page::Resident(SlotRef::None),
            At::Ram => Page::Stored(SlotRef::Ram(1)),
            At::Log => Page::Stored(SlotRef::Log(1)),
            At::Coming => Page::Loading(SlotRef::Log(1)),
            At::Nowhere => Page::Lost,
        }
    }

    fn bring_back(&mut self, at: usize) {
        match self.pages[at].at {
            At::Ram if !self.is_changing => self.pages[at] = HERE,
            At::Log => self.pages[at].at = At::Coming,
            At::Ram | At::Coming | At::Place | At::Nowhere => {}
        }
    }

    fn poison(&mut self, at: usize) -> bool {
        if !self.is_changing {
            self.pages[at].found = Found::Sigbus;
        }
        !self.is_changing
    }
}

impl World {
    fn start() -> Self {
        Self { pages: [HERE; PAGES], walk: Walk::default(), is_asked: false, is_changing: false, is_let_go: false }
    }

    /// The world after an event, if it can happen; or what is wrong then.
    fn after(mut self, event: Event) -> Option<Result<Self, &'static str>> {
        let is_armed = !self.is_let_go;
        match event {
            Event::Asked => self.is_asked = true,
            Event::CalledOff => self.is_asked = false,
            Event::Changing(is_changing) => self.is_changing = is_changing,
            Event::Turn if self.is_asked && is_armed => return Some(self.turn()),
            Event::Leaves(page, to) if is_armed && !self.is_asked && self.pages[page] == HERE => {
                self.pages[page] = Content { at: to, found: Found::Zeros };
            }
            Event::Touched(page) if is_armed => match self.pages[page].at {
                At::Nowhere => drop(self.poison(page)),
                At::Place | At::Ram | At::Log | At::Coming => self.bring_back(page),
            },
            Event::Came(page) if self.pages[page].at == At::Coming => {
                self.pages[page] = if self.is_changing { Content { at: At::Log, found: Found::Zeros } } else { HERE };
            }
            Event::Lost(page) if matches!(self.pages[page].at, At::Ram | At::Coming) => {
                self.pages[page].at = At::Nowhere;
                self.poison(page);
            }
            Event::Exchanged(one, other) if is_armed => self.pages.swap(one, other),
            Event::ArmedAgain if self.is_let_go && !self.is_asked => self.is_let_go = false,
            _ => return None,
        }
        Some(Ok(self))
    }

    fn turn(mut self) -> Result<Self, &'static str> {
        let mut walk = self.walk;
        self.is_let_go = walk.turn(&mut self, MOST);
        self.walk = walk;
        let is_wrong = |content: &Content| match content.at {
            At::Nowhere => content.found != Found::Sigbus,
            At::Place | At::Ram | At::Log | At::Coming => content.found != Found::True,
        };
        match self.is_let_go && self.pages.iter().any(is_wrong) {
            true => Err("memory was let go, and a page of it reads as zeros"),
            false => Ok(self),
        }
    }

    /// It is asked for a drain, and nothing is in its way from now on.
    fn drained(mut self) -> Result<(), &'static str> {
        (self.is_asked, self.is_changing) = (true, false);
        for _ in 0..TURNS_MAX {
            if self.is_let_go {
                return Ok(());
            }
            self = self.turn()?;
            self.pages.iter_mut().filter(|page| page.at == At::Coming).for_each(|page| *page = HERE);
        }
        if self.is_let_go { Ok(()) } else { Err("a drain that nobody calls off does not come to its end") }
    }
}

/// Each world that was reached, the world before it and the event between.
type CameFrom = HashMap<World, Option<(World, Event)>>;

fn order_to(came_from: &CameFrom, mut world: World) -> Vec<Event> {
    let mut order = Vec::new();
    while let Some((before, event)) = came_from[&world] {
        order.push(event);
        world = before;
    }
    order.reverse();
    order
}

#[test]
fn no_order_of_events_lets_go_of_a_page_that_is_not_in_its_place() {
    let mut came_from = CameFrom::from([(World::start(), None)]);
    let mut reached = vec![World::start()];
    let mut looked_at = 0;
    while let Some(&world) = reached.get(looked_at) {
        looked_at += 1;
        if let Err(wrong) = world.drained() {
            panic!("{wrong}: after {:?}, drained from then on", order_to(&came_from, world));
        }
        for event in events() {
            let next = match world.after(event) {
                None => continue,
                Some(Ok(next)) => next,
                Some(Err(wrong)) => panic!("{wrong}: after {:?}, {event:?}", order_to(&came_from, world)),
            };
            came_from.entry(next).or_insert_with(|| {
                reached.push(next);
                Some((world, event))
            });
        }
    }
    assert!(reached.iter().any(|world| world.is_let_go), "no order comes to the end of a drain");
    println!("{} worlds, all there are", reached.len());
}
