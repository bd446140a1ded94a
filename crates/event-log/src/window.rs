//! The idempotency window of one partition, in memory: it finds a key's latest claim in table `claim_groups`.
//!
//! It holds only some bits of each key. The table has the whole hash and says whether the claim is still valid, so the
//! window never changes a decision. A claim takes at most 16 bytes once there are many.

use std::collections::VecDeque;
use std::iter;

use hashbrown::HashTable;

/// Claims expire a bucket at a time, so up to an eighth more than the window is kept.
const BUCKETS: i64 = 8;

#[derive(Debug)]
pub(crate) struct Window {
    window_ms: i64,
    width_ms: i64,
    /// Oldest first.
    buckets: VecDeque<Bucket>,
    /// Oldest first. One is enough, unless offsets are far apart.
    tables: VecDeque<OffsetTable>,
}

/// A period of time, whose claims expire together.
#[derive(Debug)]
struct Bucket {
    slot: i64,
    first_offset: i64,
    newest: i64,
}

impl Window {
    pub(crate) fn new(window_ms: i64) -> Self {
        let width_ms = (window_ms / BUCKETS).max(1);
        Self { window_ms, width_ms, buckets: VecDeque::new(), tables: VecDeque::new() }
    }

    /// Offsets of claims that may have the key, latest first. The first that does is the key's latest claim.
    pub(crate) fn candidates(&self, bits: u64) -> impl Iterator<Item = i64> {
        let latest_below = move |offset| {
            self.tables.iter().rev().find_map(|table| table.latest_below(ShardTag::of(bits), offset))
        };
        iter::successors(latest_below(i64::MAX), move |last| latest_below(*last))
    }

    /// The candidates of the latest bucket.
    pub(crate) fn latest_candidates(&self, bits: u64) -> impl Iterator<Item = i64> {
        let first_offset = self.buckets.back().map_or(i64::MAX, |bucket| bucket.first_offset);
        self.candidates(bits).take_while(move |offset| *offset >= first_offset)
    }

    /// Adds a claim. Its offset is above all earlier ones, and its `last_seen` not below theirs. `replaces` is the latest
    /// claim with the same key.
    pub(crate) fn insert(&mut self, bits: u64, offset: i64, last_seen: i64, replaces: Option<i64>) {
        let slot = last_seen.div_euclid(self.width_ms);
        match self.buckets.back_mut() {
            Some(latest) if latest.slot == slot => latest.newest = last_seen,
            _ => self.buckets.push_back(Bucket { slot, first_offset: offset, newest: last_seen }),
        }
        if self.tables.back().is_none_or(|latest| latest.distance(offset).is_none()) {
            self.tables.push_back(OffsetTable::new(offset));
        }
        let table = self.tables.back_mut().expect("it was added");
        table.insert(ShardTag::of(bits), offset, replaces);
    }

    /// Drops expired buckets. Returns the offset below which all claims have expired, if any bucket was dropped.
    /// `next_offset` is above the offset of every claim.
    pub(crate) fn expire(&mut self, clock: i64, next_offset: i64) -> Option<i64> {
        let horizon = clock.saturating_sub(self.window_ms);
        let expired = self.buckets.iter().take_while(|bucket| bucket.newest <= horizon).count();
        if expired == 0 {
            return None;
        }
        self.buckets.drain(..expired);
        let first_offset = self.buckets.front().map_or(next_offset, |bucket| bucket.first_offset);
        self.tables.retain_mut(|table| table.retain_from(first_offset));
        Some(first_offset)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.tables.iter().flat_map(|table| &table.shards).map(HashTable::len).sum()
    }
}

/// A table doubles when it is full. Parts double one by one, so that the old and the new memory of one part only is needed
/// at once, and differ in size by up to a factor of two, so that some are always fuller than others.
const SHARDS: u64 = 64;

/// Offsets of claims by their keys.
#[derive(Debug)]
struct OffsetTable {
    base: i64,
    shards: Box<[HashTable<Entry>]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u32,
    /// Of the offset from `base`.
    distance: u32,
}

/// Where an entry belongs.
#[derive(Debug, Clone, Copy)]
struct ShardTag {
    shard: usize,
    tag: u32,
}

impl ShardTag {
    fn of(bits: u64) -> Self {
        let (high, tag) = (bits >> 32, bits as u32);
        // Between the square of SHARDS and that of twice as many, so shard n gets a share of 2 (SHARDS + n) + 1.
        let square = SHARDS.pow(2) + ((3 * SHARDS.pow(2) * high) >> 32);
        Self { shard: (square.isqrt() - SHARDS) as usize, tag }
    }
}

/// The library selects a slot by the lowest bits, and compares the highest ones first.
fn spread(tag: u32) -> u64 {
    (u64::from(tag) << 32) | u64::from(tag)
}

impl OffsetTable {
    fn new(base: i64) -> Self {
        Self { base, shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }

    /// `None` if it does not fit.
    fn distance(&self, offset: i64) -> Option<u32> {
        offset.checked_sub(self.base)?.try_into().ok()
    }

    fn latest_below(&self, place: ShardTag, offset: i64) -> Option<i64> {
        let entries = self.shards[place.shard].iter_hash(spread(place.tag));
        let offsets =
            entries.filter(|entry| entry.tag == place.tag).map(|entry| self.base + i64::from(entry.distance));
        offsets.filter(|found| *found < offset).max()
    }

    fn insert(&mut self, ShardTag { shard, tag }: ShardTag, offset: i64, replaces: Option<i64>) {
        let distance = self.distance(offset).expect("the window checked it");
        let replaced = replaces.and_then(|offset| self.distance(offset));
        let shard = &mut self.shards[shard];
        let replaced = replaced
            .and_then(|distance| shard.find_mut(spread(tag), |entry| *entry == Entry { tag, distance }));
        match replaced {
            Some(entry) => entry.distance = distance,
            None => {
                shard.insert_unique(spread(tag), Entry { tag, distance }, |entry| spread(entry.tag));
            }
        }
    }

    /// Drops claims below the offset. Returns whether any is left.
    fn retain_from(&mut self, offset: i64) -> bool {
        for shard in &mut self.shards {
            shard.retain(|entry| self.base + i64::from(entry.distance) >= offset);
            // With room for what arrives until the next bucket expires.
            shard.shrink_to(shard.len() + shard.len() / 2, |entry| spread(entry.tag));
        }
        self.shards.iter().any(|shard| !shard.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(window: &Window, bits: u64) -> Vec<i64> {
        window.candidates(bits).collect()
    }

    #[test]
    fn a_new_row_replaces_the_one_of_an_earlier_bucket() {
        let mut window = Window::new(80);
        window.insert(7, 0, 0, None);
        window.insert(7, 1, 9, Some(0)); // same bucket: replaced
        window.insert(7, 2, 10, Some(1));
        window.insert(7, 3, 55, Some(2));
        assert_eq!(found(&window, 7), [3]);
        assert_eq!(found(&window, 8), [0; 0]);
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn two_keys_with_the_same_bits_are_both_found() {
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
    fn offsets_that_do_not_fit_start_a_table() {
        let mut window = Window::new(80);
        let far = i64::from(u32::MAX);
        window.insert(1, 10, 0, None);
        window.insert(2, 9 + far, 0, None);
        window.insert(3, 10 + far, 0, None);
        window.insert(4, 10 + 5 * far, 0, None);
        assert_eq!([1, 2, 3, 4].map(|bits| found(&window, bits)[0]), [10, 9 + far, 10 + far, 10 + 5 * far]);
        assert_eq!(window.tables.len(), 2);
    }

    #[test]
    fn a_large_window_finds_every_key_and_no_other() {
        for spread in [1, 0x9e37_79b9_7f4a_7c15_u64] {
            let mut window = Window::new(80);
            for offset in 0..10_000 {
                window.insert((2 * offset as u64).wrapping_mul(spread), offset, 0, None);
            }
            window.insert(u64::MAX, 10_000, 70, None);
            for offset in 0..10_000 {
                let bits = (2 * offset as u64).wrapping_mul(spread);
                assert_eq!(found(&window, bits), [offset]);
                assert_eq!(found(&window, bits + 1), [0; 0]);
            }
        }
    }

    fn bytes(window: &Window) -> usize {
        window.tables.iter().flat_map(|table| &table.shards).map(HashTable::allocation_size).sum()
    }

    #[test]
    fn a_claim_takes_at_most_16_bytes_and_a_large_window_does_not_keep_its_memory() {
        let mut window = Window::new(80);
        for offset in 0..200_000 {
            window.insert((offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), offset, 0, None);
            if offset > 20_000 && offset % 500 == 0 {
                let (rows, bytes) = (window.len(), bytes(&window));
                assert!(bytes <= 16 * rows, "{bytes} bytes for {rows} rows");
            }
        }
        let large = bytes(&window);
        for offset in 200_000..210_000 {
            window.insert((offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), offset, 10, None);
        }
        window.expire(80, 210_000);
        assert_eq!(window.len(), 10_000);
        assert!(bytes(&window) < large / 8, "{} bytes for a twentieth of the rows", bytes(&window));
        window.expire(90, 210_000);
        assert_eq!((window.tables.len(), window.buckets.len()), (0, 0));
    }

    #[derive(Debug, Clone)]
    struct Step {
        key: u64,
        later_ms: i64,
        skip: i64,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let later_ms = prop_oneof![20 => 0..2_i64, 5 => 0..12_i64, 1 => 60..100_i64];
        let skip = prop_oneof![20 => 0..3_i64, 1 => Just(i64::from(u32::MAX))];
        let step = (0..64_u64, later_ms, skip).prop_map(|(key, later_ms, skip)| Step { key, later_ms, skip });
        prop::collection::vec(step, 1..600)
    }

    /// A poor hash: pairs of keys have all bits in common, others the shard or the tag.
    fn poor(key: u64) -> u64 {
        ((key / 2 % 4) << 62) | (key / 8)
    }

    /// Offset, key and time.
    type PlainRow = (i64, u64, i64);

    /// What [`crate::claims::Claims::load`] does.
    fn load(rows: &[PlainRow], clock: i64) -> Window {
        let mut window = Window::new(80);
        for (index, &(offset, key, last_seen)) in rows.iter().enumerate() {
            if clock - last_seen < 80 {
                let is_same =
                    |found: &i64| rows[..index].iter().any(|(offset, of, _)| offset == found && *of == key);
                let replaces = window.latest_candidates(poor(key)).find(is_same);
                window.insert(poor(key), offset, last_seen, replaces);
            }
        }
        window
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_window_finds_what_a_list_of_rows_has(steps in steps(), reload in 1..600_usize) {
            let mut window = Window::new(80);
            let mut rows: Vec<PlainRow> = Vec::new();
            let (mut clock, mut next_offset) = (0, 0);
            for (index, Step { key, later_ms, skip }) in steps.into_iter().enumerate() {
                if index % reload == 0 {
                    window = load(&rows, clock);
                }
                clock += later_ms;
                let offset = next_offset + skip;
                if let Some(below) = window.expire(clock, offset) {
                    prop_assert!(rows.iter().all(|row| row.0 >= below || clock - row.2 >= 80));
                    rows.retain(|row| row.0 >= below);
                }
                let of = |offset: i64| rows.iter().find(|row| row.0 == offset).map(|row| row.1);
                prop_assert!(found(&window, poor(key)).iter().all(|offset| of(*offset).is_some()));
                let same = window.candidates(poor(key)).find(|offset| of(*offset) == Some(key));
                let latest = rows.iter().rfind(|row| row.1 == key);
                let expired = latest.is_none_or(|row| clock - row.2 >= 80);
                prop_assert!(same == latest.map(|row| row.0) || expired && same.is_none());
                window.insert(poor(key), offset, clock, same);
                rows.push((offset, key, clock));
                next_offset = offset + 1;
            }
        }
    }
}
