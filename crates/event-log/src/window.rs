//! The idempotency window of one partition, in memory: it finds a key's latest row in table `claims`.
//!
//! It holds only 64 bits of a key's hash. The row has the whole hash and says whether the claim is still valid, so the
//! window never changes a decision. It has buckets of time, which are dropped whole, and takes about 12 bytes a key.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

/// A bucket is dropped whole, so up to an eighth more than the window is kept.
const BUCKETS: i64 = 8;

#[derive(Debug)]
pub(crate) struct Window {
    window_ms: i64,
    width_ms: i64,
    /// Oldest first.
    sealed: VecDeque<Sealed>,
    open: Option<Open>,
}

/// The bits of a key's hash that the window holds.
pub(crate) fn prefix(hash: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Window {
    pub(crate) fn new(window_ms: i64) -> Self {
        let width_ms = (window_ms / BUCKETS).max(1);
        Self { window_ms, width_ms, sealed: VecDeque::new(), open: None }
    }

    /// Offsets of rows that may have the key. The first that does is the key's latest row.
    pub(crate) fn candidates(&self, prefix: u64) -> impl Iterator<Item = i64> {
        self.in_open_bucket(prefix)
            .chain(self.sealed.iter().rev().flat_map(move |bucket| bucket.candidates(prefix)))
    }

    pub(crate) fn in_open_bucket(&self, prefix: u64) -> impl Iterator<Item = i64> {
        self.open.iter().flat_map(move |bucket| bucket.candidates(prefix))
    }

    /// Adds a row. Its offset is above all earlier ones, and its `last_seen` not below theirs. `replaces` is the latest
    /// row with the same key.
    pub(crate) fn insert(&mut self, prefix: u64, offset: i64, last_seen: i64, replaces: Option<i64>) {
        let slot = last_seen.div_euclid(self.width_ms);
        if self.open.as_ref().is_some_and(|open| !open.accepts(slot, offset)) {
            self.sealed.extend(self.open.take().map(Open::seal));
        }
        let open = self.open.get_or_insert_with(|| Open::new(slot, offset));
        open.insert(prefix, offset, last_seen, replaces);
    }

    /// Drops expired buckets. Returns the offset below which all rows have expired, if any bucket was dropped.
    /// `next_offset` is above the offset of every row.
    pub(crate) fn expire(&mut self, clock: i64, next_offset: i64) -> Option<i64> {
        let horizon = clock.saturating_sub(self.window_ms);
        let mut dropped = false;
        while self.sealed.front().is_some_and(|bucket| bucket.newest <= horizon) {
            self.sealed.pop_front();
            dropped = true;
        }
        if self.sealed.is_empty() && self.open.as_ref().is_some_and(|bucket| bucket.newest <= horizon) {
            self.open = None;
            dropped = true;
        }
        let first = self.sealed.front().map(|bucket| bucket.base);
        let first = first.or_else(|| self.open.as_ref().map(|bucket| bucket.base));
        dropped.then(|| first.unwrap_or(next_offset))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sealed.iter().map(|bucket| bucket.prefixes.len()).sum::<usize>()
            + self.open.as_ref().map_or(0, |open| open.latest.len() + open.collisions.len())
    }
}

/// The newest bucket, which takes new rows.
#[derive(Debug)]
struct Open {
    slot: i64,
    /// The offset of its first row; the other offsets are relative to it.
    base: i64,
    newest: i64,
    latest: HashMap<u64, u32>,
    /// Keys whose prefix another key in `latest` has. By chance this does not happen.
    collisions: Vec<(u64, u32)>,
}

impl Open {
    fn new(slot: i64, base: i64) -> Self {
        Self { slot, base, newest: i64::MIN, latest: HashMap::new(), collisions: Vec::new() }
    }

    fn accepts(&self, slot: i64, offset: i64) -> bool {
        // The end of a sealed bucket's last run must fit into 32 bits too.
        self.slot == slot && offset - self.base < i64::from(u32::MAX)
    }

    fn insert(&mut self, prefix: u64, offset: i64, last_seen: i64, replaces: Option<i64>) {
        let base = self.base;
        let relative = u32::try_from(offset - base).expect("`accepts` checked it");
        self.newest = last_seen;
        let is_replaced = |old: u32| replaces == Some(base + i64::from(old));
        match self.latest.entry(prefix) {
            Entry::Vacant(entry) => {
                entry.insert(relative);
            }
            Entry::Occupied(mut entry) if is_replaced(*entry.get()) => {
                entry.insert(relative);
            }
            Entry::Occupied(_) => {
                let other = self.collisions.iter_mut().find(|(of, old)| *of == prefix && is_replaced(*old));
                match other {
                    Some(found) => found.1 = relative,
                    None => self.collisions.push((prefix, relative)),
                }
            }
        }
    }

    fn candidates(&self, prefix: u64) -> impl Iterator<Item = i64> {
        let collisions = self.collisions.iter().filter(move |(of, _)| *of == prefix).map(|(_, at)| at);
        self.latest.get(&prefix).into_iter().chain(collisions).map(|at| self.base + i64::from(*at))
    }

    fn seal(self) -> Sealed {
        let mut entries: Vec<(u64, u32)> = self.latest.into_iter().chain(self.collisions).collect();
        entries.sort_unstable();
        // An index of the highest bits, with about 8 keys in a run: a search has two cache misses, not twenty.
        let bits = (entries.len() / 8).next_power_of_two().trailing_zeros();
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        let mut at = 0;
        for run in 0..1_u64 << bits {
            while at < entries.len() && top(entries[at].0, bits) < run {
                at += 1;
            }
            starts.push(at as u32);
        }
        starts.push(entries.len() as u32);
        Sealed {
            base: self.base,
            newest: self.newest,
            bits,
            starts,
            prefixes: entries.iter().map(|entry| entry.0).collect(),
            offsets: entries.iter().map(|entry| entry.1).collect(),
        }
    }
}

/// A bucket that takes no more rows.
#[derive(Debug)]
struct Sealed {
    base: i64,
    newest: i64,
    /// How many of a prefix's highest bits select its run.
    bits: u32,
    /// Where each run starts, and where the last one ends.
    starts: Vec<u32>,
    /// Ascending. In a list of its own, since a pair with an offset would be padded to 16 bytes.
    prefixes: Vec<u64>,
    offsets: Vec<u32>,
}

impl Sealed {
    fn candidates(&self, prefix: u64) -> impl Iterator<Item = i64> {
        let run = top(prefix, self.bits) as usize;
        let (start, end) = (self.starts[run] as usize, self.starts[run + 1] as usize);
        let first = start + self.prefixes[start..end].partition_point(|of| *of < prefix);
        let equal = self.prefixes[first..end].iter().take_while(move |of| **of == prefix);
        equal.zip(&self.offsets[first..end]).map(|(_, at)| self.base + i64::from(*at))
    }
}

fn top(prefix: u64, bits: u32) -> u64 {
    prefix.checked_shr(64 - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(window: &Window, prefix: u64) -> Vec<i64> {
        window.candidates(prefix).collect()
    }

    #[test]
    fn candidates_begin_with_the_latest_row_of_all_buckets() {
        let mut window = Window::new(80);
        window.insert(7, 0, 0, None);
        window.insert(7, 1, 9, Some(0)); // same bucket: replaced
        window.insert(7, 2, 10, Some(1));
        window.insert(7, 3, 55, Some(2));
        assert_eq!(found(&window, 7), [3, 2, 1]);
        assert_eq!(found(&window, 8), [0; 0]);
        assert_eq!(window.len(), 3);
    }

    #[test]
    fn two_keys_with_one_prefix_are_both_found() {
        let mut window = Window::new(80);
        window.insert(7, 0, 0, None);
        window.insert(7, 1, 0, None); // another key
        window.insert(7, 2, 0, Some(1));
        window.insert(7, 3, 0, Some(0));
        let mut both = found(&window, 7);
        both.sort_unstable();
        assert_eq!(both, [2, 3]);
        window.insert(1, 4, 10, None);
        let mut both = found(&window, 7);
        both.sort_unstable();
        assert_eq!(both, [2, 3]);
    }

    #[test]
    fn a_bucket_is_dropped_when_its_newest_row_is_a_window_old() {
        let mut window = Window::new(80);
        window.insert(1, 0, 0, None);
        window.insert(2, 1, 9, None);
        window.insert(3, 5, 10, None);
        assert_eq!(window.expire(88, 6), None);
        assert_eq!(window.expire(89, 6), Some(5));
        assert_eq!(found(&window, 1), [0; 0]);
        assert_eq!(found(&window, 3), [5]);
        assert_eq!(window.expire(90, 6), Some(6));
        assert_eq!(window.expire(1000, 6), None);
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn offsets_that_do_not_fit_start_a_bucket() {
        let mut window = Window::new(80);
        let far = i64::from(u32::MAX);
        window.insert(1, 10, 0, None);
        window.insert(2, 9 + far, 0, None);
        window.insert(3, 10 + far, 0, None);
        window.insert(4, 10 + 5 * far, 0, None);
        assert_eq!(
            [1, 2, 3, 4].map(|prefix| found(&window, prefix)[0]),
            [10, 9 + far, 10 + far, 10 + 5 * far]
        );
        assert_eq!(window.sealed.len(), 2);
    }

    #[test]
    fn a_large_sealed_bucket_finds_every_key_and_no_other() {
        for spread in [1, 0x9e37_79b9_7f4a_7c15_u64] {
            let mut window = Window::new(80);
            for offset in 0..10_000 {
                window.insert((2 * offset as u64).wrapping_mul(spread), offset, 0, None);
            }
            window.insert(u64::MAX, 10_000, 70, None);
            for offset in 0..10_000 {
                let prefix = (2 * offset as u64).wrapping_mul(spread);
                assert_eq!(found(&window, prefix), [offset]);
                assert_eq!(found(&window, prefix + 1), [0; 0]);
            }
        }
    }
}
