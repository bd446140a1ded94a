//! Reads events in order of position, beyond damaged ones.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

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
pub(crate) struct Scan {
    order: Order,
    /// The range that is not read yet: [low, high].
    low: i64,
    high: i64,
    /// Consecutive positions without a readable row, reported as one.
    lost: Option<Lost>,
    /// Damaged rows that were reported before the scan reached their positions. It may meet them again.
    reported: BTreeSet<i64>,
}

/// Positions, and why they can't be read.
type Lost = (RangeInclusive<i64>, String);

impl Scan {
    pub(crate) fn new(positions: RangeInclusive<i64>, order: Order) -> Self {
        let (low, high) = positions.into_inner();
        Self { order, low, high, lost: None, reported: BTreeSet::new() }
    }

    /// The next events and damaged rows, perhaps none; `None` at the end.
    pub(crate) fn gather(
        &mut self,
        log: &LogReader,
        query: &ListQuery,
        limit: u64,
    ) -> Result<Option<Vec<Result<Listed, DamagedRow>>>, LogError> {
        if self.is_done() {
            return Ok(self.lost.take().map(|lost| vec![Err(damaged_range(lost))]));
        }
        let mut gathered = Vec::new();
        match self.read(log, query, limit, &mut gathered) {
            Ok(()) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                self.skip(self.step(), &format!("unreadable: {error}"), &mut gathered);
            }
            Err(error) => return Err(log.sqlite(error)),
        }
        Ok(Some(gathered))
    }

    fn read(
        &mut self,
        log: &LogReader,
        query: &ListQuery,
        limit: u64,
        gathered: &mut Vec<Result<Listed, DamagedRow>>,
    ) -> rusqlite::Result<()> {
        let others = STRIDE.max(self.step()) - 1;
        let (from, to, direction) = match self.order {
            Order::OldestFirst => (self.low, self.high.min(self.low.saturating_add(others)), "ASC"),
            Order::NewestFirst => (self.low.max(self.high.saturating_sub(others)), self.high, "DESC"),
        };
        let mut statement = log.connection.prepare_cached(&format!(
            "{} WHERE position BETWEEN ?1 AND ?2 ORDER BY position {direction}",
            EVENTS.select
        ))?;
        let mut rows = statement.query(params![from, to])?;
        let (mut bytes, mut found) = (0, 0);
        while bytes < GATHER_BYTES && found < limit && !self.is_done() && (from..=to).contains(&self.next()) {
            let Some(row) = rows.next()? else {
                // Later rows may exist: a damaged inner page ends a query early.
                self.skip(self.step(), MISSING, gathered);
                return Ok(());
            };
            let read = || -> rusqlite::Result<_> {
                check_row(row, &EVENTS)?;
                Ok((row.get::<_, i64>(0)?, if query.matches(row)? { Some(log.listed(row)?) } else { None }))
            };
            match read() {
                Ok((position, listed)) => {
                    let missing = self.missing_before(position);
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
                    let (damaged, position) = (DamagedRow::from_error(error, &EVENTS, row)?, row.get(0)?);
                    let missing = self.missing_before(position);
                    let is_reported = self.reported.contains(&position);
                    if is_reported && missing != 0 {
                        continue;
                    }
                    // The damage may be in the position, so the row counts as the next one, unless that is known to be missing.
                    if missing > 0 && self.lost.is_some() {
                        self.skip(missing, MISSING, gathered);
                    } else if missing != 0 {
                        self.reported.insert(position);
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

    fn next(&self) -> i64 {
        match self.order {
            Order::OldestFirst => self.low,
            Order::NewestFirst => self.high,
        }
    }

    /// How many positions are missing before a row's; negative if the scan has passed it.
    fn missing_before(&self, position: i64) -> i64 {
        match self.order {
            Order::OldestFirst => position.saturating_sub(self.low),
            Order::NewestFirst => self.high.saturating_sub(position),
        }
    }

    fn is_done(&self) -> bool {
        self.low > self.high
    }

    /// Moves the start by that many positions, at most to the end.
    fn advance(&mut self, positions: i64) {
        let next = match self.order {
            Order::OldestFirst => self.low.checked_add(positions).map(|low| (low, self.high)),
            Order::NewestFirst => self.high.checked_sub(positions).map(|high| (self.low, high)),
        };
        (self.low, self.high) = next.unwrap_or((1, 0));
    }

    /// How many positions to skip if the next one has no row. The query just searched all of them.
    fn step(&self) -> i64 {
        let lost =
            self.lost.as_ref().map_or(0, |(positions, _)| positions.start().abs_diff(*positions.end()));
        i64::try_from(lost / ONE_BY_ONE).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Skips positions without a readable row.
    fn skip(&mut self, positions: i64, why: &str, gathered: &mut Vec<Result<Listed, DamagedRow>>) {
        let (others, left) = (positions - 1, self.low..=self.high);
        let positions = match self.order {
            Order::OldestFirst => self.low..=self.low.saturating_add(others).min(*left.end()),
            Order::NewestFirst => self.high.saturating_sub(others).max(*left.start())..=self.high,
        };
        self.advance(others.saturating_add(1));
        match &mut self.lost {
            Some((lost, because)) if because == why => {
                *lost = *positions.start().min(lost.start())..=*positions.end().max(lost.end());
            }
            _ => {
                self.report_lost(gathered);
                self.lost = Some((positions, why.to_owned()));
            }
        }
    }

    fn report_lost(&mut self, gathered: &mut Vec<Result<Listed, DamagedRow>>) {
        gathered.extend(self.lost.take().map(|lost| Err(damaged_range(lost))));
    }
}

fn damaged_range((positions, why): Lost) -> DamagedRow {
    let (first, last) = positions.into_inner();
    if first == last {
        return DamagedRow::event(first, why);
    }
    DamagedRow::of_key(&EVENTS, format!("positions {first} to {last}"), why)
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
