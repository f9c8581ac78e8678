//! `mapwalk BYTES STEPS SEED`: maps, remaps, protects, gives away and unmaps memory at random, beside a model that knows the
//! true bytes of each page.
//!
//! Pages that nobody may read must answer `EFAULT` to the kernel, pages that were never written must be zero, and all
//! others what was last written, wherever they were moved.

use super::{number, say, tried};
use crate::os::{Access, Ground, PAGE_BYTES};
use crate::pattern::{Dice, PAGE_WORDS, Pattern};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// The smallest and largest new mapping, in pages: both sides of what is large enough to be managed.
const AREA_PAGES: Range<u64> = 16..2048;
/// Pages written, and pages verified, in a step.
const WRITES: u64 = 192;
const READS: u64 = 96;
/// Steps between two verifications of everything.
const SWEEP_STEPS: u64 = 100;

/// What the model knows of a page.
#[derive(Clone, Copy)]
struct Known {
    access: Access,
    /// What was written, `None` for zeros.
    pattern: Option<Pattern>,
}

const FRESH: Known = Known { access: Access::Write, pattern: None };

struct Walk {
    ground: Ground,
    /// The model: each mapped page by its address.
    pages: BTreeMap<usize, Known>,
    /// Mappings by start, each made and changed as a whole only, so that the kernel holds it in one piece for mremap.
    areas: Vec<Area>,
    bytes_max: usize,
    version: u64,
    dice: Dice,
    pipe: (io::PipeReader, io::PipeWriter),
}

#[derive(Clone)]
struct Area {
    range: Range<usize>,
    /// Neither protected in part nor mapped over: mremap takes it.
    whole: bool,
}

/// Runs it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let bytes = number(arguments, 0, "BYTES")?;
    let steps = number(arguments, 1, "STEPS")?;
    let seed = number(arguments, 2, "SEED")?;
    say(&format!("seed {seed}"));
    let mut walk = Walk {
        ground: Ground::default(),
        pages: BTreeMap::new(),
        areas: Vec::new(),
        bytes_max: bytes as usize,
        version: 0,
        dice: Dice::new(seed),
        pipe: io::pipe().map_err(tried("pipe"))?,
    };
    for step in 0..steps {
        walk.step().map_err(|reason| format!("seed {seed} step {step}: {reason}"))?;
        if step % SWEEP_STEPS == SWEEP_STEPS - 1 || step + 1 == steps {
            walk.verify_all().map_err(|reason| format!("seed {seed} after step {step}: {reason}"))?;
        }
    }
    say(&format!("{steps} steps verified, {} pages in {} areas at the end", walk.pages.len(), walk.areas.len()));
    Ok(())
}

impl Walk {
    fn step(&mut self) -> Result<(), String> {
        let full = self.pages.len() * PAGE_BYTES >= self.bytes_max;
        match self.dice.below(12) {
            _ if self.areas.is_empty() => self.map()?,
            0 | 1 if !full => self.map()?,
            0..=2 => self.unmap()?,
            3 => self.map_over()?,
            4 | 5 => self.protect()?,
            6 => self.discard()?,
            7 if !full => self.grow()?,
            7 | 8 => self.shrink()?,
            9 => self.move_onto()?,
            _ => {}
        }
        self.write_some()?;
        self.verify_some()
    }

    fn pick(&mut self) -> usize {
        self.dice.below(self.areas.len() as u64) as usize
    }

    /// A part of an area, whole pages, at times all of it.
    fn part(&mut self, area: usize) -> Range<usize> {
        let Range { start, end } = self.areas[area].range.clone();
        let pages = ((end - start) / PAGE_BYTES) as u64;
        if self.dice.below(4) == 0 {
            return start..end;
        }
        let first = self.dice.below(pages);
        let count = 1 + self.dice.below(pages - first);
        let start = start + first as usize * PAGE_BYTES;
        start..start + count as usize * PAGE_BYTES
    }

    fn learn(&mut self, range: &Range<usize>, known: Known) {
        self.pages.extend(range.clone().step_by(PAGE_BYTES).map(|page| (page, known)));
    }

    fn forget(&mut self, range: &Range<usize>) {
        for page in range.clone().step_by(PAGE_BYTES) {
            self.pages.remove(&page);
        }
    }

    fn map(&mut self) -> Result<(), String> {
        let pages = AREA_PAGES.start + self.dice.below(AREA_PAGES.end - AREA_PAGES.start);
        let range = self.ground.map(pages as usize * PAGE_BYTES).map_err(tried("mmap"))?;
        self.learn(&range, FRESH);
        self.areas.push(Area { range, whole: true });
        Ok(())
    }

    fn unmap(&mut self) -> Result<(), String> {
        let at = self.pick();
        let part = self.part(at);
        self.ground.unmap(part.clone()).map_err(tried("munmap"))?;
        self.forget(&part);
        let area = self.areas.swap_remove(at);
        for rest in [area.range.start..part.start, part.end..area.range.end] {
            if !rest.is_empty() {
                self.areas.push(Area { range: rest, whole: area.whole });
            }
        }
        Ok(())
    }

    fn map_over(&mut self) -> Result<(), String> {
        let at = self.pick();
        let part = self.part(at);
        let access = if self.dice.below(3) == 0 { Access::None } else { Access::Write };
        self.ground.map_over(part.clone(), access).map_err(tried("mmap with MAP_FIXED"))?;
        self.learn(&part, Known { access, pattern: None });
        self.areas[at].whole = false;
        Ok(())
    }

    fn protect(&mut self) -> Result<(), String> {
        let at = self.pick();
        let part = self.part(at);
        let access = [Access::None, Access::Read, Access::Write, Access::Write][self.dice.below(4) as usize];
        self.ground.protect(part.clone(), access).map_err(tried("mprotect"))?;
        for page in part.clone().step_by(PAGE_BYTES) {
            self.pages.get_mut(&page).expect("an area's pages are known").access = access;
        }
        self.areas[at].whole &= part == self.areas[at].range;
        Ok(())
    }

    fn discard(&mut self) -> Result<(), String> {
        let at = self.pick();
        let part = self.part(at);
        self.ground.discard(part.clone()).map_err(tried("madvise"))?;
        for page in part.step_by(PAGE_BYTES) {
            self.pages.get_mut(&page).expect("an area's pages are known").pattern = None;
        }
        Ok(())
    }

    /// An area that mremap takes, if the dice find one.
    fn pick_whole(&mut self) -> Option<usize> {
        let at = self.pick();
        self.areas[at].whole.then_some(at)
    }

    fn resize(&mut self, at: usize, bytes: usize) -> Result<(), String> {
        let old = self.areas[at].range.clone();
        let access = self.pages[&old.start].access;
        let new = self.ground.resize(old.clone(), bytes).map_err(tried("mremap"))?;
        let contents: Vec<Known> = old.clone().step_by(PAGE_BYTES).map(|page| self.pages[&page]).collect();
        self.forget(&old);
        let fresh = std::iter::repeat(Known { access, pattern: None });
        self.pages.extend(new.clone().step_by(PAGE_BYTES).zip(contents.into_iter().chain(fresh)));
        self.areas[at].range = new;
        Ok(())
    }

    fn grow(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_whole() else { return Ok(()) };
        let more = 1 + self.dice.below(AREA_PAGES.end) as usize;
        self.resize(at, self.areas[at].range.len() + more * PAGE_BYTES)
    }

    fn shrink(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_whole() else { return Ok(()) };
        let pages = self.areas[at].range.len() / PAGE_BYTES;
        let left = 1 + self.dice.below(pages as u64) as usize;
        self.resize(at, left * PAGE_BYTES)
    }

    /// Moves the head of one area onto the head of another, which loses what it had there.
    fn move_onto(&mut self) -> Result<(), String> {
        let Some(from) = self.pick_whole() else { return Ok(()) };
        let onto = self.pick();
        if from == onto {
            return Ok(());
        }
        let pages = self.areas[from].range.len().min(self.areas[onto].range.len()) / PAGE_BYTES;
        let bytes = (1 + self.dice.below(pages as u64) as usize) * PAGE_BYTES;
        let (source, target) = (self.areas[from].range.start, self.areas[onto].range.start);
        let moved = source..source + bytes;
        self.ground.move_onto(moved.clone(), target).map_err(tried("mremap with MREMAP_FIXED"))?;
        let contents: Vec<Known> = moved.clone().step_by(PAGE_BYTES).map(|page| self.pages[&page]).collect();
        self.forget(&moved);
        self.pages.extend((target..target + bytes).step_by(PAGE_BYTES).zip(contents));
        self.areas[onto].whole = false;
        self.areas[from].range.start += bytes;
        if self.areas[from].range.is_empty() {
            self.areas.swap_remove(from);
        }
        Ok(())
    }

    fn any_page(&mut self) -> Option<usize> {
        if self.areas.is_empty() {
            return None;
        }
        let at = self.pick();
        let range = self.areas[at].range.clone();
        Some(range.start + self.dice.below((range.len() / PAGE_BYTES) as u64) as usize * PAGE_BYTES)
    }

    fn write_some(&mut self) -> Result<(), String> {
        let mut words = [0; PAGE_WORDS];
        for _ in 0..WRITES {
            let Some(page) = self.any_page() else { return Ok(()) };
            if self.pages[&page].access != Access::Write {
                continue;
            }
            self.verify(page)?;
            self.version += 1;
            let pattern = Pattern::new(page as u64, self.version);
            pattern.fill(&mut words);
            self.ground.write(page, &words);
            self.pages.insert(page, Known { access: Access::Write, pattern: Some(pattern) });
        }
        Ok(())
    }

    fn verify_some(&mut self) -> Result<(), String> {
        for _ in 0..READS {
            if let Some(page) = self.any_page() {
                self.verify(page)?;
            }
        }
        Ok(())
    }

    fn verify_all(&mut self) -> Result<(), String> {
        let pages: Vec<usize> = self.pages.keys().copied().collect();
        pages.into_iter().try_for_each(|page| self.verify(page))
    }

    /// Looks at a page, as the program or through the kernel.
    fn verify(&mut self, page: usize) -> Result<(), String> {
        let Known { access, pattern } = self.pages[&page];
        let mut words = [0; PAGE_WORDS];
        match access {
            Access::None => {
                return match Ground::kernel_reads(page, &self.pipe.1) {
                    Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
                    other => Err(format!("reading the protected page {page:#x} gave {other:?}")),
                };
            }
            _ if self.dice.below(4) == 0 => self.read_through_kernel(page, &mut words)?,
            Access::Read | Access::Write => self.ground.read(page, &mut words),
        }
        match pattern {
            Some(pattern) => pattern.check(&words).map_err(|mismatch| format!("page {page:#x}: {mismatch}")),
            None => match words.iter().position(|&word| word != 0) {
                Some(at) => Err(format!("page {page:#x} word {at} must be zero, is {:#x}", words[at])),
                None => Ok(()),
            },
        }
    }

    fn read_through_kernel(&mut self, page: usize, words: &mut [u64; PAGE_WORDS]) -> Result<(), String> {
        use std::io::Read;
        let written = Ground::kernel_reads(page, &self.pipe.1).map_err(tried("write from a page"))?;
        if written != PAGE_BYTES {
            return Err(format!("write from page {page:#x} took {written} bytes"));
        }
        let mut bytes = [0; PAGE_BYTES];
        self.pipe.0.read_exact(&mut bytes).map_err(tried("reading the pipe"))?;
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        }
        Ok(())
    }
}
