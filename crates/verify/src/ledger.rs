//! Sums that do not depend on order: whether two readings of the same records, in whatever order each, agree.
//!
//! The commands of each partition are cut into ranges of offsets. What should exist is added to its range's cell,
//! what is found is taken from it. A cell of zeros agrees; one that is not is looked at record by record.

use std::ops::Range;

/// How the offsets of all partitions are cut into ranges; about as many as was asked for, whatever the topic's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Offsets in a range.
    size: u64,
    /// Of each partition: its first cell, and its next offset.
    partitions: Vec<(usize, u64)>,
    cells: usize,
}

impl Grid {
    /// `published`: one past the last offset of each partition.
    #[must_use]
    pub fn new(published: &[i64], cells: usize) -> Self {
        let ends: Vec<u64> = published.iter().map(|&end| u64::try_from(end).unwrap_or(0)).collect();
        let mut size = 1;
        // No fewer than one a partition.
        let allowed = cells.max(published.len());
        while ends.iter().map(|end| end.div_ceil(size) as usize).sum::<usize>() > allowed {
            size *= 2;
        }
        let mut first = 0;
        let partitions = ends.iter().map(|&end| {
            let place = (first, end);
            first += end.div_ceil(size) as usize;
            place
        });
        let partitions = partitions.collect();
        Self { size, partitions, cells: first }
    }

    fn cell(&self, partition: i32, offset: i64) -> Option<usize> {
        let &(first, end) = self.partitions.get(usize::try_from(partition).ok()?)?;
        let offset = u64::try_from(offset).ok()?;
        (offset < end).then(|| first + (offset / self.size) as usize)
    }

    /// Every cell with the commands that it is of.
    fn windows(&self) -> impl Iterator<Item = (usize, Window)> {
        self.partitions.iter().zip(0_i32..).flat_map(move |(&(first, end), partition)| {
            (0..end.div_ceil(self.size)).map(move |range| {
                let offsets = range * self.size..((range + 1) * self.size).min(end);
                let offsets = offsets.start as i64..offsets.end as i64;
                (first + range as usize, Window { partition, offsets })
            })
        })
    }
}

/// What should exist less what was found, for one range of commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    expected: u64,
    found: u64,
    /// Wrapping sum of the contents' digests, which are keyed: nobody can make two sets with the same sum on purpose.
    sum: u128,
}

/// One collection of records: a topic, or a log.
#[derive(Debug, Clone)]
pub struct Ledger {
    grid: Grid,
    cells: Vec<Cell>,
}

/// Commands whose records have to be looked at one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub partition: i32,
    pub offsets: Range<i64>,
}

impl Ledger {
    #[must_use]
    pub fn new(grid: &Grid) -> Self {
        Self { cells: vec![Cell::default(); grid.cells], grid: grid.clone() }
    }

    /// A record of this command should exist.
    pub fn expect(&mut self, partition: i32, offset: i64, digest: u128) {
        if let Some(cell) = self.grid.cell(partition, offset) {
            self.cells[cell].expected += 1;
            self.cells[cell].sum = self.cells[cell].sum.wrapping_add(digest);
        }
    }

    /// A record of this command was found.
    pub fn find(&mut self, partition: i32, offset: i64, digest: u128) {
        if let Some(cell) = self.grid.cell(partition, offset) {
            self.cells[cell].found += 1;
            self.cells[cell].sum = self.cells[cell].sum.wrapping_sub(digest);
        }
    }

    /// The ranges that differ, in rounds of which each expects about as many records as `cap`.
    #[must_use]
    pub fn rounds(&self, cap: u64) -> Vec<Vec<Window>> {
        let (mut rounds, mut round, mut records) = (Vec::new(), Vec::new(), 0);
        for window in self.differing(cap) {
            let (window, expected) = window;
            if records + expected > cap && !round.is_empty() {
                rounds.push(std::mem::take(&mut round));
                records = 0;
            }
            records += expected;
            round.push(window);
        }
        if !round.is_empty() {
            rounds.push(round);
        }
        rounds
    }

    /// Each with how many records it expects; a range that expects more than `cap` in parts.
    fn differing(&self, cap: u64) -> impl Iterator<Item = (Window, u64)> {
        let differing = self.grid.windows().filter(|(cell, _)| self.cells[*cell].differs());
        differing.flat_map(move |(cell, window)| {
            let expected = self.cells[cell].expected;
            let Window { partition, offsets: Range { start, end } } = window;
            let length = (end - start) as u64;
            let parts = expected.div_ceil(cap.max(1)).clamp(1, length);
            let part = length.div_ceil(parts);
            (0..length.div_ceil(part)).map(move |index| {
                let start = start + (index * part) as i64;
                let offsets = start..(start + part as i64).min(end);
                (Window { partition, offsets }, expected.div_ceil(parts))
            })
        })
    }
}

impl Cell {
    fn differs(&self) -> bool {
        self.expected != self.found || self.sum != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_offset_and_do_not_grow_in_number() {
        for published in [vec![], vec![0], vec![1, 0, 7], vec![1_000_000_000, 3, 0, 17], vec![5; 100]] {
            let grid = Grid::new(&published, 64);
            assert!(grid.cells <= 64.max(published.len()), "{grid:?}");
            let mut last = None;
            for (partition, &end) in (0..).zip(&published) {
                for offset in [0, end / 2, end - 1].into_iter().filter(|offset| (0..end).contains(offset)) {
                    let cell = grid.cell(partition, offset).unwrap();
                    assert!(cell < grid.cells && last.is_none_or(|last| cell >= last), "{grid:?}");
                    last = Some(cell);
                }
                assert_eq!((grid.cell(partition, end), grid.cell(partition, -1)), (None, None));
            }
        }
    }

    #[test]
    fn agreement_does_not_depend_on_order_and_each_difference_shows() {
        let grid = Grid::new(&[8, 8], 4);
        let records = [(0, 0, 5), (0, 1, 7), (0, 5, u128::MAX), (1, 7, 9)];
        let filled = |found: &[(i32, i64, u128)]| {
            let mut ledger = Ledger::new(&grid);
            records.iter().for_each(|&(partition, offset, digest)| ledger.expect(partition, offset, digest));
            found.iter().for_each(|&(partition, offset, digest)| ledger.find(partition, offset, digest));
            ledger.rounds(100).concat()
        };
        let window = |partition, offsets| Window { partition, offsets };
        let mut found = records;
        found.reverse();
        assert_eq!(filled(&found), []);
        assert_eq!(filled(&found[1..]), [window(1, 4..8)]);
        assert_eq!(filled(&[&found[..], &[(0, 5, u128::MAX)]].concat()), [window(0, 4..8)]);
        found[0].2 += 1;
        assert_eq!(filled(&found), [window(1, 4..8)]);
        // One lost and another one there twice: the number is right.
        let [a, b, c, d] = records;
        assert_eq!(filled(&[a, a, c, d]), [window(0, 0..4)]);
        assert_eq!(filled(&[b, c, d]), [window(0, 0..4)]);
    }

    #[test]
    fn rounds_are_bounded_and_hold_every_differing_range_once() {
        let grid = Grid::new(&[1 << 20], 4);
        let mut ledger = Ledger::new(&grid);
        for offset in 0..1 << 18 {
            ledger.expect(0, offset * 4, 1);
        }
        let rounds = ledger.rounds(1000);
        let mut next = 0;
        for round in &rounds {
            let offsets: i64 = round.iter().map(|window| window.offsets.end - window.offsets.start).sum();
            assert!(offsets <= 4 * 1000, "{round:?}");
            for window in round {
                assert_eq!(window.offsets.start, next);
                next = window.offsets.end;
            }
        }
        assert_eq!(next, 1 << 20);
    }
}
