//! Sorts expected and found rows by their command, however many there are: sorted runs in the temporary database, merged at
//! the end.
//!
//! `GROUP BY` in SQLite would take fewer lines of code, and several times as long per row.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use super::{
    content::{Digest, Id},
    report::{At, What},
    scratch::Scratch,
};

/// Records or rows that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Collection {
    /// A log, by its index.
    Log(usize),
    Notifications,
    Rejections,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Expected,
    /// Another form of the expected rejection, which it has under another limit of its topic.
    ExpectedForm,
    Found,
    /// A rejection that omits a part of a command that is no longer retained. Only the last part of its digest is compared.
    FoundInPart,
}

/// Where something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In the collection's topic.
    Topic(At),
    /// In the collection's log; the position of an event.
    Log(Option<i64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Staged {
    pub(crate) collection: Collection,
    pub(crate) id: Id,
    pub(crate) side: Side,
    pub(crate) what: What,
    pub(crate) digest: Digest,
    /// Only for found rows.
    pub(crate) spot: Spot,
}

/// A row as it is stored: the sort key comes first, most significant byte first.
type Bytes = [u8; 64];

/// Collection, id and side.
const SORTED: usize = 27;

fn order(bytes: &Bytes) -> &[u8; SORTED] {
    bytes.first_chunk().expect("a row is longer")
}

impl Staged {
    fn encode(&self) -> Bytes {
        let collection = match self.collection {
            Collection::Log(log) => log as u16,
            Collection::Notifications => u16::MAX - 1,
            Collection::Rejections => u16::MAX,
        };
        let Id { partition, offset, timestamp, target } = self.id;
        let spot = match self.spot {
            Spot::Topic(at) => at,
            Spot::Log(position) => At { partition: 0, offset: position.unwrap_or(i64::MIN) },
        };
        let Digest([first, second, third]) = self.digest;
        let mut bytes = [0; 64];
        let mut rest = &mut bytes[..];
        for field in [
            &collection.to_be_bytes()[..],
            &partition.to_be_bytes(),
            &offset.to_be_bytes(),
            &timestamp.to_be_bytes(),
            &target.to_be_bytes(),
            &[self.side as u8, self.what as u8],
            &first.to_be_bytes(),
            &second.to_be_bytes(),
            &third.to_be_bytes(),
            &spot.partition.to_be_bytes(),
            &spot.offset.to_be_bytes(),
        ] {
            rest.split_off_mut(..field.len()).expect("64 bytes in all").copy_from_slice(field);
        }
        bytes
    }

    fn decode(bytes: &Bytes) -> Self {
        fn next<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
            let (field, after) = rest.split_first_chunk().expect("64 bytes in all");
            *rest = after;
            *field
        }
        let rest = &mut &bytes[..];
        let collection = match u16::from_be_bytes(next(rest)) {
            u16::MAX => Collection::Rejections,
            log if log == u16::MAX - 1 => Collection::Notifications,
            log => Collection::Log(log.into()),
        };
        let id = Id {
            partition: i32::from_be_bytes(next(rest)),
            offset: i64::from_be_bytes(next(rest)),
            timestamp: i64::from_be_bytes(next(rest)),
            target: u32::from_be_bytes(next(rest)),
        };
        let [side, what] = next(rest);
        let digest = Digest([(); 3].map(|()| u64::from_be_bytes(next(rest))));
        let at = At { partition: i32::from_be_bytes(next(rest)), offset: i64::from_be_bytes(next(rest)) };
        let spot = match collection {
            Collection::Log(_) => Spot::Log((at.offset != i64::MIN).then_some(at.offset)),
            _ => Spot::Topic(at),
        };
        let side = [Side::Expected, Side::ExpectedForm, Side::Found, Side::FoundInPart][usize::from(side)];
        let what = [What::Event, What::Duplicate, What::Rejection, What::Notification][usize::from(what)];
        Self { collection, id, side, what, digest, spot }
    }
}

/// How many runs are merged into one, so that the number of runs stays small.
const FAN: usize = 64;

/// A sorted run: the numbers of its chunks, which are in order.
type Run = Range<i64>;

pub(crate) struct Staging<'s> {
    scratch: &'s Scratch,
    /// Rows that are not in a run yet, up to `capacity`.
    rows: Vec<Bytes>,
    capacity: usize,
    next_chunk: i64,
    /// By level: a run of one level contains [`FAN`] runs of the level below. Each level has its oldest run first.
    levels: Vec<Vec<Run>>,
}

impl<'s> Staging<'s> {
    /// `capacity` rows are sorted in memory at once.
    pub(crate) fn new(scratch: &'s Scratch, capacity: usize) -> Self {
        Self { scratch, rows: Vec::new(), capacity, next_chunk: 0, levels: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: &Staged) -> rusqlite::Result<()> {
        self.rows.push(row.encode());
        if self.rows.len() >= self.capacity { self.spill() } else { Ok(()) }
    }

    /// All rows, by collection, id and side; rows that are equal in these keep the order in which they were pushed.
    pub(crate) fn merge(mut self) -> rusqlite::Result<Merge<'s>> {
        self.spill()?;
        // The first rows are in the highest level.
        Merge::new(self.scratch, self.levels.into_iter().rev().flatten())
    }

    fn spill(&mut self) -> rusqlite::Result<()> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by(|one, other| order(one).cmp(order(other)));
        let mut sorted = rows.iter();
        let mut run = self.write(|| Ok(sorted.next().copied()))?;
        rows.clear();
        self.rows = rows;
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(run);
            if self.levels[level].len() < FAN {
                break;
            }
            let mut merge = Merge::new(self.scratch, self.levels[level].drain(..))?;
            run = self.write(|| merge.next())?;
        }
        Ok(())
    }

    fn write(&mut self, mut next: impl FnMut() -> rusqlite::Result<Option<Bytes>>) -> rusqlite::Result<Run> {
        let first = self.next_chunk;
        // So that a merge of [`FAN`] runs has as many rows in memory as are sorted at once.
        let size = self.capacity.div_ceil(FAN);
        let mut chunk = Vec::with_capacity(size);
        loop {
            let row = next()?;
            let is_last = row.is_none();
            chunk.extend(row);
            if chunk.len() == size || is_last && !chunk.is_empty() {
                self.scratch.put_chunk(self.next_chunk, chunk.as_flattened())?;
                self.next_chunk += 1;
                chunk.clear();
            }
            if is_last {
                return Ok(first..self.next_chunk);
            }
        }
    }
}

/// Several runs as one.
pub(crate) struct Merge<'s> {
    scratch: &'s Scratch,
    runs: Vec<Reading>,
    /// The first row of each run. Of equal rows, an earlier run's comes first.
    heads: BinaryHeap<Reverse<([u8; SORTED], usize)>>,
}

struct Reading {
    /// Chunks that are not read yet.
    chunks: Run,
    chunk: Vec<u8>,
    /// The index of the run's first row in `chunk`.
    next: usize,
}

impl<'s> Merge<'s> {
    fn new(scratch: &'s Scratch, runs: impl Iterator<Item = Run>) -> rusqlite::Result<Self> {
        let runs = runs.map(|chunks| Reading { chunks, chunk: Vec::new(), next: 0 }).collect();
        let mut merge = Self { scratch, runs, heads: BinaryHeap::new() };
        for run in 0..merge.runs.len() {
            merge.push_head(run)?;
        }
        Ok(merge)
    }

    pub(crate) fn next_row(&mut self) -> rusqlite::Result<Option<Staged>> {
        Ok(self.next()?.map(|bytes| Staged::decode(&bytes)))
    }

    fn next(&mut self) -> rusqlite::Result<Option<Bytes>> {
        let Some(Reverse((_, run))) = self.heads.pop() else { return Ok(None) };
        let reading = &mut self.runs[run];
        let row = *reading.head().expect("it has a head");
        reading.next += 1;
        self.push_head(run)?;
        Ok(Some(row))
    }

    fn push_head(&mut self, run: usize) -> rusqlite::Result<()> {
        let reading = &mut self.runs[run];
        if reading.head().is_none()
            && let Some(number) = reading.chunks.next()
        {
            reading.chunk = self.scratch.take_chunk(number)?;
            reading.next = 0;
        }
        if let Some(row) = reading.head() {
            self.heads.push(Reverse((*order(row), run)));
        }
        Ok(())
    }
}

impl Reading {
    fn head(&self) -> Option<&Bytes> {
        self.chunk.as_chunks().0.get(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(random: &mut fastrand::Rng, number: u64) -> Staged {
        let collection =
            [Collection::Log(0), Collection::Log(3), Collection::Notifications, Collection::Rejections]
                [random.usize(..4)];
        let id = Id {
            partition: random.i32(0..3),
            offset: random.i64(0..20) * 1_000,
            timestamp: random.i64(0..2) * 1_700_000_000_000,
            target: random.u32(0..2),
        };
        let spot = match collection {
            Collection::Log(_) => Spot::Log(random.bool().then_some(number.cast_signed())),
            _ => Spot::Topic(At { partition: random.i32(0..9), offset: number.cast_signed() }),
        };
        let side = [Side::Expected, Side::ExpectedForm, Side::Found, Side::FoundInPart][random.usize(..4)];
        let what = [What::Event, What::Duplicate, What::Rejection, What::Notification][random.usize(..4)];
        Staged { collection, id, side, what, digest: Digest([number, random.u64(..), random.u64(..)]), spot }
    }

    #[test]
    fn merges_rows_in_a_stable_order_however_few_fit_into_memory() {
        let mut random = fastrand::Rng::with_seed(1);
        let rows: Vec<_> = (0..20_000).map(|number| row(&mut random, number)).collect();
        for capacity in [1, 3, 100, 1_000_000] {
            // Enough for runs of three levels.
            let rows = &rows[..rows.len().min(capacity * 5_000)];
            let scratch = Scratch::new(0).unwrap();
            let mut staging = Staging::new(&scratch, capacity);
            rows.iter().for_each(|row| staging.push(row).unwrap());
            let mut merge = staging.merge().unwrap();
            let mut wanted = rows.to_vec();
            wanted.sort_by_key(|row| (row.collection, row.id, row.side));
            for wanted in wanted {
                assert_eq!(merge.next_row().unwrap(), Some(wanted), "{capacity}");
            }
            assert_eq!(merge.next_row().unwrap(), None);
        }
    }
}
