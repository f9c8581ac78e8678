//! What a pager can know of use, against the truth: the recorder of `memvisor-core` in a replay, the curve of
//! `memvisor-policy` made from what it wrote, and beside it what every touch of the trace says.

use crate::replay::{Watcher, replay_watched};
use crate::{Stats, reference};
use memvisor_core::PageIndex;
use memvisor_core::curve::{CURVE_WORDS, CurveWords, Recorded, Recorder, Use};
use memvisor_core::replace::S3Fifo;
use memvisor_core::sync::AtomicU64;
use memvisor_policy::curve::{Curve, RUNGS, Rung, Sums};

/// How much a recorder is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// Every touch: as if pages had bits that cost nothing.
    Everything,
    /// What a pager is told, the program touching a page every so many nanoseconds.
    Faults {
        /// From touch to touch.
        touch_ns: u64,
    },
}

/// One size of DRAM, as it was estimated and as it was.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// What was estimated, in faults a second.
    pub rung: Rung,
    /// What LRU of that size has, in faults a second, first touches apart.
    pub truth: f64,
}

/// A curve against the truth.
pub struct Outcome {
    /// The parts of the present DRAM that a curve is asked for.
    pub rungs: [Compared; RUNGS.len()],
    /// Touches in a second.
    pub touches: f64,
    /// Below this size the curve knows only the least.
    pub resolved_pages: u64,
    /// What was recorded.
    pub recorded: Recorded,
    /// What the pager did.
    pub stats: Stats,
}

impl Outcome {
    /// The sizes of which more than the least is known.
    pub fn resolved(&self) -> impl Iterator<Item = &Compared> {
        self.rungs.iter().filter(|compared| compared.rung.pages >= self.resolved_pages)
    }

    /// How far the estimates of these sizes are from the truth on average, as a part of all touches; `None` without any.
    pub fn error(&self) -> Option<f64> {
        self.mean_off(self.resolved())
    }

    /// The same of all sizes, those included that are an average guess.
    pub fn error_of_all(&self) -> f64 {
        self.mean_off(self.rungs.iter()).unwrap_or(0.0)
    }

    fn mean_off<'a>(&self, sizes: impl Iterator<Item = &'a Compared>) -> Option<f64> {
        let off = |compared: &Compared| (compared.rung.faults.expected - compared.truth).abs() / self.touches;
        let (sum, count) = sizes.fold((0.0, 0u32), |(sum, count), compared| (sum + off(compared), count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Whether the truth is not within what was said to be possible. A touch in ten thousand more or less is not worth a
    /// word.
    pub fn is_outside(&self, compared: &Compared) -> bool {
        let (faults, grain) = (compared.rung.faults, self.touches * 1e-4);
        compared.truth + grain < faults.low || compared.truth - grain > faults.high
    }

    /// Sizes, of all, at which the truth is outside.
    pub fn outside(&self) -> usize {
        self.rungs.iter().filter(|compared| self.is_outside(compared)).count()
    }
}

/// Replays `trace` with `capacity` pages of DRAM, records what `sight` allows, and compares.
pub fn compare(trace: &[u32], capacity: usize, sight: Sight) -> Outcome {
    let words: Vec<AtomicU64> = (0..CURVE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let touch_ns = match sight {
        Sight::Everything => 1_000_000,
        Sight::Faults { touch_ns } => touch_ns,
    };
    let mut watching = Watching { recorder: Recorder::new(), words: &words, now_ns: 0, touch_ns };
    let stats = match sight {
        Sight::Everything => watching.see_everything(trace),
        Sight::Faults { .. } => replay_watched(trace, &mut S3Fifo::new(capacity as u64), capacity, &mut watching),
    };
    let seconds = trace.len() as f64 * touch_ns as f64 / 1e9;
    let recorded = CurveWords(&words).read();
    let curve = Curve::new(&Sums::of(&recorded, seconds)).expect("a trace takes time and has pages");
    let distances = reference::reuse_distances(trace);
    let truth = |pages: u64| {
        distances.iter().flatten().filter(|&&distance| u64::from(distance) >= pages).count() as f64 / seconds
    };
    Outcome {
        rungs: curve.ladder(capacity as u64).map(|rung| Compared { rung, truth: truth(rung.pages) }),
        touches: trace.len() as f64 / seconds,
        resolved_pages: curve.resolved_pages(),
        recorded,
        stats,
    }
}

struct Watching<'a> {
    recorder: Recorder,
    words: &'a [AtomicU64],
    now_ns: u64,
    touch_ns: u64,
}

impl Watching<'_> {
    fn see_everything(&mut self, trace: &[u32]) -> Stats {
        let mut known = std::collections::HashSet::new();
        for &page in trace {
            self.used(PageIndex(page), if known.insert(page) { Use::First } else { Use::Back });
            self.hidden(PageIndex(page));
        }
        Stats { accesses: trace.len() as u64, ..Stats::default() }
    }
}

impl Watcher for Watching<'_> {
    fn used(&mut self, page: PageIndex, how: Use) {
        self.recorder.used(page, how, self.now_ns, CurveWords(self.words));
    }

    fn hidden(&mut self, page: PageIndex) {
        self.recorder.hidden(page, self.now_ns, CurveWords(self.words));
    }

    fn next_to_hide(&mut self) -> Option<PageIndex> {
        let page = self.recorder.next_to_hide(self.now_ns, CurveWords(self.words));
        if page.is_none() {
            self.now_ns += self.touch_ns;
        }
        page
    }
}
