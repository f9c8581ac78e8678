//! `frees BYTES`: takes memory in three ways, gives most of it back, and keeps a tenth, which stays what it was.
//!
//! It prints `held`, waits for a line, frees, prints `freed`, waits for a line, verifies what it kept, and ends.

use super::{number, say, tried};
use crate::os::{Ground, Heap, Mapping, PAGE_BYTES};
use crate::pattern::{PAGE_WORDS, Pattern};

const BLOCK_WORDS: usize = 16 * PAGE_WORDS;

fn word(block: usize) -> impl Fn(usize) -> u64 {
    move |at| Pattern::new((block * 1000 + at / PAGE_WORDS) as u64, 1).word(at % PAGE_WORDS)
}

fn wait_for_a_line() -> Result<(), String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map(|_| ()).map_err(tried("reading a line"))
}

/// Runs it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let third = number(arguments, 0, "BYTES")? as usize / 3;
    let mut blocks = Vec::new();
    for block in 0..third / (BLOCK_WORDS * 8) {
        let mut heap = Heap::new(BLOCK_WORDS).ok_or("malloc gave NULL")?;
        heap.fill(word(block));
        blocks.push((block, heap));
    }
    let mut mapping = Mapping::new(third).map_err(tried("mmap"))?;
    (0..mapping.pages()).for_each(|page| Pattern::new(page as u64, 2).fill(mapping.page_mut(page)));
    let mut ground = Ground::default();
    let length = third.next_multiple_of(PAGE_BYTES);
    let advised = ground.map(length).map_err(tried("mmap"))?;
    let mut page_words = [0; PAGE_WORDS];
    for page in advised.clone().step_by(PAGE_BYTES) {
        Pattern::new(page as u64, 3).fill(&mut page_words);
        ground.write(page, &page_words);
    }
    say("held");
    wait_for_a_line()?;
    drop(mapping);
    ground.discard(advised.clone()).map_err(tried("madvise"))?;
    // Every tenth block of 32 neighbours stays, so that whole pages of the allocator become free.
    blocks.retain(|(block, _)| block / 32 % 10 == 0);
    say("freed");
    wait_for_a_line()?;
    for (block, heap) in &blocks {
        let expected = word(*block);
        if let Some(at) = (0..BLOCK_WORDS).find(|&at| heap.word(at) != expected(at)) {
            return Err(format!("block {block} word {at} is {:#x}, must be {:#x}", heap.word(at), expected(at)));
        }
    }
    for page in advised.step_by(PAGE_BYTES) {
        ground.read(page, &mut page_words);
        if page_words.iter().any(|&word| word != 0) {
            return Err(format!("page {page:#x} was given away and is not zero"));
        }
    }
    say(&format!("kept {} blocks", blocks.len()));
    Ok(())
}
