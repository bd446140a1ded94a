//! Compares the rows of commands and keys with the other tables.

use contract::{Coordinates, Event, Problems};
use rusqlite::{ErrorCode, OptionalExtension, params};

use crate::check::{Check, CheckError, LogFinding};
use crate::checksum::{
    self, BATCHES, CLAIM_GROUPS, CLAIMS_OF_VERSION_2, DUPLICATES, DamagedRow, REJECTIONS, Table, coordinates,
};
use crate::claim_group::{self, NOT_AFTER, StoredClaim, claims_in};
use crate::cursor::{Anchor, Counts};
use crate::error::LogError;
use crate::lookup::Batch;
use crate::reader::{ListQuery, Listed};
use crate::schema;

impl Check<'_> {
    pub(super) fn events(&mut self, last: i64) -> Result<(), CheckError> {
        let (log, query, mut batch, mut wanted) = (self.log, ListQuery::default(), None, 0);
        for found in log.scan(&query, 1..=last) {
            self.advance();
            match found? {
                Ok(listed) => {
                    for found in self.event(&listed, &mut batch, &mut wanted)? {
                        self.report(DamagedRow::event(listed.position, found))?;
                    }
                }
                Err(damaged) => self.report_damaged(damaged)?,
            }
        }
        let mut batches = 0;
        self.walk(&BATCHES, |_, row| {
            batches += i64::from(Batch::read(row)?.first_position <= last);
            Ok(Vec::new())
        })?;
        if !self.has_damage && batches != wanted {
            let found = format!("{batches} rows, while {wanted} lead to events");
            self.report(LogFinding::of_table(&BATCHES, found))?;
        }
        Ok(())
    }

    /// `around` is the batch of the event before, with its partition; `batches` counts them.
    fn event(
        &mut self,
        listed: &Listed,
        around: &mut Option<(i32, Batch)>,
        batches: &mut i64,
    ) -> Result<Vec<String>, CheckError> {
        let (position, at) = (listed.position, listed.coordinates);
        let mut found = Vec::new();
        match Event::from_log(self.log.topic_bits, at, listed.json.clone()) {
            Ok(event)
                if event.object_type() != listed.object_type || event.object_id() != listed.object_id =>
            {
                found.push("its object is not the one in its JSON".to_owned());
            }
            Ok(_) => {}
            Err(error) => found.push(format!("its JSON is {error}")),
        }
        let partition = self.partitions.entry(at.partition).or_default();
        partition.counted.add_event(at.timestamp);
        if partition.last_event.replace(at.offset).is_some_and(|last| last >= at.offset) {
            let Coordinates { partition, offset, .. } = at;
            found.push(format!("offset {offset} of partition {partition} comes after a higher one"));
        }
        found.extend(self.record(at, listed.checksum));
        if around.is_none_or(|(_, batch)| !batch.holds(position)) {
            *around = match Batch::around(&self.log.connection, at.partition, at.offset) {
                Ok(batch) => batch.map(|batch| (at.partition, batch)),
                // The walk over the table reports it.
                Err(rusqlite::Error::FromSqlConversionFailure(..)) => return Ok(found),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                    return Ok(found);
                }
                Err(error) => return Err(self.sqlite(error).into()),
            };
            *batches += i64::from(around.is_some());
        }
        let leads_here = around.is_some_and(|(partition, batch)| {
            partition == at.partition
                && batch.spans(at.offset)
                && batch.holds(position)
                && (batch.first_offset == at.offset) == (batch.first_position == position)
                && (batch.next_offset - 1 == at.offset) == (batch.end_position() - 1 == position)
        });
        if !leads_here {
            let Coordinates { partition, offset, .. } = at;
            found.push(format!(
                "no row of table batches leads to it from partition {partition} offset {offset}"
            ));
        }
        Ok(found)
    }

    pub(super) fn duplicates(&mut self) -> Result<(), CheckError> {
        self.walk(&DUPLICATES, |check, row| {
            let (at, of_offset) = (coordinates(row, 0)?, row.get(4)?);
            let mut found = check.refused(at, row.get(3)?, |counts| &mut counts.duplicates);
            if of_offset >= at.offset || !check.is_event(at.partition, of_offset, row.get(5)?) {
                found.push(format!("offset {of_offset}, of which it is a duplicate, holds no such event"));
            }
            Ok(found)
        })
    }

    pub(super) fn rejections(&mut self) -> Result<(), CheckError> {
        self.walk(&REJECTIONS, |check, row| {
            let at = coordinates(row, 0)?;
            let mut found = check.refused(at, row.get(3)?, |counts| &mut counts.rejections);
            if let Err(error) = serde_json::from_str::<Problems>(row.get_ref(4)?.as_str()?) {
                found.push(format!("its problems are unreadable: {error}"));
            }
            if check.is_duplicate(at.partition, at.offset)? {
                found.push("table duplicates has the same command".to_owned());
            }
            Ok(found)
        })
    }

    pub(super) fn claims(&mut self) -> Result<(), CheckError> {
        loop {
            let in_groups = self.has_claim_groups()?;
            let checked = self.claims_of(in_groups);
            if checked.is_ok() || self.has_claim_groups()? == in_groups {
                return checked;
            }
        }
    }

    fn claims_of(&mut self, in_groups: bool) -> Result<(), CheckError> {
        let mut before: Option<(i32, StoredClaim)> = None;
        let mut check_claim = |check: &Self, partition, claim: StoredClaim| {
            let mut found = check.claim(partition, &claim)?;
            if before
                .replace((partition, claim))
                .is_some_and(|(of, before)| of == partition && !before.precedes(&claim))
            {
                found.push(NOT_AFTER.to_owned());
            }
            Ok(found)
        };
        if !in_groups {
            return self.walk(&CLAIMS_OF_VERSION_2, |check, row| {
                check_claim(check, row.get(0)?, StoredClaim::of_version_2(row)?)
            });
        }
        self.walk(&CLAIM_GROUPS, |check, row| {
            let (partition, claims) = claims_in(row)?;
            let mut found = Vec::new();
            for claim in claims {
                let of_claim = check_claim(check, partition, claim)?.into_iter();
                found.extend(of_claim.map(|found| format!("the claim of offset {}: {found}", claim.offset)));
            }
            Ok(found)
        })
    }

    /// As it is now: a processor may upgrade the log during the check.
    pub(super) fn has_claim_groups(&self) -> Result<bool, LogError> {
        let version = schema::user_version(&self.log.connection).map_err(|error| self.sqlite(error))?;
        Ok(checksum::has_claim_groups(version))
    }

    /// The table of the claims, and how many rows it has for a partition.
    pub(super) fn count_claims(&self, partition: i32) -> Result<(&'static Table, i64), LogError> {
        let connection = &self.log.connection;
        let (table, counted) = if self.has_claim_groups()? {
            let ids = claim_group::ids(partition);
            let count = "SELECT count(*) FROM claim_groups WHERE id >= ?1 AND id < ?2";
            (&CLAIM_GROUPS, connection.query_row(count, [ids.start, ids.end], |row| row.get(0)))
        } else {
            let count = "SELECT count(*) FROM claims WHERE partition = ?1";
            (&CLAIMS_OF_VERSION_2, connection.query_row(count, [partition], |row| row.get(0)))
        };
        Ok((table, counted.map_err(|error| self.sqlite(error))?))
    }

    fn claim(&self, partition: i32, claim: &StoredClaim) -> rusqlite::Result<Vec<String>> {
        let (offset, (first_offset, first_timestamp)) = (claim.offset, claim.first);
        let mut found = Vec::new();
        if !self.is_event(partition, first_offset, first_timestamp) {
            found.push(format!("offset {first_offset}, which it names, holds no such event"));
        }
        if offset != first_offset && !self.is_duplicate(partition, offset)? {
            found.push("table duplicates lacks its command".to_owned());
        }
        Ok(found)
    }

    /// Adds a record to what the partition's cursor is compared with. Returns a finding if it is in a gap.
    fn record(&mut self, at: Coordinates, checksum: u32) -> Option<String> {
        let partition = self.partitions.entry(at.partition).or_default();
        if partition.last.is_none_or(|last| last.offset < at.offset) {
            partition.last = Some(Anchor { offset: at.offset, timestamp: at.timestamp, checksum });
        }
        partition.clock = at.advance(partition.clock);
        let gap = partition.gaps.iter().find(|gap| gap.contains(&at.offset))?;
        Some(format!("offset {} is in the gap from {} to {}", at.offset, gap.start, gap.end - 1))
    }

    /// Like [`record`](Self::record), for a duplicate or a rejection. Ignores rows that were appended after the start.
    fn refused(
        &mut self,
        at: Coordinates,
        checksum: u32,
        count: impl Fn(&mut Counts) -> &mut u64,
    ) -> Vec<String> {
        let partition = self.partitions.entry(at.partition).or_default();
        if at.offset >= partition.cursor.map_or(0, |row| row.cursor.logged) {
            let now = self.log.logged(at.partition);
            let is_beyond = now.is_ok_and(|logged| logged.is_none_or(|logged| at.offset >= logged));
            let found = || "its offset is beyond the partition's cursor".to_owned();
            return is_beyond.then(found).into_iter().collect();
        }
        *count(&mut partition.counted) += 1;
        let mut found: Vec<_> = self.record(at, checksum).into_iter().collect();
        if matches!(self.log.event_at(at.partition, at.offset), Ok(Some(_))) {
            found.push("table events has the same command".to_owned());
        }
        found
    }

    /// Also true for a damaged event, which is reported with the events.
    fn is_event(&self, partition: i32, offset: i64, timestamp: i64) -> bool {
        match self.log.event_at(partition, offset) {
            Ok(Some(listed)) => listed.coordinates.timestamp == timestamp,
            Ok(None) => self.has_damage,
            Err(_) => true,
        }
    }

    fn is_duplicate(&self, partition: i32, offset: i64) -> rusqlite::Result<bool> {
        let select = "SELECT 1 FROM duplicates WHERE partition = ?1 AND offset = ?2";
        let mut statement = self.log.connection.prepare_cached(select)?;
        Ok(statement.query_row(params![partition, offset], |_| Ok(())).optional()?.is_some())
    }
}
