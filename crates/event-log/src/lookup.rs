//! Finds the outcome of a command by its offset.

use std::ops::Range;

use contract::{ActivityId, Coordinates, Decision, Event, Problems};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::checksum::{BATCHES, DUPLICATES, DamagedRow, EVENTS, REJECTIONS, Table, check_row, coordinates};

/// One command in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub coordinates: Coordinates,
    /// CRC-32C of the record.
    pub checksum: u32,
    pub decision: Decision,
    /// The event's position in the log, from 1; `None` if the command did not become an event.
    pub position: Option<i64>,
}

/// A row of table `batches`: events with ascending offsets at consecutive positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) first_offset: i64,
    pub(crate) next_offset: i64,
    pub(crate) first_position: i64,
    pub(crate) events: i64,
}

impl Batch {
    pub(crate) fn spans(&self, offset: i64) -> bool {
        (self.first_offset..self.next_offset).contains(&offset)
    }

    pub(crate) fn holds(&self, position: i64) -> bool {
        (self.first_position..self.end_position()).contains(&position)
    }

    /// One past the position of its last event.
    pub(crate) fn end_position(&self) -> i64 {
        self.first_position.saturating_add(self.events)
    }

    /// Returns an error if an event with these coordinates can't be at that position. Between its offset and each end of
    /// the span there must be an offset for each event on that side of it. Rows without a checksum can hold anything.
    fn check_place(&self, partition: i32, position: i64, at: Coordinates) -> rusqlite::Result<()> {
        let Self { first_offset, next_offset, first_position, .. } = *self;
        let lowest = first_offset.saturating_add(position.saturating_sub(first_position));
        let highest = next_offset.saturating_sub(self.end_position().saturating_sub(position));
        if at.partition == partition && (lowest..=highest).contains(&at.offset) {
            return Ok(());
        }
        let found = format!(
            "it is of partition {} offset {}, wanted partition {partition} and an offset from {lowest} to {highest}",
            at.partition, at.offset
        );
        Err(DamagedRow::event(position, found).into())
    }

    /// Checks the values too, so that arithmetic with them can't overflow.
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        check_row(row, &BATCHES)?;
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
        Err(DamagedRow::new(&BATCHES, row, found).into())
    }

    /// The batch whose span contains the offset.
    pub(crate) fn around(
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

    /// The batches whose spans overlap the range, in order.
    fn within(connection: &Connection, partition: i32, offsets: &Range<i64>) -> rusqlite::Result<Vec<Self>> {
        let around = Self::around(connection, partition, offsets.start)?;
        let mut statement = connection.prepare_cached(&format!(
            "{} WHERE partition = ?1 AND first_offset > ?2 AND first_offset < ?3 ORDER BY first_offset",
            BATCHES.select
        ))?;
        let further = statement.query_map(params![partition, offsets.start, offsets.end], Self::read)?;
        around.map(Ok).into_iter().chain(further).collect()
    }

    /// The position of the first event at or above `offset`; one past the last event if there is none.
    ///
    /// From one position to the next the offset rises by at least 1. So counting from the start of the span gives an
    /// upper bound of the position, and counting from its end a lower bound.
    pub(crate) fn position_at_or_after(&self, connection: &Connection, offset: i64) -> rusqlite::Result<i64> {
        let from_end = self.next_offset.saturating_sub(offset).clamp(0, self.events);
        let from_start = offset.saturating_sub(self.first_offset).clamp(0, self.events);
        let (mut low, mut high) = (self.end_position() - from_end, self.first_position + from_start);
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
    let offset = event_row(connection, position, |row| row.get(2))?;
    offset.ok_or_else(|| DamagedRow::event(position, MISSING).into())
}

/// What [`DamagedRow`] reports if a row does not exist.
pub(crate) const MISSING: &str = "the row is missing";

/// The row of table `events` at that position.
pub(crate) fn event_row<T>(
    connection: &Connection,
    position: i64,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut statement = connection.prepare_cached(&format!("{} WHERE position = ?1", EVENTS.select))?;
    let found = statement.query_row([position], |row| {
        check_row(row, &EVENTS)?;
        read(row)
    });
    found.optional()
}

/// The row of table `events` with that partition and offset.
pub(crate) fn event_at<T>(
    connection: &Connection,
    partition: i32,
    offset: i64,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let Some(batch) = Batch::around(connection, partition, offset)? else { return Ok(None) };
    let position = batch.position_at_or_after(connection, offset)?;
    if !batch.holds(position) {
        return Ok(None);
    }
    let found = event_row(connection, position, |row| {
        let at = coordinates(row, 1)?;
        batch.check_place(partition, position, at)?;
        if at.offset < offset {
            let found = format!("its offset is {}, wanted at least {offset}", at.offset);
            return Err(DamagedRow::event(position, found).into());
        }
        // A higher offset belongs to the next event: the batch has none at `offset`.
        (at.offset == offset).then(|| read(row)).transpose()
    })?;
    found.ok_or_else(|| DamagedRow::event(position, MISSING).into())
}

pub(crate) fn last_position(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| row.get(0))
}

/// Events, duplicates and rejections in a range of offsets, in order of offset.
pub(crate) fn recorded(
    connection: &Connection,
    topic_bits: u16,
    partition: i32,
    offsets: &Range<i64>,
) -> rusqlite::Result<Vec<Recorded>> {
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    let mut recorded = events(connection, topic_bits, partition, offsets)?;
    let refused = refused(connection, topic_bits, partition, offsets)?;
    if !refused.is_empty() {
        recorded.extend(refused);
        // Three ascending runs, which a stable sort detects and merges.
        recorded.sort_by_key(|recorded| recorded.coordinates.offset);
    }
    Ok(recorded)
}

/// Duplicates in a range of offsets, then rejections.
pub(crate) fn refused(
    connection: &Connection,
    topic_bits: u16,
    partition: i32,
    offsets: &Range<i64>,
) -> rusqlite::Result<Vec<Recorded>> {
    let mut recorded = Vec::new();
    let mut read = |table: &Table, read: &dyn Fn(&Row<'_>) -> rusqlite::Result<Recorded>| {
        let select = format!("{} WHERE partition = ?1 AND offset >= ?2 AND offset < ?3", table.select);
        let mut statement = connection.prepare_cached(&select)?;
        let rows = statement.query_map(params![partition, offsets.start, offsets.end], read)?;
        rows.into_iter().try_for_each(|row| row.map(|row| recorded.push(row)))
    };
    read(&DUPLICATES, &|row| duplicate(row, topic_bits, partition))?;
    read(&REJECTIONS, &rejection)?;
    Ok(recorded)
}

fn events(
    connection: &Connection,
    topic_bits: u16,
    partition: i32,
    offsets: &Range<i64>,
) -> rusqlite::Result<Vec<Recorded>> {
    let mut recorded = Vec::new();
    let mut statement = connection.prepare_cached(&format!(
        "{} WHERE position >= ?1 AND position < ?2 ORDER BY position",
        EVENTS.select
    ))?;
    let mut lowest = offsets.start;
    for batch in Batch::within(connection, partition, offsets)? {
        let first = batch.position_at_or_after(connection, offsets.start)?;
        let end = batch.end_position();
        let mut rows = statement.query([first, end])?;
        for position in first..end {
            let event = rows.next()?.map(|row| event(row, topic_bits)).transpose()?;
            let event = event.filter(|event| event.position == Some(position));
            let event = event.ok_or_else(|| DamagedRow::event(position, MISSING))?;
            let at = event.coordinates;
            batch.check_place(partition, position, at)?;
            if at.offset < lowest {
                let found = format!("its offset is {}, wanted at least {lowest}", at.offset);
                return Err(DamagedRow::event(position, found).into());
            }
            if at.offset >= offsets.end {
                break;
            }
            lowest = at.offset.saturating_add(1);
            recorded.push(event);
        }
    }
    Ok(recorded)
}

fn event(row: &Row<'_>, topic_bits: u16) -> rusqlite::Result<Recorded> {
    check_row(row, &EVENTS)?;
    let (position, at) = (row.get(0)?, coordinates(row, 1)?);
    let event = Event::from_log(topic_bits, at, row.get(7)?)
        .map_err(|error| DamagedRow::event(position, format!("its JSON is {error}")))?;
    Ok(Recorded {
        coordinates: at,
        checksum: row.get(4)?,
        decision: Decision::Accepted(event),
        position: Some(position),
    })
}

fn duplicate(row: &Row<'_>, topic_bits: u16, partition: i32) -> rusqlite::Result<Recorded> {
    check_row(row, &DUPLICATES)?;
    let first = Coordinates { partition, offset: row.get(4)?, timestamp: row.get(5)? };
    Ok(Recorded {
        coordinates: coordinates(row, 0)?,
        checksum: row.get(3)?,
        decision: Decision::Duplicate { of: ActivityId::new(topic_bits, first) },
        position: None,
    })
}

fn rejection(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    check_row(row, &REJECTIONS)?;
    let problems: Problems = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|error| {
        DamagedRow::new(&REJECTIONS, row, format!("its problems are unreadable: {error}"))
    })?;
    Ok(Recorded {
        coordinates: coordinates(row, 0)?,
        checksum: row.get(3)?,
        decision: Decision::Rejected(problems),
        position: None,
    })
}
