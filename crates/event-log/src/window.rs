//! The idempotency window of one partition, in memory: from a key to its latest row in table `claims`.
//!
//! Keys are told apart by 64 bits of their hash here, and by all of it in the row, which also says whether
//! the claim still stands. So what is kept here never changes a decision, it only finds the row: buckets
//! of time, each dropped whole, about 12 bytes a key.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

/// A window is cut into this many buckets, so it holds up to an eighth more than the window.
const BUCKETS: i64 = 8;

#[derive(Debug)]
pub(super) struct Window {
    window_ms: i64,
    width_ms: i64,
    /// Oldest first.
    sealed: VecDeque<Sealed>,
    open: Option<Open>,
}

/// Bits of a key's hash by which it is found.
pub(super) fn prefix(hash: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Window {
    pub(super) fn new(window_ms: i64) -> Self {
        let width_ms = (window_ms / BUCKETS).max(1);
        Self { window_ms, width_ms, sealed: VecDeque::new(), open: None }
    }

    /// Offsets of rows that may be the key's latest. The first of them that is the key's is its latest.
    pub(super) fn candidates(&self, prefix: u64) -> impl Iterator<Item = i64> {
        self.in_open_bucket(prefix)
            .chain(self.sealed.iter().rev().flat_map(move |bucket| bucket.candidates(prefix)))
    }

    pub(super) fn in_open_bucket(&self, prefix: u64) -> impl Iterator<Item = i64> {
        self.open.iter().flat_map(move |bucket| bucket.candidates(prefix))
    }

    /// A row was written: above all earlier offsets, with `last_seen` no lower than theirs. `replaces` is
    /// the latest row of the same key, where there is one.
    pub(super) fn note(&mut self, prefix: u64, offset: i64, last_seen: i64, replaces: Option<i64>) {
        let slot = last_seen.div_euclid(self.width_ms);
        if self.open.as_ref().is_some_and(|open| !open.takes(slot, offset)) {
            self.sealed.extend(self.open.take().map(Open::seal));
        }
        let open = self.open.get_or_insert_with(|| Open::new(slot, offset));
        open.note(prefix, offset, last_seen, replaces);
    }

    /// Drops buckets that hold only what the window has left behind. Says below which offset rows are of no
    /// use any more, if it dropped any; `next_offset` is above all that were noted.
    pub(super) fn expire(&mut self, clock: i64, next_offset: i64) -> Option<i64> {
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

/// The bucket that is still written to.
#[derive(Debug)]
struct Open {
    slot: i64,
    /// Offset of its first row; the others are kept relative to it.
    base: i64,
    newest: i64,
    latest: HashMap<u64, u32>,
    /// Further keys with a prefix that `latest` has already; with honest hashes there is none.
    collisions: Vec<(u64, u32)>,
}

impl Open {
    fn new(slot: i64, base: i64) -> Self {
        Self { slot, base, newest: i64::MIN, latest: HashMap::new(), collisions: Vec::new() }
    }

    fn takes(&self, slot: i64, offset: i64) -> bool {
        // One less than fits, because the end of the last run in a sealed bucket must fit as well.
        self.slot == slot && offset - self.base < i64::from(u32::MAX)
    }

    fn note(&mut self, prefix: u64, offset: i64, last_seen: i64, replaces: Option<i64>) {
        let base = self.base;
        let relative = u32::try_from(offset - base).expect("a bucket takes no offset that does not fit");
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
        // A directory over the highest bits, about 8 keys a run: a search is two cache misses, not twenty.
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

/// A bucket that only ages.
#[derive(Debug)]
struct Sealed {
    base: i64,
    newest: i64,
    /// How many of a prefix's highest bits say in which run it is.
    bits: u32,
    /// Where each run starts, and where the last one ends.
    starts: Vec<u32>,
    /// Ascending, and apart from the offsets, because together they would be padded to 16 bytes.
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
    fn the_latest_row_comes_first_through_all_buckets() {
        let mut window = Window::new(80);
        window.note(7, 0, 0, None);
        window.note(7, 1, 9, Some(0)); // same bucket: replaced
        window.note(7, 2, 10, Some(1));
        window.note(7, 3, 55, Some(2));
        assert_eq!(found(&window, 7), [3, 2, 1]);
        assert_eq!(found(&window, 8), [0; 0]);
        assert_eq!(window.len(), 3);
    }

    #[test]
    fn two_keys_with_one_prefix_are_both_found() {
        let mut window = Window::new(80);
        window.note(7, 0, 0, None);
        window.note(7, 1, 0, None); // another key
        window.note(7, 2, 0, Some(1));
        window.note(7, 3, 0, Some(0));
        let mut both = found(&window, 7);
        both.sort_unstable();
        assert_eq!(both, [2, 3]);
        window.note(1, 4, 10, None);
        let mut both = found(&window, 7);
        both.sort_unstable();
        assert_eq!(both, [2, 3]);
    }

    #[test]
    fn a_bucket_is_dropped_when_its_newest_row_is_a_window_old() {
        let mut window = Window::new(80);
        window.note(1, 0, 0, None);
        window.note(2, 1, 9, None);
        window.note(3, 5, 10, None);
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
        window.note(1, 10, 0, None);
        window.note(2, 9 + far, 0, None);
        window.note(3, 10 + far, 0, None);
        window.note(4, 10 + 5 * far, 0, None);
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
                window.note((2 * offset as u64).wrapping_mul(spread), offset, 0, None);
            }
            window.note(u64::MAX, 10_000, 70, None);
            for offset in 0..10_000 {
                let prefix = (2 * offset as u64).wrapping_mul(spread);
                assert_eq!(found(&window, prefix), [offset]);
                assert_eq!(found(&window, prefix + 1), [0; 0]);
            }
        }
    }
}
