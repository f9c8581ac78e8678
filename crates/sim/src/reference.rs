//! What known replacements do with single pages, for comparison: misses only, no runs, no parking.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// Misses of first in, first out.
pub fn fifo(trace: &[u32], capacity: usize) -> u64 {
    let (mut queue, mut resident, mut misses) = (VecDeque::new(), HashSet::new(), 0);
    for &page in trace {
        if resident.insert(page) {
            misses += 1;
            queue.push_back(page);
            if queue.len() > capacity {
                resident.remove(&queue.pop_front().expect("the queue is longer than the capacity"));
            }
        }
    }
    misses
}

/// Misses when the page touched longest ago leaves.
pub fn lru(trace: &[u32], capacity: usize) -> u64 {
    leaves_first(trace, capacity, |at| at)
}

/// Misses when the page touched again latest leaves (Belady): no replacement can have fewer.
pub fn belady(trace: &[u32], capacity: usize) -> u64 {
    let mut next_touch = vec![0; trace.len()];
    let mut later: HashMap<u32, usize> = HashMap::new();
    for (at, &page) in trace.iter().enumerate().rev() {
        next_touch[at] = later.insert(page, at).unwrap_or(usize::MAX - at);
    }
    leaves_first(trace, capacity, |at| usize::MAX - next_touch[at])
}

/// Misses when the page leaves whose last touch has the least rank.
fn leaves_first(trace: &[u32], capacity: usize, rank: impl Fn(usize) -> usize) -> u64 {
    let (mut rank_of, mut order, mut misses) = (HashMap::new(), BTreeSet::new(), 0);
    for (at, &page) in trace.iter().enumerate() {
        match rank_of.insert(page, rank(at)) {
            Some(before) => {
                order.remove(&(before, page));
            }
            None => {
                misses += 1;
                if order.len() == capacity {
                    let (_, leaving) = order.pop_first().expect("a capacity is not zero");
                    rank_of.remove(&leaving);
                }
            }
        }
        order.insert((rank(at), page));
    }
    misses
}

/// Of each touch, how many other pages were touched since this page was: `None` for the first touch. In an LRU memory of
/// `c` pages those of `c` or more miss.
pub fn reuse_distances(trace: &[u32]) -> Vec<Option<u32>> {
    // A binary indexed tree over the touches that are the last of their page.
    let mut tree = vec![0i64; trace.len() + 1];
    let mut last: HashMap<u32, usize> = HashMap::new();
    let mut distances = Vec::with_capacity(trace.len());
    for (at, &page) in trace.iter().enumerate() {
        let before = last.insert(page, at);
        distances.push(before.map(|before| {
            add(&mut tree, before, -1);
            (last.len() as i64 - 1 - sum_before(&tree, before)) as u32
        }));
        add(&mut tree, at, 1);
    }
    distances
}

fn add(tree: &mut [i64], at: usize, amount: i64) {
    let mut at = at + 1;
    while at < tree.len() {
        tree[at] += amount;
        at += at & at.wrapping_neg();
    }
}

fn sum_before(tree: &[i64], at: usize) -> i64 {
    let (mut at, mut sum) = (at, 0);
    while at > 0 {
        sum += tree[at];
        at &= at - 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuse_distances_say_what_lru_of_any_size_misses() {
        let trace = crate::trace::zipf(500, 0.8, crate::trace::Placement::Scattered, 5_000, 1);
        let distances = reuse_distances(&trace);
        for capacity in [1, 10, 100, 333, 500] {
            let misses = distances.iter().filter(|distance| distance.is_none_or(|pages| pages as usize >= capacity));
            assert_eq!(misses.count() as u64, lru(&trace, capacity));
        }
    }

    #[test]
    fn the_textbook_string_gives_the_textbook_misses() {
        // The reference string of Silberschatz's book, three frames.
        let trace = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];
        assert_eq!([fifo(&trace, 3), lru(&trace, 3), belady(&trace, 3)], [15, 12, 9]);
    }

    #[test]
    fn more_frames_can_mean_more_misses_for_fifo_only() {
        let trace = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
        assert_eq!([fifo(&trace, 3), fifo(&trace, 4)], [9, 10]);
        assert!(lru(&trace, 4) <= lru(&trace, 3));
    }
}
