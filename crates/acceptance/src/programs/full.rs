//! `full BYTES [LIMIT]`: takes memory that does not compress until malloc gives NULL or mmap fails, which must happen
//! before BYTES; then everything it has must be what it was, and what it frees must be there for others.
//!
//! LIMIT bounds the address space of the program itself, for a run without memvisor.

use super::{number, say};
use crate::os::{self, Heap, Mapping};
use crate::pattern::{PAGE_WORDS, mix};

const BLOCK_WORDS: usize = 1024 * PAGE_WORDS;

enum Block {
    Malloc(Heap),
    Mmap(Mapping),
}

/// Words that no store can make smaller.
fn word(block: usize, at: usize) -> u64 {
    mix((block * BLOCK_WORDS + at) as u64)
}

impl Block {
    /// A block by malloc or by mmap in turn; `None` when there is no memory.
    fn take(number: usize) -> Option<Self> {
        if number.is_multiple_of(2) {
            let mut heap = Heap::new(BLOCK_WORDS)?;
            heap.fill(|at| word(number, at));
            return Some(Self::Malloc(heap));
        }
        let mut mapping = match Mapping::new(BLOCK_WORDS * 8) {
            Ok(mapping) => mapping,
            Err(error) if error.kind() == std::io::ErrorKind::OutOfMemory => return None,
            Err(error) => panic!("mmap must fail with ENOMEM, not with {error}"),
        };
        mapping.words_mut().iter_mut().enumerate().for_each(|(at, place)| *place = word(number, at));
        Some(Self::Mmap(mapping))
    }

    fn word(&self, at: usize) -> u64 {
        match self {
            Self::Malloc(heap) => heap.word(at),
            Self::Mmap(mapping) => mapping.words()[at],
        }
    }

    fn verify(&self, number: usize) -> Result<(), String> {
        match (0..BLOCK_WORDS).find(|&at| self.word(at) != word(number, at)) {
            Some(at) => Err(format!("block {number} word {at} is {:#x}", self.word(at))),
            None => Ok(()),
        }
    }
}

/// Runs it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let most = number(arguments, 0, "BYTES")? as usize / (BLOCK_WORDS * 8);
    if arguments.len() > 1 {
        os::limit_address_space(number(arguments, 1, "LIMIT")?).map_err(super::tried("setrlimit"))?;
    }
    let mut blocks: Vec<(usize, Block)> = Vec::with_capacity(most);
    while let Some(block) = Block::take(blocks.len()) {
        blocks.push((blocks.len(), block));
        if blocks.len() >= most {
            return Err(format!("{most} blocks of 4 MiB fitted; memory was to run out before"));
        }
    }
    let fitted = blocks.len();
    if fitted < 4 {
        return Err(format!("only {fitted} blocks of 4 MiB fitted"));
    }
    say(&format!("denied after {fitted} blocks"));
    blocks.iter().try_for_each(|(number, block)| block.verify(*number))?;
    blocks.retain(|(number, _)| number % 4 < 2);
    let kept = blocks.len();
    // A quarter of what fitted is half of what was freed: the rest may still be on its way back.
    for more in 0..fitted / 4 {
        let number = fitted + more;
        let block = Block::take(number).ok_or_else(|| format!("block {more} after freeing was denied"))?;
        blocks.push((number, block));
    }
    blocks.iter().try_for_each(|(number, block)| block.verify(*number))?;
    say(&format!("verified {kept} old and {} new blocks", blocks.len() - kept));
    Ok(())
}
