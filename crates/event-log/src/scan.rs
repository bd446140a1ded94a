//! Reads events in order of position, beyond damaged ones.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::vec;

use rusqlite::{ErrorCode, Row, params};

use crate::checksum::{DamagedRow, EVENTS, check_row};
use crate::error::LogError;
use crate::lookup::MISSING;
use crate::reader::{ListQuery, Listed, LogReader, Order};

/// How many positions are read at once, and how many bytes are in memory at once.
const STRIDE: i64 = 4096;
const GATHER_BYTES: usize = 4 << 20;

/// Up to this many missing positions, each is tried by itself. In a longer range the steps grow with its length.
///
/// A damaged page can hide rows from one query and not from the next, which starts one position later. But the last
/// position may itself be damaged, and then up to 2^63 positions before it are missing.
const ONE_BY_ONE: u64 = 1024;

/// A scan in progress. Positions have no holes, so if SQLite doesn't return one, its row is missing.
///
/// It counts in ranks, which ascend in the order of the scan, whatever the order of positions. No read transaction is
/// open between two calls of [`next`](Iterator::next): if the caller is slow, SQLite could not checkpoint.
pub(crate) struct Scan<'a> {
    log: &'a LogReader,
    query: &'a ListQuery,
    gathered: vec::IntoIter<Found>,
    /// The ranks that are not read yet: `next..=last`.
    next: i64,
    last: i64,
    /// Consecutive ranks without a readable row, reported as one.
    lost: Option<Lost>,
    /// Ranks of damaged rows that were reported before the scan reached them. It may meet them again.
    reported: BTreeSet<i64>,
}

pub(crate) type Found = Result<Listed, DamagedRow>;

/// Ranks, and why they can't be read.
type Lost = (RangeInclusive<i64>, String);

impl Order {
    /// The rank of a position, and the position of a rank. The complement reverses the order and can't overflow.
    fn rank(self, position: i64) -> i64 {
        match self {
            Self::OldestFirst => position,
            Self::NewestFirst => !position,
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Found, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.gathered.next() {
                return Some(Ok(found));
            }
            if self.is_done() {
                return self.take_lost().map(|lost| Ok(Err(lost)));
            }
            if let Err(error) = self.gather() {
                (self.next, self.last, self.lost) = (1, 0, None);
                return Some(Err(self.log.sqlite(error)));
            }
        }
    }
}

impl<'a> Scan<'a> {
    /// Ignores the query's limit, except that it never reads more rows at once.
    pub(crate) fn new(log: &'a LogReader, query: &'a ListQuery, positions: RangeInclusive<i64>) -> Self {
        let (low, high) = positions.into_inner();
        let (next, last) = match query.order {
            Order::OldestFirst => (low, high),
            order => (order.rank(high), order.rank(low)),
        };
        let gathered = Vec::new().into_iter();
        Self { log, query, gathered, next, last, lost: None, reported: BTreeSet::new() }
    }

    fn gather(&mut self) -> rusqlite::Result<()> {
        let mut gathered = Vec::new();
        match self.read(&mut gathered) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                self.skip(self.step(), &format!("unreadable: {error}"), &mut gathered);
            }
            read => read?,
        }
        self.gathered = gathered.into_iter();
        Ok(())
    }

    fn read(&mut self, gathered: &mut Vec<Found>) -> rusqlite::Result<()> {
        let (log, order, limit) = (self.log, self.query.order, self.query.limit.unwrap_or(u64::MAX));
        let to = self.next.saturating_add(STRIDE.max(self.step()) - 1).min(self.last);
        let (low, high, direction) = match order {
            Order::OldestFirst => (self.next, to, "ASC"),
            Order::NewestFirst => (order.rank(to), order.rank(self.next), "DESC"),
        };
        let mut statement = log.connection.prepare_cached(&format!(
            "{} WHERE position BETWEEN ?1 AND ?2 ORDER BY position {direction}",
            EVENTS.select
        ))?;
        let mut rows = statement.query(params![low, high])?;
        let (mut bytes, mut found) = (0, 0);
        while bytes < GATHER_BYTES && found < limit && !self.is_done() && self.next <= to {
            let Some(row) = rows.next()? else {
                // Later rows may exist: a damaged inner page ends a query early.
                self.skip(self.step(), MISSING, gathered);
                return Ok(());
            };
            let rank = order.rank(row.get(0)?);
            // Negative if the scan has passed the row.
            let missing = rank.saturating_sub(self.next);
            let read = || -> rusqlite::Result<_> {
                check_row(row, &EVENTS)?;
                if self.query.matches(row)? { log.listed(row).map(Some) } else { Ok(None) }
            };
            match read() {
                Ok(listed) => {
                    if missing > 0 {
                        self.skip(missing, MISSING, gathered);
                    }
                    self.report_lost(gathered);
                    if missing >= 0 {
                        self.advance(1);
                    }
                    if let Some(listed) = listed {
                        bytes += listed.json.len();
                        found += 1;
                        gathered.push(Ok(listed));
                    }
                }
                Err(error) => {
                    let damaged = DamagedRow::from_error(error, &EVENTS, row)?;
                    let is_reported = self.reported.contains(&rank);
                    if is_reported && missing != 0 {
                        continue;
                    }
                    // The damage may be in the position, so the row counts as the next one, unless that is known to be missing.
                    if missing > 0 && self.lost.is_some() {
                        self.skip(missing, MISSING, gathered);
                    } else if missing != 0 {
                        self.reported.insert(rank);
                    }
                    self.report_lost(gathered);
                    self.advance(1);
                    if !is_reported {
                        gathered.push(Err(damaged));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.next > self.last
    }

    fn advance(&mut self, ranks: i64) {
        match self.next.checked_add(ranks) {
            Some(next) => self.next = next,
            None => (self.next, self.last) = (1, 0),
        }
    }

    /// How many ranks to skip if the next one has no row. The query just searched all of them.
    fn step(&self) -> i64 {
        let lost = self.lost.as_ref().map_or(0, |(ranks, _)| ranks.start().abs_diff(*ranks.end()));
        i64::try_from(lost / ONE_BY_ONE).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Skips ranks without a readable row.
    fn skip(&mut self, ranks: i64, why: &str, gathered: &mut Vec<Found>) {
        let skipped = self.next..=self.next.saturating_add(ranks - 1).min(self.last);
        self.advance(ranks);
        match &mut self.lost {
            Some((lost, because)) if because == why => {
                *lost = *skipped.start().min(lost.start())..=*skipped.end().max(lost.end());
            }
            _ => {
                self.report_lost(gathered);
                self.lost = Some((skipped, why.to_owned()));
            }
        }
    }

    fn report_lost(&mut self, gathered: &mut Vec<Found>) {
        gathered.extend(self.take_lost().map(Err));
    }

    fn take_lost(&mut self) -> Option<DamagedRow> {
        let (ranks, why) = self.lost.take()?;
        let (first, last) = (self.query.order.rank(*ranks.start()), self.query.order.rank(*ranks.end()));
        Some(if first == last {
            DamagedRow::event(first, why)
        } else {
            let key = format!("positions {} to {}", first.min(last), first.max(last));
            DamagedRow::of_key(&EVENTS, key, why)
        })
    }
}

impl ListQuery {
    /// Call it only for a sound row: one whose object or time is damaged must be reported.
    fn matches(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let timestamp: i64 = row.get(3)?;
        let is_object = |object: &str| -> rusqlite::Result<bool> {
            let (object_type, object_id) = (row.get_ref(5)?.as_str()?, row.get_ref(6)?.as_str()?);
            let id = object.strip_prefix(object_type).and_then(|rest| rest.strip_prefix('/'));
            Ok(id == Some(object_id))
        };
        Ok(self.since.is_none_or(|since| timestamp >= since)
            && self.until.is_none_or(|until| timestamp < until)
            && self.object.as_deref().map_or(Ok(true), is_object)?)
    }
}
