//! The idempotency window on disk: table `claim_groups`.
//!
//! Rows are appended in order of offset and deleted at the old end, so the size of the window does not affect the cost
//! of an append.

use std::hash::{BuildHasher as _, RandomState};
use std::mem;

use rusqlite::{CachedStatement, Connection, OptionalExtension};

use crate::checksum::{CLAIM_GROUPS, CURSORS, DamagedRow, check_row};
use crate::claim_group::{self, NOT_AFTER, StoredClaim, claims_in};
use crate::lookup::MISSING;
use crate::window::Window;

/// One partition's claims: those that are not in the table yet, and the window that finds them all. A cache of the table:
/// drop it when a transaction fails, and it is loaded again.
#[derive(Debug)]
pub(crate) struct Claims {
    partition: i32,
    window: Window,
    /// Mixes the hashes for the window with a random number: otherwise somebody could choose keys that it can't tell apart.
    mixer: RandomState,
    /// In the window, but not in the table yet.
    pending: Vec<StoredClaim>,
    /// Claims below this offset have expired. Some of their rows may not be deleted yet.
    trim_below: Option<i64>,
    /// How many rows were written since the last [`trim`](Self::trim).
    written: i64,
    /// How many rows the table has.
    pub(crate) rows: i64,
}

impl Claims {
    /// Loads the partition's claims, which must have `counted` rows.
    pub(crate) fn load(
        connection: &Connection,
        (partition, counted): (i32, i64),
        clock: i64,
        window_ms: i64,
    ) -> rusqlite::Result<Self> {
        let window = Window::new(window_ms);
        let mixer = RandomState::new();
        let mut claims =
            Self { partition, window, mixer, pending: Vec::new(), trim_below: None, written: 0, rows: 0 };
        let all = format!("{} WHERE id >= ?1 AND id < ?2 ORDER BY id", CLAIM_GROUPS.select);
        let mut all = connection.prepare_cached(&all)?;
        let mut groups = ClaimGroups::prepare(connection)?;
        let ids = claim_group::ids(partition);
        let mut rows = all.query([ids.start, ids.end])?;
        let mut before: Option<StoredClaim> = None;
        while let Some(row) = rows.next()? {
            check_row(row, &CLAIM_GROUPS)?;
            claims.rows += 1;
            for claim in claims_in(row)?.1 {
                if before.replace(claim).is_some_and(|before| !before.precedes(&claim)) {
                    return claim_group::damaged(
                        row,
                        format!("the claim of offset {}: {NOT_AFTER}", claim.offset),
                    );
                }
                let StoredClaim { offset, last_seen, hash, .. } = claim;
                if clock.saturating_sub(last_seen) >= window_ms {
                    claims.trim_below = Some(offset + 1);
                    continue;
                }
                let bits = claims.bits(&hash);
                let mut replaces = None;
                for candidate in claims.window.latest_candidates(bits) {
                    if groups.at(partition, candidate)?.is_some_and(|claim| claim.hash == hash) {
                        replaces = Some(candidate);
                        break;
                    }
                }
                claims.window.insert(bits, offset, last_seen, replaces);
            }
        }
        if claims.rows != counted {
            let found = format!("it counts {counted} rows of table claim_groups, which has {}", claims.rows);
            return Err(DamagedRow::of_key(&CURSORS, format!("partition {partition}"), found).into());
        }
        Ok(claims)
    }

    /// What the window knows of a key.
    pub(crate) fn bits(&self, hash: &[u8; 16]) -> u64 {
        self.mixer.hash_one(hash)
    }

    /// The latest claim of the key, whose [`bits`](Self::bits) are given. It may be older than the window.
    pub(crate) fn find(
        &self,
        groups: &mut ClaimGroups<'_>,
        hash: &[u8; 16],
        bits: u64,
    ) -> rusqlite::Result<Option<StoredClaim>> {
        for offset in self.window.candidates(bits) {
            let claim = match self.pending.binary_search_by_key(&offset, |claim| claim.offset) {
                Ok(index) => Some(self.pending[index]),
                Err(_) => groups.at(self.partition, offset)?,
            };
            let Some(claim) = claim else {
                let key = format!("partition {} offset {offset}", self.partition);
                return Err(DamagedRow::of_key(&CLAIM_GROUPS, key, MISSING).into());
            };
            if claim.hash == *hash {
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    /// Adds a claim, which [`write`](Self::write) inserts. `bits` are its key's; `latest` is the result of
    /// [`find`](Self::find).
    pub(crate) fn add(&mut self, claim: StoredClaim, bits: u64, latest: Option<&StoredClaim>) {
        self.pending.push(claim);
        self.window.insert(bits, claim.offset, claim.last_seen, latest.map(|latest| latest.offset));
    }

    /// Inserts the pending claims. Call it before the transaction ends.
    pub(crate) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        // Not kept: a large batch must not keep its memory.
        let rows = claim_group::insert(connection, self.partition, &mem::take(&mut self.pending))?;
        self.rows += rows;
        self.written += rows;
        Ok(())
    }

    /// Drops expired claims from memory. `next_offset` is above the offset of every claim.
    pub(crate) fn expire(&mut self, clock: i64, next_offset: i64) {
        if let Some(below) = self.window.expire(clock, next_offset) {
            self.trim_below = Some(below);
        }
    }

    /// Deletes some of the expired rows, more than were written since the last call. Deleting a whole bucket, an eighth
    /// of the window, at once could block the log for minutes.
    pub(crate) fn trim(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let limit = 4 * mem::take(&mut self.written) + 64;
        let Some(below) = self.trim_below else { return Ok(()) };
        let mut delete = connection.prepare_cached(
            "DELETE FROM claim_groups WHERE id >= ?1 AND id < min(?2, coalesce( \
             (SELECT id FROM claim_groups WHERE id >= ?1 ORDER BY id LIMIT 1 OFFSET ?3), ?2))",
        )?;
        let ids = claim_group::ids(self.partition);
        // A position can be beyond all offsets that an id has room for.
        let end = ids.end.min(ids.start.saturating_add(below));
        let deleted = delete.execute([ids.start, end, limit])? as i64;
        self.rows -= deleted;
        if deleted < limit {
            self.trim_below = None;
        }
        Ok(())
    }
}

/// Finds claims in the table.
pub(crate) struct ClaimGroups<'a>(CachedStatement<'a>);

impl<'a> ClaimGroups<'a> {
    pub(crate) fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        let of_offset = format!("{} WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 1", CLAIM_GROUPS.select);
        connection.prepare_cached(&of_offset).map(Self)
    }

    fn at(&mut self, partition: i32, offset: i64) -> rusqlite::Result<Option<StoredClaim>> {
        let ids = claim_group::id(partition, offset)..claim_group::ids(partition).end;
        let found = self.0.query_row([ids.start, ids.end], |row| {
            check_row(row, &CLAIM_GROUPS)?;
            Ok(claims_in(row)?.1.find(|claim| claim.offset == offset))
        });
        found.optional().map(Option::flatten)
    }
}
