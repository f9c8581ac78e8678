//! Slabs: equal pieces of the arena, each cut into objects of one size class, and the word that says what one is.
//!
//! ```text
//!   63          32 31   24 23      12 11  10 9      2 1   0
//!  ┌──────────────┬───────┬──────────┬──────┬────────┬─────┐
//!  │ touched      │ turn  │ live     │closed│ class  │state│   free, in use
//!  ├──────────────┼───────┼──────────┴──────┴────────┼─────┤
//!  │ touched      │ turn  │ process id               │state│   claiming, punching
//!  └──────────────┴───────┴──────────────────────────┴─────┘
//! ```
//! *Live* counts the objects that are allocated or about to be; a slab changes its class or is given back only by a
//! swap of this word while live is 0, so no object can be in it then. *Touched* has a bit for each 4 KiB page that
//! holds memory: what the slab costs. *Turn* counts the changes of class, so that who looked at an object across one
//! sees it. *Closed* slabs take no new objects: they are being emptied. While a slab is *claimed* or *punched* it
//! belongs to one process, whose id tells others when it died at that.

/// Bytes in a slab: 32 pages, one bit each in the slab's word. 62 half-random pages fit, with 128 bytes left over.
pub const SLAB_BYTES: usize = 128 << 10;
/// Bytes of the smallest objects.
pub const OBJECT_BYTES_MIN: usize = 64;
/// Objects of the largest class in a slab. They have 3 120 bytes: what compresses to more than three quarters of a
/// page is better kept as it is.
const OBJECTS_MIN: usize = 42;
/// Objects of the smallest class in a slab.
pub const OBJECTS_MAX: usize = SLAB_BYTES / OBJECT_BYTES_MIN;
/// Words of a slab's bitmap.
pub const BITMAP_WORDS: usize = OBJECTS_MAX / 64;
/// The largest object.
pub const OBJECT_BYTES_MAX: usize = size_for(OBJECTS_MIN);
/// Sizes of objects that there can be, in the unit in which slots are counted.
const UNITS_MAX: usize = OBJECT_BYTES_MAX / 8;

/// The size of objects, a multiple of 8, of which `count` fill a slab.
const fn size_for(count: usize) -> usize {
    (SLAB_BYTES / count) & !7
}

/// The count that comes after `count` in the table: as far as sizes shrink by at most 2 % (measured on text: steps of
/// 3 % cost 0.5 % of density, steps of 1.5 % gain nothing), or else the next one that is smaller at all.
const fn next_count(count: usize) -> usize {
    let size = size_for(count);
    let mut next = SLAB_BYTES / size + 1;
    while size_for(next + 1) * 102 >= size * 100 {
        next += 1;
    }
    SLAB_BYTES / size_for(next)
}

/// The number of size classes.
pub const CLASSES: usize = {
    let (mut count, mut classes) = (OBJECTS_MIN, 1);
    while count < OBJECTS_MAX {
        count = next_count(count);
        classes += 1;
    }
    classes
};

const SIZES: [u16; CLASSES] = {
    let mut sizes = [0; CLASSES];
    let (mut count, mut class) = (OBJECTS_MIN, 0);
    while class < CLASSES {
        let size = size_for(count);
        sizes[class] = size as u16;
        count = next_count(count);
        class += 1;
    }
    sizes
};

/// For each size in units of 8 bytes, the class with the smallest objects that are large enough.
const CLASS_OF: [u8; UNITS_MAX + 1] = {
    let mut classes = [0; UNITS_MAX + 1];
    let (mut class, mut unit) = (CLASSES - 1, 0);
    while unit <= UNITS_MAX {
        while (SIZES[class] as usize) < unit * 8 {
            class -= 1;
        }
        classes[unit] = class as u8;
        unit += 1;
    }
    classes
};

/// A size class; only those below [`CLASSES`] exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class(u8);

impl Class {
    /// The class for objects of `bytes`; `None` when that is more than the largest has.
    pub fn of(bytes: usize) -> Option<Self> {
        CLASS_OF.get(bytes.div_ceil(8)).map(|class| Self(*class))
    }
    /// The class with this number.
    pub fn number(number: usize) -> Option<Self> {
        (number < CLASSES).then_some(Self(number as u8))
    }
    /// Its number, 0..[`CLASSES`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
    /// Bytes of an object of this class.
    pub fn object_bytes(self) -> usize {
        SIZES[self.index()] as usize
    }
    /// Objects of this class in a slab.
    pub fn objects(self) -> usize {
        SLAB_BYTES / self.object_bytes()
    }
    /// The pages of its slab, one bit each, that object number `object` lies in.
    pub fn pages_of(self, object: usize) -> u32 {
        let first = object * self.object_bytes() / 4096;
        let last = ((object + 1) * self.object_bytes() - 1) / 4096;
        (u64::MAX << first & !(u64::MAX << last << 1)) as u32
    }
    /// Which bits of word number `word` of the bitmap stand for an object.
    pub fn bits_of(self, word: usize) -> u64 {
        match self.objects().saturating_sub(word * 64) {
            0 => 0,
            left @ 1..64 => (1 << left) - 1,
            _ => u64::MAX,
        }
    }
}

/// What a slab is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slab {
    /// Nobody's, without memory.
    Free,
    /// Cut into objects of a class, of which `live` are allocated.
    InUse {
        /// The class.
        class: Class,
        /// Objects that are allocated or about to be.
        live: usize,
        /// It takes no new objects.
        closed: bool,
    },
    /// A process is about to cut it into objects of another class.
    Claiming(u32),
    /// A process is giving its memory back.
    Punching(u32),
}

/// The word of a slab.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SlabWord(pub u64);

const CLASS_SHIFT: u32 = 2;
const CLOSED: u64 = 1 << 10;
const LIVE_SHIFT: u32 = 12;
const LIVE_MASK: u64 = 0xfff;
const TURN_SHIFT: u32 = 24;
const PID_MASK: u64 = (1 << 22) - 1;
const TOUCHED_SHIFT: u32 = 32;

impl SlabWord {
    /// The word of `slab` with these touched pages, in this turn.
    fn new(slab: Slab, turn: u8, touched: u32) -> Self {
        let low = match slab {
            Slab::Free => 0,
            Slab::InUse { class, live, closed } => {
                1 | (class.0 as u64) << CLASS_SHIFT | if closed { CLOSED } else { 0 } | (live as u64) << LIVE_SHIFT
            }
            Slab::Claiming(pid) => 2 | (pid as u64 & PID_MASK) << CLASS_SHIFT,
            Slab::Punching(pid) => 3 | (pid as u64 & PID_MASK) << CLASS_SHIFT,
        };
        Self(low | (turn as u64) << TURN_SHIFT | (touched as u64) << TOUCHED_SHIFT)
    }

    /// What the slab is; `None` when the word names a class that does not exist: it was overwritten.
    pub fn slab(self) -> Option<Slab> {
        let pid = (self.0 >> CLASS_SHIFT & PID_MASK) as u32;
        Some(match self.0 & 3 {
            0 => Slab::Free,
            1 => Slab::InUse {
                class: Class::number((self.0 >> CLASS_SHIFT & 0xff) as usize)?,
                live: (self.0 >> LIVE_SHIFT & LIVE_MASK) as usize,
                closed: self.0 & CLOSED != 0,
            },
            2 => Slab::Claiming(pid),
            _ => Slab::Punching(pid),
        })
    }

    /// The same slab as `slab`, in the same turn, with the same memory.
    pub fn become_slab(self, slab: Slab) -> Self {
        Self::new(slab, self.turn(), self.touched())
    }

    /// A slab in use in a new turn, with the same memory.
    pub fn next_turn(self, slab: Slab) -> Self {
        Self::new(slab, self.turn().wrapping_add(1), self.touched())
    }

    /// A slab without memory in a new turn.
    pub fn punched(self) -> Self {
        Self::new(Slab::Free, self.turn().wrapping_add(1), 0)
    }

    /// The pages that hold memory, one bit each.
    pub fn touched(self) -> u32 {
        (self.0 >> TOUCHED_SHIFT) as u32
    }

    /// What to set in the word so that `pages` count as touched.
    pub fn touch_bits(pages: u32) -> u64 {
        (pages as u64) << TOUCHED_SHIFT
    }

    /// Changes whenever the slab changes its class.
    pub fn turn(self) -> u8 {
        (self.0 >> TURN_SHIFT) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_gets_the_smallest_class_that_holds_it() {
        for bytes in 1..=OBJECT_BYTES_MAX {
            let class = Class::of(bytes).unwrap();
            assert!(class.object_bytes() >= bytes, "{bytes}");
            if let Some(next) = Class::number(class.index() + 1) {
                assert!(next.object_bytes() < bytes.div_ceil(8) * 8, "{bytes}");
            }
        }
        assert_eq!(Class::of(OBJECT_BYTES_MAX + 1), None);
        assert_eq!(SIZES[CLASSES - 1] as usize, OBJECT_BYTES_MIN);
    }

    #[test]
    fn classes_step_by_at_most_two_and_a_half_percent_or_eight_bytes() {
        for pair in SIZES.windows(2) {
            let (large, small) = (pair[0] as usize, pair[1] as usize);
            assert!(small < large && (large - small <= 8 || large * 1000 <= small * 1025), "{large} {small}");
        }
        for class in (0..CLASSES).filter_map(Class::number) {
            let tail = SLAB_BYTES - class.objects() * class.object_bytes();
            assert!(tail < class.object_bytes() && tail * 100 < SLAB_BYTES, "{class:?} {tail}");
        }
    }

    #[test]
    fn the_pages_of_an_object_are_those_its_bytes_lie_in() {
        for class in (0..CLASSES).filter_map(Class::number) {
            for object in 0..class.objects() {
                let bytes = object * class.object_bytes()..(object + 1) * class.object_bytes();
                let pages = bytes.fold(0u32, |pages, byte| pages | 1 << (byte / 4096));
                assert_eq!(class.pages_of(object), pages, "{class:?} {object}");
            }
            let bits: u32 = (0..BITMAP_WORDS).map(|word| class.bits_of(word).count_ones()).sum();
            assert_eq!(bits as usize, class.objects());
        }
    }

    #[test]
    fn a_slab_survives_packing() {
        let class = Class::of(2100).unwrap();
        for slab in [
            Slab::Free,
            Slab::InUse { class, live: OBJECTS_MAX, closed: false },
            Slab::InUse { class, live: 1, closed: true },
            Slab::Claiming(PID_MASK as u32),
            Slab::Punching(77),
        ] {
            let word = SlabWord::new(slab, 255, 0x8000_0001);
            assert_eq!(word.slab(), Some(slab));
            assert_eq!((word.turn(), word.touched()), (255, 0x8000_0001));
            assert_eq!(word.next_turn(slab).turn(), 0);
        }
        assert!(SlabWord(1 | 0xff << CLASS_SHIFT).slab().is_none());
    }
}
