//! The rows of commands and keys, each against the other tables.

use std::ops::ControlFlow;

use contract::{Coordinates, Event, Problems};
use rusqlite::{ErrorCode, OptionalExtension, Row, params};

use super::{Check, CheckError, LogFinding};
use crate::checksum::DamagedRow;
use crate::checksum::{BATCHES, CLAIMS, DUPLICATES, REJECTIONS, Table, key_of};
use crate::cursor::{Anchor, Counts};
use crate::lookup::Batch;
use crate::reader::{ListQuery, Listed};

impl Check<'_> {
    pub(super) fn events(&mut self, last: i64) -> Result<(), CheckError> {
        let (log, mut left, mut batch, mut batches) = (self.log, u64::MAX, None, 0);
        let _ = log.scan(&ListQuery::default(), 1..=last, &mut left, &mut |listed| {
            self.advance();
            match listed {
                Ok(listed) => self.event(&listed, &mut batch, &mut batches)?,
                Err(damaged) => self.tell_damaged(damaged)?,
            }
            Ok::<_, CheckError>(ControlFlow::Continue(()))
        })?;
        let mut found = 0;
        self.walk(&BATCHES, |_, row| {
            found += i64::from(Batch::read(row)?.first_position <= last);
            Ok(Ok(()))
        })?;
        if !self.has_damage && found != batches {
            let found = format!("{found} rows, while {batches} lead to events");
            self.tell(LogFinding { table: Some(BATCHES.name), row: None, found })?;
        }
        Ok(())
    }

    /// `around` is the batch of the event before, with its partition.
    fn event(
        &mut self,
        listed: &Listed,
        around: &mut Option<(i32, Batch)>,
        batches: &mut i64,
    ) -> Result<(), CheckError> {
        let (position, at) = (listed.position, listed.coordinates);
        let tell = |check: &mut Self, found: String| check.tell(DamagedRow::event(position, found).into());
        match Event::from_log(self.log.topic_bits, at, listed.json.clone()) {
            Ok(event)
                if event.object_type() != listed.object_type || event.object_id() != listed.object_id =>
            {
                tell(self, "its object is not the one in its JSON".to_owned())?;
            }
            Ok(_) => {}
            Err(error) => tell(self, format!("its JSON is {error}"))?,
        }
        let partition = self.partitions.entry(at.partition).or_default();
        let ascends = partition.last_event.is_none_or(|last| last < at.offset);
        partition.last_event = Some(at.offset);
        let Counts { events, earliest, latest, .. } = &mut partition.counted;
        *events += 1;
        *earliest = Some(earliest.map_or(at.timestamp, |earliest| earliest.min(at.timestamp)));
        *latest = Some(latest.map_or(at.timestamp, |latest| latest.max(at.timestamp)));
        if !ascends {
            tell(
                self,
                format!("offset {} of partition {} comes after a higher one", at.offset, at.partition),
            )?;
        }
        if let Some(found) = self.record(at, listed.checksum) {
            tell(self, found)?;
        }
        if around.is_none_or(|(_, batch)| !batch.holds(position)) {
            *around = match Batch::around(&self.log.connection, at.partition, at.offset) {
                Ok(batch) => batch.map(|batch| (at.partition, batch)),
                // Named where the table is read.
                Err(rusqlite::Error::FromSqlConversionFailure(..)) => return Ok(()),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => return Ok(()),
                Err(error) => return Err(self.sqlite(error).into()),
            };
            *batches += i64::from(around.is_some());
        }
        let leads_here = around.is_some_and(|(partition, batch)| {
            partition == at.partition
                && batch.spans(at.offset)
                && batch.holds(position)
                && (batch.first_offset == at.offset) == (batch.first_position == position)
                && (batch.next_offset - 1 == at.offset) == (batch.end() - 1 == position)
        });
        if !leads_here {
            let Coordinates { partition, offset, .. } = at;
            tell(
                self,
                format!("no row of table batches leads to it from partition {partition} offset {offset}"),
            )?;
        }
        Ok(())
    }

    pub(super) fn duplicates(&mut self) -> Result<(), CheckError> {
        self.walk(&DUPLICATES, |check, row| {
            let at = Coordinates { partition: row.get(0)?, offset: row.get(1)?, timestamp: row.get(2)? };
            let (checksum, of_offset, of_timestamp) = (row.get(3)?, row.get(4)?, row.get(5)?);
            let mut found = check.refused(at, checksum, |counts| &mut counts.duplicates);
            if of_offset >= at.offset || !check.is_event(at.partition, of_offset, Some(of_timestamp)) {
                found.push(format!("offset {of_offset}, of which it is a duplicate, holds no such event"));
            }
            Ok(check.tell_all(&DUPLICATES, row, found))
        })
    }

    pub(super) fn rejections(&mut self) -> Result<(), CheckError> {
        self.walk(&REJECTIONS, |check, row| {
            let at = Coordinates { partition: row.get(0)?, offset: row.get(1)?, timestamp: row.get(2)? };
            let mut found = check.refused(at, row.get(3)?, |counts| &mut counts.rejections);
            if let Err(error) = serde_json::from_str::<Problems>(row.get_ref(4)?.as_str()?) {
                found.push(format!("its problems are unreadable: {error}"));
            }
            if check.is_duplicate(at.partition, at.offset)? {
                found.push("table duplicates has the same command".to_owned());
            }
            Ok(check.tell_all(&REJECTIONS, row, found))
        })
    }

    pub(super) fn claims(&mut self) -> Result<(), CheckError> {
        self.walk(&CLAIMS, |check, row| {
            let (partition, offset): (i32, i64) = (row.get(0)?, row.get(1)?);
            let (_, _): ([u8; 16], [u8; 16]) = (row.get(2)?, row.get(3)?);
            let (first_offset, first_timestamp): (i64, i64) = (row.get(4)?, row.get(5)?);
            let mut found = Vec::new();
            if !check.is_event(partition, first_offset, Some(first_timestamp)) {
                found.push(format!("offset {first_offset}, which it names, holds no such event"));
            }
            if offset != first_offset && !check.is_duplicate(partition, offset)? {
                found.push("table duplicates lacks its command".to_owned());
            }
            Ok(check.tell_all(&CLAIMS, row, found))
        })
    }

    /// Takes note of a record's row. Says what is wrong with its place.
    fn record(&mut self, at: Coordinates, checksum: u32) -> Option<String> {
        let partition = self.partitions.entry(at.partition).or_default();
        if partition.last.is_none_or(|last| last.offset < at.offset) {
            partition.last = Some(Anchor { offset: at.offset, timestamp: at.timestamp, checksum });
        }
        partition.clock = at.advance(partition.clock);
        let gap = partition.gaps.iter().find(|gap| gap.contains(&at.offset))?;
        Some(format!("offset {} is in the gap from {} to {}", at.offset, gap.start, gap.end - 1))
    }

    /// Takes note of a row that became no event, unless it was appended after the start.
    fn refused(
        &mut self,
        at: Coordinates,
        checksum: u32,
        count: impl Fn(&mut Counts) -> &mut u64,
    ) -> Vec<String> {
        let cursor = self.partitions.entry(at.partition).or_default().cursor;
        if at.offset >= cursor.map_or(0, |row| row.cursor.logged) {
            let now = self.log.logged(at.partition);
            let is_beyond = now.is_ok_and(|logged| logged.is_none_or(|logged| at.offset >= logged));
            return is_beyond
                .then(|| "its offset is beyond the partition's cursor".to_owned())
                .into_iter()
                .collect();
        }
        *count(&mut self.partitions.entry(at.partition).or_default().counted) += 1;
        let mut found: Vec<_> = self.record(at, checksum).into_iter().collect();
        if matches!(self.log.event_at(at.partition, at.offset), Ok(Some(_))) {
            found.push("table events has the same command".to_owned());
        }
        found
    }

    /// Whether there is an event, or one that is damaged, which is named where the events are read.
    fn is_event(&self, partition: i32, offset: i64, timestamp: Option<i64>) -> bool {
        match self.log.event_at(partition, offset) {
            Ok(Some(listed)) => timestamp.is_none_or(|timestamp| timestamp == listed.coordinates.timestamp),
            Ok(None) => self.has_damage,
            Err(_) => true,
        }
    }

    fn is_duplicate(&self, partition: i32, offset: i64) -> rusqlite::Result<bool> {
        let mut statement = self
            .log
            .connection
            .prepare_cached("SELECT 1 FROM duplicates WHERE partition = ?1 AND offset = ?2")?;
        Ok(statement.query_row(params![partition, offset], |_| Ok(())).optional()?.is_some())
    }

    fn tell_all(&mut self, table: &Table, row: &Row<'_>, found: Vec<String>) -> Result<(), CheckError> {
        found.into_iter().try_for_each(|found| self.tell_row(table, key_of(table, row), found))
    }
}
