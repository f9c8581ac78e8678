//! The real transitions on real atomic words, under every interleaving and every reordering that the memory model
//! allows. Run with `RUSTFLAGS="--cfg loom" cargo test -p memvisor-core --test page_life_loom --release`.
//!
//! What `page_life` cannot see is here: that the bytes of a frame or of a slot, which are written before the word says
//! so, are seen by whoever reads the word. Bytes are relaxed atomics, so that only the words order them.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use memvisor_core::sync::AtomicU64;
use memvisor_core::{Frame, Page, PageCell, PageWord, Saver, SlotRef};

const FRAME: Frame = Frame(3);
const OLD: SlotRef = SlotRef::Ram(7);
const NEW: SlotRef = SlotRef::Log(9);

/// A page, the bytes of its place, its frame, its old and its new slot.
struct World {
    word: AtomicU64,
    place: AtomicU64,
    frame: AtomicU64,
    old: AtomicU64,
    new: AtomicU64,
}

impl World {
    fn new(page: Page) -> Arc<Self> {
        let word = AtomicU64::new(PageWord::new(page, 0, 5).0);
        let [place, frame, old, new] = [0; 4].map(AtomicU64::new);
        Arc::new(Self { word, place, frame, old, new })
    }

    fn cell(&self) -> PageCell<'_> {
        PageCell(&self.word)
    }

    fn slot(&self, slot: SlotRef) -> &AtomicU64 {
        if slot == OLD { &self.old } else { &self.new }
    }

    /// Moves the page out and back to rest: parked.
    fn park(&self) {
        if self.cell().apply(PageWord::park_begin).is_some() {
            self.frame.store(self.place.swap(0, Relaxed), Relaxed);
            self.cell().apply(|word| word.park_done(FRAME, 6)).expect("parking is the evictor's alone");
        }
    }

    /// Saves a parked page into the new slot; whether it was published.
    fn save(&self, saver: Saver) -> bool {
        if self.cell().apply(|word| word.claim(saver)).is_none() {
            return false;
        }
        self.new.store(self.frame.load(Relaxed), Relaxed);
        self.cell().apply(|word| word.publish(FRAME, saver, NEW)).is_some()
    }

    /// Serves one fault if the page can be had; gives what the page was and the bytes that it filled the place with.
    fn serve(&self, ticket: u16) -> Option<(Page, u64)> {
        if let Some((seen, _)) = self.cell().apply(|word| word.load_begin(ticket)) {
            let (slot, bytes) = match seen.page() {
                Page::Stored(slot) => (slot, self.slot(slot).load(Relaxed)),
                _ => (SlotRef::None, 0),
            };
            self.place.store(bytes, Relaxed);
            self.cell().apply(|word| word.load_done(ticket, slot, 1, 8)).expect("nobody takes a load");
            return Some((seen.page(), bytes));
        }
        let take = |word: PageWord| match word.page() {
            Page::Saving(frame, saver) => word.unclaim(frame, saver)?.unpark_begin(),
            _ => word.unpark_begin(),
        };
        let (seen, _) = self.cell().apply(take)?;
        let bytes = self.frame.load(Relaxed);
        self.place.store(bytes, Relaxed);
        self.cell().apply(|word| word.unpark_done(SlotRef::None, 8)).expect("nobody takes an unparking");
        Some((seen.page(), bytes))
    }
}

/// Runs `body` under every interleaving.
fn every_order(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    // Enough for every race of two parties over one word; three would take hours.
    model.preemption_bound = Some(3);
    model.check(body);
}

#[test]
fn one_of_two_servers_loads_a_page() {
    every_order(|| {
        let world = World::new(Page::Stored(OLD));
        world.old.store(42, Relaxed);
        let other = world.clone();
        let served = thread::spawn(move || other.serve(1));
        let mine = world.serve(2);
        let both = [mine, served.join().unwrap()];
        assert_eq!(both.iter().flatten().collect::<Vec<_>>(), [&(Page::Stored(OLD), 42)]);
        assert_eq!(world.cell().get(), PageWord::new(Page::Resident(OLD), 1, 8));
    });
}

#[test]
fn what_is_parked_is_saved_whole_or_taken_back_whole() {
    every_order(|| {
        let world = World::new(Page::Resident(SlotRef::None));
        world.place.store(42, Relaxed);
        let (evictor, keeper) = (world.clone(), world.clone());
        let evictor = thread::spawn(move || evictor.park());
        let keeper = thread::spawn(move || keeper.save(Saver::Keeper));
        let filled = world.serve(1);
        evictor.join().unwrap();
        let published = keeper.join().unwrap();
        assert!(filled.is_none_or(|(_, bytes)| bytes == 42));
        match world.cell().get().page() {
            Page::Resident(slot) => {
                assert_eq!(world.place.load(Relaxed), 42);
                assert!(slot == SlotRef::None || published);
            }
            Page::Parked(FRAME) => assert!(!published),
            Page::Stored(slot) => {
                assert!(published && slot == NEW);
                assert_eq!(world.new.load(Relaxed), 42);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn two_savers_do_not_publish_one_page() {
    every_order(|| {
        let world = World::new(Page::Parked(FRAME));
        world.frame.store(42, Relaxed);
        let keeper = world.clone();
        let keeper = thread::spawn(move || keeper.save(Saver::Keeper));
        let mine = world.save(Saver::Pager);
        let both = [mine, keeper.join().unwrap()];
        assert_eq!(both.iter().filter(|published| **published).count(), 1);
        assert_eq!(world.cell().get().page(), Page::Stored(NEW));
    });
}

#[test]
fn a_relocated_page_is_loaded_from_where_it_is() {
    every_order(|| {
        let world = World::new(Page::Stored(OLD));
        world.old.store(42, Relaxed);
        let compactor = world.clone();
        let compactor = thread::spawn(move || {
            compactor.new.store(compactor.old.load(Relaxed), Relaxed);
            let moved = compactor.cell().apply(|word| word.relocate(OLD, NEW)).is_some();
            if moved {
                // Nobody but a load that was begun before can read it now, and then it did not move.
                compactor.old.store(0, Relaxed);
            }
            moved
        });
        let bytes = world.serve(1);
        let moved = compactor.join().unwrap();
        assert_eq!(bytes.map(|(_, bytes)| bytes), Some(42));
        let slot = if moved { NEW } else { OLD };
        assert!(matches!(world.cell().get().page(), Page::Resident(at) if at == slot));
        assert_eq!(world.slot(slot).load(Relaxed), 42);
    });
}

#[test]
fn what_a_discard_takes_has_one_owner() {
    every_order(|| {
        let world = World::new(Page::Parked(FRAME));
        world.frame.store(42, Relaxed);
        let (keeper, server) = (world.clone(), world.clone());
        let keeper = thread::spawn(move || keeper.save(Saver::Keeper));
        let server = thread::spawn(move || server.serve(1));
        // Where more than one thread serves, a discard waits for a load.
        let discard = |word: PageWord| if matches!(word.page(), Page::Loading(_)) { None } else { word.discard() };
        let discarded = world.cell().apply(discard).map(|(seen, _)| seen.page());
        let (published, served) = (keeper.join().unwrap(), server.join().unwrap());
        // The frame leaves the words once: by publication, by service or by the discard.
        let by_discard = matches!(discarded, Some(Page::Parked(_) | Page::Saving(..)));
        let by_service = matches!(served, Some((Page::Parked(_) | Page::Saving(..), _)));
        let still = matches!(world.cell().get().page(), Page::Parked(_) | Page::Saving(..));
        assert_eq!([by_discard, by_service, published, still].iter().filter(|owner| **owner).count(), 1);
    });
}

#[test]
fn an_overtaken_load_changes_nothing() {
    every_order(|| {
        let world = World::new(Page::Stored(OLD));
        let slow = world.cell().apply(|word| word.load_begin(1)).is_some();
        assert!(slow);
        let other = world.clone();
        let other = thread::spawn(move || {
            other.cell().apply(PageWord::discard);
            let begun = other.cell().apply(|word| word.load_begin(2)).is_some();
            begun && other.cell().apply(|word| word.load_done(2, SlotRef::None, 0, 9)).is_some()
        });
        let slow = world.cell().apply(|word| word.load_done(1, OLD, 1, 8)).is_some();
        let other = other.join().unwrap();
        assert!(other, "the discard frees the page for the later load in either order");
        let word = world.cell().get();
        let seen = (word.page(), word.heat(), word.stamp(), word.may_be_missing());
        assert_eq!(seen, (Page::Resident(SlotRef::None), 0, 9, true), "slow load first: {slow}");
    });
}
