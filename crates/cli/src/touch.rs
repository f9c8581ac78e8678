//! `memvisor bench-touch`: the small program that `bench` runs. It fills memory, touches pages of it in a known order,
//! and knows of every word it reads what it must be.

use crate::args::{Order, TouchArgs};
use crate::exit::{Exit, Outcome};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Words in a page.
const PAGE_WORDS: usize = 512;
/// Words of a page that look random; the rest are all alike, so a page compresses to about half.
const RANDOM_WORDS: usize = PAGE_WORDS / 2;
/// The word that every touch changes, so that no page is as it was when it was last saved.
const CHANGED_WORD: usize = PAGE_WORDS - 1;

/// What the program measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Touched {
    /// Pages of the memory.
    pub pages: u64,
    /// Time to fill it for the first time.
    pub fill_ns: u64,
    /// Touches after that.
    pub touches: u64,
    /// Time that they took together.
    pub touch_ns: u64,
    /// Words that were not what they must be.
    pub wrong: u64,
}

/// Runs it and prints what it measured as JSON.
///
/// # Errors
/// Never; wrong words make the exit code 1.
pub fn main(args: &TouchArgs) -> Outcome {
    let touched = touch(args);
    println!("{}", serde_json::to_string(&touched).expect("numbers make JSON"));
    Ok(if touched.wrong == 0 { Exit::Success } else { Exit::No })
}

fn touch(args: &TouchArgs) -> Touched {
    let pages = (args.size.0 as usize / (PAGE_WORDS * 8)).max(1);
    let began = Instant::now();
    let mut memory = vec![0u64; pages * PAGE_WORDS];
    for (page, words) in memory.chunks_exact_mut(PAGE_WORDS).enumerate() {
        fill(page, words);
    }
    let fill_ns = began.elapsed().as_nanos() as u64;
    let began = Instant::now();
    let mut wrong = 0;
    let mut random = 1;
    for count in 0..args.touches {
        random = mix(random);
        let page = match args.order {
            Order::Random => random as usize % pages,
            Order::Sequential => count as usize % pages,
        };
        let words = &mut memory[page * PAGE_WORDS..][..PAGE_WORDS];
        let at = (random >> 40) as usize % CHANGED_WORD;
        wrong += u64::from(words[at] != word(page, at));
        words[CHANGED_WORD] = count;
    }
    Touched { pages: pages as u64, fill_ns, touches: args.touches, touch_ns: began.elapsed().as_nanos() as u64, wrong }
}

/// Fills a page of eight-byte words with what it must hold.
pub fn fill(page: usize, words: &mut [u64]) {
    for (at, value) in words.iter_mut().enumerate() {
        *value = word(page, at);
    }
}

/// What word `at` of page `page` must be.
fn word(page: usize, at: usize) -> u64 {
    if at < RANDOM_WORDS { mix((page * PAGE_WORDS + at) as u64) } else { page as u64 }
}

/// The next of a sequence of numbers without a pattern (splitmix64, Steele and others, 2014).
pub fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::Size;

    #[test]
    fn every_word_that_is_touched_is_what_it_must_be() {
        for order in [Order::Random, Order::Sequential] {
            let touched = touch(&TouchArgs { size: Size(1 << 20), touches: 5000, order });
            assert_eq!((touched.pages, touched.touches, touched.wrong), (256, 5000, 0));
        }
    }

    #[test]
    fn pages_differ_and_half_of_a_page_is_alike() {
        let (mut first, mut second) = ([0; PAGE_WORDS], [0; PAGE_WORDS]);
        fill(1, &mut first);
        fill(2, &mut second);
        assert!(first.iter().zip(&second).all(|(a, b)| a != b));
        assert!(first[RANDOM_WORDS..].iter().all(|value| *value == 1));
    }
}
