//! Which window of the space's table holds the words of an address.

use memvisor_core::{PAGE_BYTES, PageIndex, WINDOW_BYTES, WINDOW_PAGES};

/// The windows of one member, by address.
#[derive(Default)]
pub struct WindowMap {
    /// Window-aligned addresses divided by the window size, ascending, with the window's number.
    entries: Vec<(usize, u32)>,
    last: usize,
}

impl WindowMap {
    /// The page at `address`, when its window is known.
    pub fn find(&mut self, address: usize) -> Option<PageIndex> {
        let key = address / WINDOW_BYTES;
        if self.entries.get(self.last).is_none_or(|entry| entry.0 != key) {
            self.last = self.entries.binary_search_by_key(&key, |entry| entry.0).ok()?;
        }
        Some(PageIndex::new(self.entries[self.last].1, address % WINDOW_BYTES / PAGE_BYTES))
    }

    /// As [`WindowMap::find`], without remembering the window.
    pub fn peek(&self, address: usize) -> Option<PageIndex> {
        let at = self.entries.binary_search_by_key(&(address / WINDOW_BYTES), |entry| entry.0).ok()?;
        Some(PageIndex::new(self.entries[at].1, address % WINDOW_BYTES / PAGE_BYTES))
    }

    /// Adds a window.
    pub fn insert(&mut self, address: usize, window: u32) {
        let key = address / WINDOW_BYTES;
        match self.entries.binary_search_by_key(&key, |entry| entry.0) {
            Ok(at) => self.entries[at].1 = window,
            Err(at) => self.entries.insert(at, (key, window)),
        }
    }

    /// The number of the window at `at` in the order of addresses.
    pub fn nth(&self, at: usize) -> Option<u32> {
        self.entries.get(at).map(|entry| entry.1)
    }

    /// How many pages lie in windows.
    pub fn pages(&self) -> usize {
        self.entries.len() * WINDOW_PAGES
    }

    /// The page at `at` in the order of addresses.
    pub fn nth_page(&self, at: usize) -> Option<PageIndex> {
        self.nth(at / WINDOW_PAGES).map(|window| PageIndex::new(window, at % WINDOW_PAGES))
    }

    /// The windows, as (address, number).
    pub fn iter(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.entries.iter().map(|&(key, window)| (key * WINDOW_BYTES, window))
    }

    /// The pages of `start..end` that lie in known windows, in pieces that do not leave a window:
    /// the address and the first page of each, and the number of pages.
    pub fn spans(&mut self, start: usize, end: usize) -> impl Iterator<Item = (usize, PageIndex, usize)> + '_ {
        let mut at = start;
        std::iter::from_fn(move || {
            while at < end {
                let stop = ((at / WINDOW_BYTES + 1) * WINDOW_BYTES).min(end);
                let from = std::mem::replace(&mut at, stop);
                if let Some(page) = self.find(from) {
                    return Some((from, page, (stop - from) / PAGE_BYTES));
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_its_window_only() {
        let mut map = WindowMap::default();
        map.insert(5 * WINDOW_BYTES, 9);
        map.insert(2 * WINDOW_BYTES, 4);
        assert_eq!(map.find(5 * WINDOW_BYTES + 3 * PAGE_BYTES + 17), Some(PageIndex::new(9, 3)));
        assert_eq!(map.find(2 * WINDOW_BYTES), Some(PageIndex::new(4, 0)));
        assert_eq!(map.find(3 * WINDOW_BYTES), None);
        assert_eq!((map.peek(2 * WINDOW_BYTES), map.peek(3 * WINDOW_BYTES)), (Some(PageIndex::new(4, 0)), None));
        let spans: Vec<_> = map.spans(2 * WINDOW_BYTES - PAGE_BYTES, 5 * WINDOW_BYTES + 2 * PAGE_BYTES).collect();
        assert_eq!(
            spans,
            [(2 * WINDOW_BYTES, PageIndex::new(4, 0), 4096), (5 * WINDOW_BYTES, PageIndex::new(9, 0), 2)]
        );
    }
}
