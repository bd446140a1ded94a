//! Events in order of position, past those that are damaged.

use std::ops::RangeInclusive;

use rusqlite::{ErrorCode, Row, params};

use super::checksum::{EVENTS, checked};
use super::lookup::MISSING;
use super::{DamagedRow, ListQuery, Listed, LogError, LogReader, Order};

/// Positions looked through at once, and bytes gathered at once.
const STRIDE: i64 = 4096;
const GATHER_BYTES: usize = 4 << 20;

/// A scan under way. Positions have no holes, so one that SQLite does not give is a row that is missing.
pub(super) struct Scan {
    order: Order,
    /// Still to be looked through: [low, high].
    low: i64,
    high: i64,
    /// Consecutive positions without a readable row, and why: told as one.
    lost: Option<(RangeInclusive<i64>, String)>,
}

impl Scan {
    pub(super) fn new(positions: RangeInclusive<i64>, order: Order) -> Self {
        let (low, high) = positions.into_inner();
        Self { order, low, high, lost: None }
    }

    /// More events and damaged rows, of which there may be none yet; `None` at the end.
    pub(super) fn gather(
        &mut self,
        log: &LogReader,
        query: &ListQuery,
        limit: u64,
    ) -> Result<Option<Vec<Result<Listed, DamagedRow>>>, LogError> {
        if self.low > self.high {
            return Ok(self.lost.take().map(|lost| vec![Err(told(lost))]));
        }
        let mut gathered = Vec::new();
        match self.read(log, query, limit, &mut gathered) {
            Ok(()) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                self.lose(&format!("unreadable: {error}"), &mut gathered);
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
        let (from, to, direction) = match self.order {
            Order::OldestFirst => (self.low, self.high.min(self.low.saturating_add(STRIDE - 1)), "ASC"),
            Order::NewestFirst => (self.low.max(self.high.saturating_sub(STRIDE - 1)), self.high, "DESC"),
        };
        let mut statement = log.connection.prepare_cached(&format!(
            "{} WHERE position BETWEEN ?1 AND ?2 ORDER BY position {direction}",
            EVENTS.select
        ))?;
        let mut rows = statement.query(params![from, to])?;
        let (mut bytes, mut found) = (0, 0);
        while bytes < GATHER_BYTES && found < limit && (from..=to).contains(&self.next()) {
            let Some(row) = rows.next()? else {
                // What comes after it may be there: damage of an inner page can end a scan early.
                self.lose(MISSING, gathered);
                return Ok(());
            };
            let read = || -> rusqlite::Result<_> {
                checked(row, &EVENTS)?;
                Ok((row.get(0)?, if query.wants(row)? { Some(log.listed(row)?) } else { None }))
            };
            match read() {
                Ok((position, listed)) => {
                    while self.is_before(position) {
                        self.lose(MISSING, gathered);
                    }
                    self.tell_lost(gathered);
                    if self.next() == position {
                        self.advance();
                    }
                    if let Some(listed) = listed {
                        bytes += listed.json.len();
                        found += 1;
                        gathered.push(Ok(listed));
                    }
                }
                Err(error) => {
                    // Its position may be what is damaged, so it counts as the next one.
                    let damaged = DamagedRow::of(error, &EVENTS, row)?;
                    self.tell_lost(gathered);
                    self.advance();
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

    fn is_before(&self, position: i64) -> bool {
        match self.order {
            Order::OldestFirst => self.low < position,
            Order::NewestFirst => self.high > position,
        }
    }

    fn advance(&mut self) {
        match self.order {
            Order::OldestFirst => self.low += 1,
            Order::NewestFirst => self.high -= 1,
        }
    }

    /// The next position has no row that can be read.
    fn lose(&mut self, why: &str, gathered: &mut Vec<Result<Listed, DamagedRow>>) {
        let position = self.next();
        self.advance();
        match &mut self.lost {
            Some((positions, because)) if because == why => {
                *positions = position.min(*positions.start())..=position.max(*positions.end());
            }
            _ => {
                self.tell_lost(gathered);
                self.lost = Some((position..=position, why.to_owned()));
            }
        }
    }

    fn tell_lost(&mut self, gathered: &mut Vec<Result<Listed, DamagedRow>>) {
        gathered.extend(self.lost.take().map(|lost| Err(told(lost))));
    }
}

fn told((positions, why): (RangeInclusive<i64>, String)) -> DamagedRow {
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
