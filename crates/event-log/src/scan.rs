//! Events in order of position, past those that are damaged.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use rusqlite::{ErrorCode, Row, params};

use super::checksum::{EVENTS, checked};
use super::lookup::MISSING;
use super::{DamagedRow, ListQuery, Listed, LogError, LogReader, Order};

/// Positions looked through at once, and bytes gathered at once.
const STRIDE: i64 = 4096;
const GATHER_BYTES: usize = 4 << 20;

/// How long a range without rows becomes before the steps through it grow, by a part of its length.
///
/// Damage of a page can hide rows from one search and not from the next, so that one begins a position later. But the
/// range may end at a position that is itself damaged, and then has up to 2^63 of them.
const ONE_BY_ONE: u64 = 1024;

/// A scan under way. Positions have no holes, so one that SQLite does not give is a row that is missing.
pub(super) struct Scan {
    order: Order,
    /// Still to be looked through: [low, high].
    low: i64,
    high: i64,
    /// Consecutive positions without a readable row, and why: told as one.
    lost: Option<Lost>,
    /// Damaged rows that were named where another position came next, so that a later search can find them again.
    named: BTreeSet<i64>,
}

type Lost = (RangeInclusive<i64>, String);

impl Scan {
    pub(super) fn new(positions: RangeInclusive<i64>, order: Order) -> Self {
        let (low, high) = positions.into_inner();
        Self { order, low, high, lost: None, named: BTreeSet::new() }
    }

    /// More events and damaged rows, of which there may be none yet; `None` at the end.
    pub(super) fn gather(
        &mut self,
        log: &LogReader,
        query: &ListQuery,
        limit: u64,
    ) -> Result<Option<Vec<Result<Listed, DamagedRow>>>, LogError> {
        if self.is_done() {
            return Ok(self.lost.take().map(|lost| vec![Err(told(lost))]));
        }
        let mut gathered = Vec::new();
        match self.read(log, query, limit, &mut gathered) {
            Ok(()) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                self.lose(self.step(), &format!("unreadable: {error}"), &mut gathered);
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
                // What comes after it may be there: damage of an inner page can end a scan early.
                self.lose(self.step(), MISSING, gathered);
                return Ok(());
            };
            let read = || -> rusqlite::Result<_> {
                checked(row, &EVENTS)?;
                Ok((row.get::<_, i64>(0)?, if query.wants(row)? { Some(log.listed(row)?) } else { None }))
            };
            match read() {
                Ok((position, listed)) => {
                    let missing = self.missing_before(position);
                    if missing > 0 {
                        self.lose(missing, MISSING, gathered);
                    }
                    self.tell_lost(gathered);
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
                    let (damaged, position) = (DamagedRow::of(error, &EVENTS, row)?, row.get(0)?);
                    let missing = self.missing_before(position);
                    let is_named = self.named.contains(&position);
                    if is_named && missing != 0 {
                        continue;
                    }
                    // Its position may be what is damaged, so it counts as the next one unless that is missed already.
                    if missing > 0 && self.lost.is_some() {
                        self.lose(missing, MISSING, gathered);
                    } else if missing != 0 {
                        self.named.insert(position);
                    }
                    self.tell_lost(gathered);
                    self.advance(1);
                    if is_named {
                        continue;
                    }
                    gathered.push(Err(damaged));
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

    /// Positions from the next one to a row's; below 0 where that was passed.
    fn missing_before(&self, position: i64) -> i64 {
        match self.order {
            Order::OldestFirst => position.saturating_sub(self.low),
            Order::NewestFirst => self.high.saturating_sub(position),
        }
    }

    fn is_done(&self) -> bool {
        self.low > self.high
    }

    /// Over as many positions, or to the end.
    fn advance(&mut self, positions: i64) {
        match self.order {
            Order::OldestFirst => match self.low.checked_add(positions) {
                Some(low) => self.low = low,
                None => (self.low, self.high) = (1, 0),
            },
            Order::NewestFirst => match self.high.checked_sub(positions) {
                Some(high) => self.high = high,
                None => (self.low, self.high) = (1, 0),
            },
        }
    }

    /// Positions to go on by where no row is found at the next one. All rows in them were just searched for.
    fn step(&self) -> i64 {
        let lost =
            self.lost.as_ref().map_or(0, |(positions, _)| positions.start().abs_diff(*positions.end()));
        i64::try_from(lost / ONE_BY_ONE).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// The next positions have no row that can be read.
    fn lose(&mut self, positions: i64, why: &str, gathered: &mut Vec<Result<Listed, DamagedRow>>) {
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
                self.tell_lost(gathered);
                self.lost = Some((positions, why.to_owned()));
            }
        }
    }

    fn tell_lost(&mut self, gathered: &mut Vec<Result<Listed, DamagedRow>>) {
        gathered.extend(self.lost.take().map(|lost| Err(told(lost))));
    }
}

fn told((positions, why): Lost) -> DamagedRow {
    let (first, last) = positions.into_inner();
    if first == last {
        return DamagedRow::event(first, why);
    }
    DamagedRow { table: EVENTS.name, row: format!("positions {first} to {last}"), found: why }
}

impl ListQuery {
    /// Asked after the row was checked: one whose object or time is damaged must not be left out in silence.
    fn wants(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
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
