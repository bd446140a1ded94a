//! Appending: one SQLite transaction that decides duplicates, inserts rows and moves the cursors.

use std::collections::{BTreeMap, btree_map};
use std::mem;

use contract::{
    ActivityId, Claim, Coordinates, Decision, Event, Fate, IdempotencyKey, Problems, Reading, Verdict, settle,
};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection};

use crate::appended::AppendedObjects;
use crate::checksum::{self, BATCHES, DUPLICATES, REJECTIONS};
use crate::claim_group::StoredClaim;
use crate::claims::{ClaimGroups, Claims};
use crate::cursor::CursorRow;
use crate::error::LogError;
use crate::event_rows::EventRows;
use crate::options::Synchronous;
use crate::writer::EventLog;

/// Consecutive commands of one partition.
#[derive(Debug)]
pub struct Stretch<'a> {
    pub partition: i32,
    /// The consumer's position after the last command. It is beyond control records.
    pub next_offset: i64,
    /// In order of offset, all of them read; empty if only the position moved.
    pub fates: &'a mut [Fate],
}

impl EventLog {
    /// Decides each command by the idempotency window, appends the decisions, and moves the cursors, in one transaction.
    /// If it returns `Ok`, all of this is durable (see [`Synchronous`]), and each fate is decided. If it returns an error, nothing was appended, or it was appended to a file that is no longer in place; the fates are lost.
    ///
    /// `published` has committed offsets of the group; they never lower `published_seen`.
    pub fn append_batch(
        &mut self,
        stretches: &mut [Stretch<'_>],
        published: &[(i32, i64)],
    ) -> Result<(), LogError> {
        let mut next_offsets = BTreeMap::new();
        for stretch in &*stretches {
            let logged = || self.row(stretch.partition).cursor.logged;
            let next_offset = next_offsets.entry(stretch.partition).or_insert_with(logged);
            check_order(stretch, *next_offset)?;
            *next_offset = stretch.next_offset;
        }
        let partitions = next_offsets.into_keys().chain(published.iter().map(|&(partition, _)| partition));
        let mut rows: BTreeMap<i32, CursorRow> =
            partitions.map(|partition| (partition, self.row(partition))).collect();
        for &(partition, offset) in published {
            rows.entry(partition).and_modify(|row| row.raise_published_seen(offset));
        }
        // Returned to the log only after the commit: memory must not be ahead of the file.
        let mut claims: BTreeMap<i32, Claims> =
            rows.keys().filter_map(|partition| self.claims.remove_entry(partition)).collect();

        let (topic_bits, window_ms, next_position) = (self.topic_bits, self.window_ms, self.next_position);
        let appended = self.appended.upgrade();
        let objects = appended.as_ref().map(|_| AppendedObjects::new(next_position));
        let (next_position, objects) = self.transact(|connection| {
            let mut append = Append {
                topic_bits,
                window_ms,
                next_position,
                connection,
                statements: Statements::prepare(connection)?,
                claim_groups: None,
                objects,
            };
            for stretch in stretches {
                let row = rows.get_mut(&stretch.partition).expect("it has a row for each stretch");
                append.append(stretch, row, &mut claims)?;
            }
            rows.values().try_for_each(|row| row.store(connection))?;
            Ok((append.next_position, append.objects))
        })?;
        self.next_position = next_position;
        self.claims.extend(claims);
        self.rows.extend(rows);
        // After the commit: an append to a removed file must not be published.
        self.files.check()?;
        if let Some((appended, objects)) = appended.zip(objects) {
            appended.push(objects);
        }
        Ok(())
    }

    /// [`append_batch`](Self::append_batch) of what another instance publishes. It does not wait for the disk: a power loss can
    /// undo it until the next change that does, which makes this one durable too.
    pub fn append_followed(&mut self, stretches: &mut [Stretch<'_>]) -> Result<(), LogError> {
        self.synchronize(Synchronous::Normal)?;
        let appended = self.append_batch(stretches, &[]);
        self.synchronize(self.synchronous)?;
        appended
    }
}

/// Returns an error unless `logged <= first offset < ... < last offset < next_offset`.
fn check_order(stretch: &Stretch<'_>, logged: i64) -> Result<(), LogError> {
    let partition = stretch.partition;
    let wrong = |what, found, wanted| Err(LogError::OutOfOrder { partition, what, found, wanted });
    let mut lowest = logged;
    for (index, fate) in stretch.fates.iter().enumerate() {
        let Fate::Read(verdict) = fate else { panic!("a command that was not read is appended") };
        let at = verdict.coordinates;
        if at.partition != partition {
            return wrong("a record's partition", at.partition.into(), partition.to_string());
        }
        if at.offset < lowest {
            let what = if index == 0 { "the first offset" } else { "an offset after another" };
            return wrong(what, at.offset, format!("at least {lowest}"));
        }
        if let Reading::Valid { event, .. } = &verdict.reading
            && event.coordinates() != at
        {
            return wrong("an event's own offset", event.coordinates().offset, at.offset.to_string());
        }
        lowest = at.offset + 1;
    }
    if stretch.next_offset < lowest {
        return wrong("the next offset", stretch.next_offset, format!("at least {lowest}"));
    }
    Ok(())
}

/// An append in progress.
struct Append<'a> {
    topic_bits: u16,
    window_ms: i64,
    next_position: i64,
    connection: &'a Connection,
    statements: Statements<'a>,
    /// Prepared for the first command with a key.
    claim_groups: Option<ClaimGroups<'a>>,
    /// For the read model.
    objects: Option<AppendedObjects>,
}

impl Append<'_> {
    fn append(
        &mut self,
        stretch: &mut Stretch<'_>,
        row: &mut CursorRow,
        claims: &mut BTreeMap<i32, Claims>,
    ) -> rusqlite::Result<()> {
        let mut checksums = Vec::new();
        for fate in &mut *stretch.fates {
            let Fate::Read(Verdict { coordinates, checksum, reading }) = mem::take(fate) else { continue };
            row.advance(coordinates, checksum);
            let decision = match reading {
                Reading::Valid { event, key: None } => {
                    settle(event, None, None, row.cursor.clock, self.window_ms)
                }
                Reading::Valid { event, key: Some(key) } => {
                    self.settle_keyed(event, &key, row, claims, checksum)?
                }
                Reading::Rejected(problems) => Decision::Rejected(problems),
            };
            match &decision {
                Decision::Accepted(_) => {
                    checksums.push(checksum);
                    row.counts.add_event(coordinates.timestamp);
                }
                // `settle_keyed` inserted the row.
                Decision::Duplicate { .. } => row.counts.duplicates += 1,
                Decision::Rejected(problems) => {
                    self.statements.rejection(coordinates, checksum, problems)?;
                    row.counts.rejections += 1;
                }
            }
            *fate = Fate::Decided(decision);
        }
        self.insert_events(stretch, &checksums)?;
        if let Some(claims) = claims.get_mut(&stretch.partition) {
            claims.write(self.connection)?;
            claims.expire(row.cursor.clock, stretch.next_offset);
            claims.trim(self.connection)?;
            row.claims = claims.rows;
        }
        row.cursor.logged = stretch.next_offset;
        row.cursor.clean = false;
        Ok(())
    }

    /// Inserts the events of a decided stretch, each with the checksum of its record.
    fn insert_events(&mut self, stretch: &Stretch<'_>, checksums: &[u32]) -> rusqlite::Result<()> {
        let accepted = stretch.fates.iter().filter_map(|fate| match fate.decision() {
            Some(Decision::Accepted(event)) => Some(event),
            _ => None,
        });
        let events: Vec<(&Event, u32)> = accepted.zip(checksums.iter().copied()).collect();
        let [(first, _), ..] = *events else { return Ok(()) };
        let (last, _) = events[events.len() - 1];
        let objects = &mut self.objects;
        // At once for the read model: the events' text is still in the processor's cache.
        self.statements.events.insert(self.next_position, &events, |event| {
            if let Some(objects) = objects {
                objects.push(event);
            }
        })?;
        let (start, end) = (first.coordinates().offset, last.coordinates().offset + 1);
        let values = [stretch.partition.into(), start, end, self.next_position, events.len() as i64];
        checksum::insert(&mut self.statements.batch, &BATCHES, &values.map(ValueRef::Integer))?;
        self.next_position += events.len() as i64;
        Ok(())
    }

    /// Decides a command by the window, updates the window, and inserts the row of a duplicate.
    fn settle_keyed(
        &mut self,
        event: Event,
        key: &IdempotencyKey,
        row: &CursorRow,
        claims: &mut BTreeMap<i32, Claims>,
        checksum: u32,
    ) -> rusqlite::Result<Decision> {
        let (at, clock) = (event.coordinates(), row.cursor.clock);
        let claims = match claims.entry(at.partition) {
            btree_map::Entry::Occupied(entry) => entry.into_mut(),
            btree_map::Entry::Vacant(entry) => {
                let counted = (at.partition, row.claims);
                entry.insert(Claims::load(self.connection, counted, clock, self.window_ms)?)
            }
        };
        let groups = match &mut self.claim_groups {
            Some(groups) => groups,
            none => none.insert(ClaimGroups::prepare(self.connection)?),
        };
        claims.expire(clock, at.offset);
        let bits = claims.bits(&key.hash);
        let found = claims.find(groups, &key.hash, bits)?;
        let claim = found.map(|found| {
            let (offset, timestamp) = found.first;
            let first = ActivityId::new(self.topic_bits, Coordinates { offset, timestamp, ..at });
            Claim { first, fingerprint: found.fingerprint, last_seen: found.last_seen }
        });
        let decision = settle(event, Some(*key), claim.as_ref(), clock, self.window_ms);
        let first = match &decision {
            Decision::Accepted(_) => (at.offset, at.timestamp),
            Decision::Duplicate { .. } => {
                let first = found.expect("a duplicate has a claim").first;
                self.statements.duplicate(at, checksum, first)?;
                first
            }
            // A rejected command neither claims a key nor renews a claim.
            Decision::Rejected(_) => return Ok(decision),
        };
        let IdempotencyKey { hash, fingerprint, .. } = *key;
        let claim = StoredClaim { offset: at.offset, first, last_seen: clock, hash, fingerprint };
        claims.add(claim, bits, found.as_ref());
        Ok(decision)
    }
}

struct Statements<'a> {
    events: EventRows<'a>,
    duplicate: CachedStatement<'a>,
    rejection: CachedStatement<'a>,
    batch: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            events: EventRows::prepare(connection)?,
            duplicate: connection.prepare_cached(DUPLICATES.insert)?,
            rejection: connection.prepare_cached(REJECTIONS.insert)?,
            batch: connection.prepare_cached(BATCHES.insert)?,
        })
    }

    fn duplicate(
        &mut self,
        at: Coordinates,
        record_checksum: u32,
        first: (i64, i64),
    ) -> rusqlite::Result<()> {
        let [partition, offset, timestamp, checksum] = record_values(at, record_checksum);
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
        let [partition, offset, timestamp, checksum] = record_values(at, record_checksum);
        let values = [partition, offset, timestamp, checksum, ValueRef::Text(problems.as_bytes())];
        checksum::insert(&mut self.rejection, &REJECTIONS, &values)
    }
}

pub(crate) fn record_values(at: Coordinates, checksum: u32) -> [ValueRef<'static>; 4] {
    [at.partition.into(), at.offset, at.timestamp, checksum.into()].map(ValueRef::Integer)
}
