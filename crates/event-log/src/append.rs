//! Appending: one SQLite transaction that settles, writes and moves the cursors.

use std::collections::BTreeMap;
use std::path::Path;

use contract::{
    ActivityId, Claim, Coordinates, Decision, Event, IdempotencyKey, Problems, Reading, Verdict, settle,
};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, TransactionBehavior};

use super::checksum::{self, BATCHES, DUPLICATES, EVENTS, REJECTIONS};
use super::claims::{ClaimStatements, Claims};
use super::cursor::CursorRow;
use super::{EventLog, LogError, Wanted};

/// Records of one partition that lie behind one another, each with what it says by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    pub partition: i32,
    /// The consumer's position after the last record, over control records.
    pub next_offset: i64,
    /// In order of offset; empty where only the position moved.
    pub verdicts: Vec<Verdict>,
}

/// What a command became.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub coordinates: Coordinates,
    /// Place in the log, from 1; of an event only.
    pub position: Option<i64>,
    pub decision: Decision,
}

impl EventLog {
    /// Settles each reading, appends what it became, and moves the cursors, in one transaction: when this
    /// returns `Ok` all of it is durable (as far as [`Synchronous`](super::Synchronous) says), and when it
    /// returns an error none of it is there and the call can be repeated.
    ///
    /// `published` notes committed offsets of the group; a note never moves `published_seen` down. The
    /// answer has one list a chunk, in the order given.
    pub fn append(
        &mut self,
        chunks: Vec<Chunk>,
        published: &[(i32, i64)],
    ) -> Result<Vec<Vec<Settled>>, LogError> {
        let mut rows = BTreeMap::new();
        for chunk in &chunks {
            let partition = chunk.partition;
            let row = rows.entry(partition).or_insert_with(|| self.row(partition));
            // Moved for the check of further chunks of the partition; below, from where it is.
            row.cursor.logged = in_order(chunk, row.cursor.logged)?;
        }
        for (partition, row) in &mut rows {
            *row = self.row(*partition);
        }
        for &(partition, offset) in published {
            rows.entry(partition).or_insert_with(|| self.row(partition)).note_published(offset);
        }

        // Taken out, and put back after the commit only: whatever fails before, what is in memory never runs
        // ahead of the log.
        let mut claims: BTreeMap<i32, Claims> =
            rows.keys().filter_map(|partition| self.claims.remove_entry(partition)).collect();
        let (path, topic_bits, window_ms) = (self.path(), self.topic_bits, self.window_ms);
        let sqlite = |error| LogError::sqlite(&path, None, error);

        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let appended = (|| {
            let mut writer = Writer {
                path: &path,
                topic_bits,
                window_ms,
                next_position: self.next_position,
                statements: Statements::prepare(&transaction).map_err(sqlite)?,
                claim_statements: None,
                connection: &transaction,
            };
            let mut settled = Vec::with_capacity(chunks.len());
            for chunk in chunks {
                let row = rows.get_mut(&chunk.partition).expect("made above for every chunk");
                settled.push(writer.append(chunk, row, &mut claims)?);
            }
            for row in rows.values() {
                row.store(&transaction).map_err(sqlite)?;
            }
            Ok((settled, writer.next_position))
        })();
        let committed = appended.and_then(|appended| {
            transaction.commit().map_err(sqlite)?;
            Ok(appended)
        });
        let (settled, next_position) = committed.map_err(|error| self.name_full_disk(error))?;
        self.next_position = next_position;
        self.claims.extend(claims);
        self.rows.extend(rows);
        // Only now: what was committed to a file that is gone must not be published.
        self.files.check()?;
        Ok(settled)
    }
}

/// Refuses a chunk that would break the log's order. Returns what `logged` becomes.
///
/// `logged <= first offset < ... < last offset < next_offset`
fn in_order(chunk: &Chunk, logged: i64) -> Result<i64, LogError> {
    let partition = chunk.partition;
    let wrong = |what, found, wanted| Err(LogError::OutOfOrder { partition, what, found, wanted });
    let mut lowest = logged;
    for (place, verdict) in chunk.verdicts.iter().enumerate() {
        let at = verdict.coordinates;
        if at.partition != partition {
            return wrong("a record's partition", at.partition.into(), Wanted::Exactly(partition.into()));
        }
        if at.offset < lowest {
            return match place {
                0 => wrong("the first offset", at.offset, Wanted::AtLeast(logged)),
                _ => wrong("an offset behind another", at.offset, Wanted::MoreThan(lowest - 1)),
            };
        }
        if let Reading::Valid { event, .. } = &verdict.reading
            && event.coordinates() != at
        {
            return wrong("an event's own offset", event.coordinates().offset, Wanted::Exactly(at.offset));
        }
        lowest = at.offset + 1;
    }
    if chunk.next_offset < lowest {
        return wrong("the next offset", chunk.next_offset, Wanted::AtLeast(lowest));
    }
    Ok(chunk.next_offset)
}

/// One append under way.
struct Writer<'a> {
    path: &'a Path,
    topic_bits: u16,
    window_ms: i64,
    next_position: i64,
    connection: &'a Connection,
    statements: Statements<'a>,
    claim_statements: Option<ClaimStatements<'a>>,
}

impl Writer<'_> {
    fn append(
        &mut self,
        chunk: Chunk,
        row: &mut CursorRow,
        claims: &mut BTreeMap<i32, Claims>,
    ) -> Result<Vec<Settled>, LogError> {
        let path = self.path;
        let sqlite = |error| LogError::sqlite(path, None, error);
        let first_position = self.next_position;
        let mut span: Option<(i64, i64)> = None;
        let mut settled = Vec::with_capacity(chunk.verdicts.len());
        for Verdict { coordinates: at, checksum, reading } in chunk.verdicts {
            row.see(at, checksum);
            let decision = match reading {
                Reading::Valid { event, key: None } => {
                    settle(event, None, None, row.cursor.clock, self.window_ms)
                }
                Reading::Valid { event, key: Some(key) } => {
                    self.settle_keyed(event, &key, row, claims, checksum)?
                }
                Reading::Rejected(problems) => Decision::Rejected(problems),
            };
            let position = match &decision {
                Decision::Accepted(event) => {
                    let position = self.next_position;
                    self.statements.event(position, event, checksum).map_err(sqlite)?;
                    self.next_position += 1;
                    row.count_event(at.timestamp);
                    span = Some((span.map_or(at.offset, |(first, _)| first), at.offset + 1));
                    Some(position)
                }
                Decision::Duplicate { .. } => {
                    row.counts.duplicates += 1;
                    None
                }
                Decision::Rejected(problems) => {
                    self.statements.rejection(at, checksum, problems).map_err(sqlite)?;
                    row.counts.rejections += 1;
                    None
                }
            };
            settled.push(Settled { coordinates: at, position, decision });
        }
        if let Some((first_offset, next_offset)) = span {
            let events = self.next_position - first_position;
            let values = [chunk.partition.into(), first_offset, next_offset, first_position, events]
                .map(ValueRef::Integer);
            checksum::insert(&mut self.statements.batch, &BATCHES, &values).map_err(sqlite)?;
        }
        if let Some(claims) = claims.get_mut(&chunk.partition) {
            claims.expire(row.cursor.clock, chunk.next_offset);
            claims.trim(self.connection).map_err(sqlite)?;
            row.claims = claims.rows;
        }
        row.cursor.logged = chunk.next_offset;
        row.cursor.clean = false;
        Ok(settled)
    }

    /// Settles by the window, moves the window, and writes the row of a duplicate, whose first is known here.
    fn settle_keyed(
        &mut self,
        event: Event,
        key: &IdempotencyKey,
        row: &CursorRow,
        claims: &mut BTreeMap<i32, Claims>,
        checksum: u32,
    ) -> Result<Decision, LogError> {
        let path = self.path;
        let sqlite = |error| LogError::sqlite(path, None, error);
        let (at, clock) = (event.coordinates(), row.cursor.clock);
        let claims = match claims.entry(at.partition) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let of = (at.partition, row.claims);
                entry.insert(Claims::load(self.connection, path, of, clock, self.window_ms)?)
            }
        };
        if self.claim_statements.is_none() {
            self.claim_statements = Some(ClaimStatements::prepare(self.connection).map_err(sqlite)?);
        }
        let statements = self.claim_statements.as_mut().expect("prepared above");
        claims.expire(clock, at.offset);
        let found = claims.find(statements, path, &key.hash)?;
        let claim = found.map(|found| Claim {
            first: ActivityId::new(
                self.topic_bits,
                Coordinates { offset: found.first_offset, timestamp: found.first_timestamp, ..at },
            ),
            fingerprint: found.fingerprint,
            last_seen: found.last_seen,
        });
        let decision = settle(event, Some(*key), claim.as_ref(), clock, self.window_ms);
        match (&decision, found) {
            (Decision::Accepted(_), _) => {
                let first = (at.offset, at.timestamp);
                claims.write(statements, at, key, first, clock, found.as_ref()).map_err(sqlite)?;
            }
            (Decision::Duplicate { .. }, Some(found)) => {
                let first = (found.first_offset, found.first_timestamp);
                claims.write(statements, at, key, first, clock, Some(&found)).map_err(sqlite)?;
                self.statements.duplicate(at, checksum, first).map_err(sqlite)?;
            }
            (Decision::Duplicate { .. }, None) => unreachable!("a duplicate of a claim that was not given"),
            // A rejected command claims nothing and refreshes nothing.
            (Decision::Rejected(_), _) => {}
        }
        Ok(decision)
    }
}

/// Prepared once an append, from the connection's cache.
struct Statements<'a> {
    event: CachedStatement<'a>,
    duplicate: CachedStatement<'a>,
    rejection: CachedStatement<'a>,
    batch: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            event: connection.prepare_cached(EVENTS.insert)?,
            duplicate: connection.prepare_cached(DUPLICATES.insert)?,
            rejection: connection.prepare_cached(REJECTIONS.insert)?,
            batch: connection.prepare_cached(BATCHES.insert)?,
        })
    }

    fn event(&mut self, position: i64, event: &Event, record_checksum: u32) -> rusqlite::Result<()> {
        let [partition, offset, timestamp, checksum] = of_record(event.coordinates(), record_checksum);
        let [object_type, object_id, json] = [event.object_type(), event.object_id(), event.json()]
            .map(|text| ValueRef::Text(text.as_bytes()));
        let position = ValueRef::Integer(position);
        let values = [position, partition, offset, timestamp, checksum, object_type, object_id, json];
        checksum::insert(&mut self.event, &EVENTS, &values)
    }

    fn duplicate(
        &mut self,
        at: Coordinates,
        record_checksum: u32,
        first: (i64, i64),
    ) -> rusqlite::Result<()> {
        let [partition, offset, timestamp, checksum] = of_record(at, record_checksum);
        let [of_offset, of_timestamp] = [first.0, first.1].map(ValueRef::Integer);
        let values = [partition, offset, timestamp, checksum, of_offset, of_timestamp];
        checksum::insert(&mut self.duplicate, &DUPLICATES, &values)
    }

    fn rejection(
        &mut self,
        at: Coordinates,
        record_checksum: u32,
        problems: &Problems,
    ) -> rusqlite::Result<()> {
        let problems = serde_json::to_string(problems)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let [partition, offset, timestamp, checksum] = of_record(at, record_checksum);
        let values = [partition, offset, timestamp, checksum, ValueRef::Text(problems.as_bytes())];
        checksum::insert(&mut self.rejection, &REJECTIONS, &values)
    }
}

fn of_record(at: Coordinates, checksum: u32) -> [ValueRef<'static>; 4] {
    [at.partition.into(), at.offset, at.timestamp, checksum.into()].map(ValueRef::Integer)
}
