//! From an offset to what its command became.

use std::ops::Range;
use std::path::Path;

use contract::{ActivityId, Coordinates, Decision, Event, Problems};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::checksum::{BATCHES, DUPLICATES, EVENTS, REJECTIONS, Table, checked, key_of};
use super::{DamagedRow, LogError};

/// What the log says of one command.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub coordinates: Coordinates,
    /// CRC-32C of the record, to compare a re-read one with.
    pub checksum: u32,
    pub decision: Decision,
    /// Place in the log, from 1; of an event only.
    pub position: Option<i64>,
}

/// A row of table `batches`: events with ascending offsets at consecutive positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) first_offset: i64,
    pub(super) next_offset: i64,
    pub(super) first_position: i64,
    pub(super) events: i64,
}

impl Batch {
    pub(super) fn spans(&self, offset: i64) -> bool {
        (self.first_offset..self.next_offset).contains(&offset)
    }

    pub(super) fn holds(&self, position: i64) -> bool {
        (self.first_position..self.end()).contains(&position)
    }

    /// One past the position of its last event.
    pub(super) fn end(&self) -> i64 {
        self.first_position.saturating_add(self.events)
    }

    /// Refuses an event that can't be at that position: as many offsets as there are events of the batch on either side
    /// of it must lie between its own and the span's ends. A row without a checksum may say anything.
    fn place(&self, partition: i32, position: i64, at: Coordinates) -> rusqlite::Result<()> {
        let Self { first_offset, next_offset, first_position, .. } = *self;
        let lowest = first_offset.saturating_add(position.saturating_sub(first_position));
        let highest = next_offset.saturating_sub(self.end().saturating_sub(position));
        if at.partition == partition && (lowest..=highest).contains(&at.offset) {
            return Ok(());
        }
        let found = format!(
            "it is of partition {} offset {}, wanted partition {partition} and an offset from {lowest} to {highest}",
            at.partition, at.offset
        );
        Err(DamagedRow::event(position, found).into())
    }

    /// Sums with what it says neither overflow nor turn round.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        checked(row, &BATCHES)?;
        let [first_offset, next_offset, first_position, events]: [i64; 4] =
            [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
        let is_sound = first_offset >= 0
            && first_position >= 1
            && first_position.checked_add(events).is_some()
            && next_offset.checked_sub(first_offset).is_some_and(|span| (1..=span).contains(&events));
        if is_sound {
            return Ok(Self { first_offset, next_offset, first_position, events });
        }
        let found = format!(
            "offsets {first_offset} to {next_offset} can't have {events} events from position {first_position} on"
        );
        Err(DamagedRow { table: BATCHES.name, row: key_of(&BATCHES, row), found }.into())
    }

    /// The batch in whose span the offset lies, if there is one.
    pub(super) fn around(
        connection: &Connection,
        partition: i32,
        offset: i64,
    ) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(&format!(
            "{} WHERE partition = ?1 AND first_offset <= ?2 ORDER BY first_offset DESC LIMIT 1",
            BATCHES.select
        ))?;
        let batch = statement.query_row(params![partition, offset], Self::read).optional()?;
        Ok(batch.filter(|batch| offset < batch.next_offset))
    }

    /// Batches that hold offsets of the range, in order.
    fn within(connection: &Connection, partition: i32, offsets: &Range<i64>) -> rusqlite::Result<Vec<Self>> {
        let around = Self::around(connection, partition, offsets.start)?;
        let mut statement = connection.prepare_cached(&format!(
            "{} WHERE partition = ?1 AND first_offset > ?2 AND first_offset < ?3 ORDER BY first_offset",
            BATCHES.select
        ))?;
        let further = statement.query_map(params![partition, offsets.start, offsets.end], Self::read)?;
        around.map(Ok).into_iter().chain(further).collect()
    }

    /// The position of the first event whose offset is not below `offset`; one past the last if there is none.
    ///
    /// Offsets ascend with positions, by at least 1 and without an event outside the span, so the answer lies
    /// between what a batch without holes, counted from its start and from its end, would give.
    pub(super) fn position_at_or_after(&self, connection: &Connection, offset: i64) -> rusqlite::Result<i64> {
        let from_end = self.next_offset.saturating_sub(offset).clamp(0, self.events);
        let from_start = offset.saturating_sub(self.first_offset).clamp(0, self.events);
        let (mut low, mut high) = (self.end() - from_end, self.first_position + from_start);
        while low < high {
            let middle = low + (high - low) / 2;
            if offset_at(connection, middle)? < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

fn offset_at(connection: &Connection, position: i64) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(&format!("{} WHERE position = ?1", EVENTS.select))?;
    let offset = statement.query_row([position], |row| {
        checked(row, &EVENTS)?;
        row.get(2)
    });
    offset.optional()?.ok_or_else(|| DamagedRow::event(position, MISSING).into())
}

/// What is found where a row must be.
pub(super) const MISSING: &str = "the row is missing";

/// An event by partition and offset, as `read` reads its row, of the one batch in whose span the offset lies.
pub(super) fn event_at<T>(
    connection: &Connection,
    partition: i32,
    offset: i64,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let Some(batch) = Batch::around(connection, partition, offset)? else { return Ok(None) };
    let position = batch.position_at_or_after(connection, offset)?;
    if !batch.holds(position) {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached(&format!("{} WHERE position = ?1", EVENTS.select))?;
    let found = statement.query_row([position], |row| {
        checked(row, &EVENTS)?;
        let at = Coordinates { partition: row.get(1)?, offset: row.get(2)?, timestamp: row.get(3)? };
        batch.place(partition, position, at)?;
        // A higher one is the next event: a hole is what was asked for.
        Ok((at.offset, (at.offset == offset).then(|| read(row)).transpose()?))
    });
    match found.optional()? {
        None => Err(DamagedRow::event(position, MISSING).into()),
        Some((found, _)) if found < offset => {
            let found = format!("its offset is {found}, wanted at least {offset}");
            Err(DamagedRow::event(position, found).into())
        }
        Some((_, event)) => Ok(event),
    }
}

/// Events, duplicates and rejections of a range of offsets, merged in order of offset.
pub(super) fn recorded(
    connection: &Connection,
    path: &Path,
    topic_bits: u16,
    partition: i32,
    offsets: Range<i64>,
) -> Result<Vec<Recorded>, LogError> {
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    let mut recorded = Vec::new();
    events(connection, path, topic_bits, partition, &offsets, &mut recorded)?;
    let events = recorded.len();
    refused(connection, path, topic_bits, partition, &offsets, &mut recorded)?;
    if recorded.len() > events {
        // Three ascending runs, which a stable sort finds and merges.
        recorded.sort_by_key(|recorded| recorded.coordinates.offset);
    }
    Ok(recorded)
}

/// Duplicates, then rejections, of a range of offsets, each in order of offset.
pub(super) fn refused(
    connection: &Connection,
    path: &Path,
    topic_bits: u16,
    partition: i32,
    offsets: &Range<i64>,
    recorded: &mut Vec<Recorded>,
) -> Result<(), LogError> {
    let sqlite = |error| LogError::sqlite(path, None, error);
    let mut read = |table: &Table, record: &dyn Fn(&Row<'_>) -> Result<Recorded, LogError>| {
        let select = format!("{} WHERE partition = ?1 AND offset >= ?2 AND offset < ?3", table.select);
        let mut statement = connection.prepare_cached(&select).map_err(sqlite)?;
        let mut rows = statement.query(params![partition, offsets.start, offsets.end]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            recorded.push(record(row)?);
        }
        Ok(())
    };
    read(&DUPLICATES, &|row| duplicate(row, topic_bits, partition).map_err(sqlite))?;
    read(&REJECTIONS, &|row| rejection(row, path, partition))
}

fn events(
    connection: &Connection,
    path: &Path,
    topic_bits: u16,
    partition: i32,
    offsets: &Range<i64>,
    recorded: &mut Vec<Recorded>,
) -> Result<(), LogError> {
    let sqlite = |error| LogError::sqlite(path, None, error);
    let mut statement = connection
        .prepare_cached(&format!(
            "{} WHERE position >= ?1 AND position < ?2 ORDER BY position",
            EVENTS.select
        ))
        .map_err(sqlite)?;
    let mut lowest = offsets.start;
    for batch in Batch::within(connection, partition, offsets).map_err(sqlite)? {
        let first = batch.position_at_or_after(connection, offsets.start).map_err(sqlite)?;
        let end = batch.end();
        let mut rows = statement.query([first, end]).map_err(sqlite)?;
        for position in first..end {
            let row = rows.next().map_err(sqlite)?;
            let event = row.map(|row| event(row, path, topic_bits)).transpose()?;
            let Some(event) = event.filter(|event| event.position == Some(position)) else {
                return Err(LogError::damaged(path, DamagedRow::event(position, MISSING).to_string()));
            };
            let at = event.coordinates;
            batch.place(partition, position, at).map_err(sqlite)?;
            // Also of the first one: the search for its position passes all that are below the range.
            if at.offset < lowest {
                let found = format!("its offset is {}, wanted at least {lowest}", at.offset);
                return Err(LogError::damaged(path, DamagedRow::event(position, found).to_string()));
            }
            if at.offset >= offsets.end {
                break;
            }
            lowest = at.offset.saturating_add(1);
            recorded.push(event);
        }
    }
    Ok(())
}

fn event(row: &Row<'_>, path: &Path, topic_bits: u16) -> Result<Recorded, LogError> {
    let read = || -> rusqlite::Result<_> {
        checked(row, &EVENTS)?;
        let at = Coordinates { partition: row.get(1)?, offset: row.get(2)?, timestamp: row.get(3)? };
        Ok((row.get::<_, i64>(0)?, at, row.get(4)?, row.get(7)?))
    };
    let (position, at, checksum, json) = read().map_err(|error| LogError::sqlite(path, None, error))?;
    let event = Event::from_log(topic_bits, at, json)
        .map_err(|error| LogError::damaged(path, format!("the event at position {position} is {error}")))?;
    Ok(Recorded { coordinates: at, checksum, decision: Decision::Accepted(event), position: Some(position) })
}

fn duplicate(row: &Row<'_>, topic_bits: u16, partition: i32) -> rusqlite::Result<Recorded> {
    checked(row, &DUPLICATES)?;
    let first = Coordinates { partition, offset: row.get(4)?, timestamp: row.get(5)? };
    Ok(Recorded {
        coordinates: Coordinates { partition, offset: row.get(1)?, timestamp: row.get(2)? },
        checksum: row.get(3)?,
        decision: Decision::Duplicate { of: ActivityId::new(topic_bits, first) },
        position: None,
    })
}

fn rejection(row: &Row<'_>, path: &Path, partition: i32) -> Result<Recorded, LogError> {
    let read = || -> rusqlite::Result<_> {
        checked(row, &REJECTIONS)?;
        let at = Coordinates { partition, offset: row.get(1)?, timestamp: row.get(2)? };
        Ok((at, row.get(3)?, row.get::<_, String>(4)?))
    };
    let (at, checksum, problems) = read().map_err(|error| LogError::sqlite(path, None, error))?;
    let problems: Problems = serde_json::from_str(&problems).map_err(|error| {
        let found =
            format!("the problems at partition {partition} offset {} are unreadable: {error}", at.offset);
        LogError::damaged(path, found)
    })?;
    Ok(Recorded { coordinates: at, checksum, decision: Decision::Rejected(problems), position: None })
}
