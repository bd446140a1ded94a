//! A row of table `claim_groups`: claims of one partition, packed as `schema/0003.sql` defines.

use std::ops::Range;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::checksum::{self, CLAIM_GROUPS, CLAIMS_OF_VERSION_2, DamagedRow, check_row};
use crate::cursor::CursorRow;

/// How many claims the writer puts into a row. Four such rows fill a page of 4 KiB, eight one of 8 KiB; more claims in a row
/// are no faster.
pub(crate) const GROUP: usize = 15;

/// Of a row's id.
const OFFSET_BITS: u32 = 48;

/// Of a packed claim.
const BYTES: usize = 64;

/// What the log remembers of a command with an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredClaim {
    pub(crate) offset: i64,
    /// Offset and timestamp of the event that the first command with the key became.
    pub(crate) first: (i64, i64),
    /// The partition's clock at this command.
    pub(crate) last_seen: i64,
    pub(crate) hash: [u8; 16],
    pub(crate) fingerprint: [u8; 16],
}

impl StoredClaim {
    fn pack(&self) -> [u8; BYTES] {
        let Self { offset, first: (first_offset, first_timestamp), last_seen, hash, fingerprint } = *self;
        let mut packed = [0; BYTES];
        let (numbers, hashes) = packed.split_at_mut(32);
        let places = numbers.as_chunks_mut::<8>().0;
        for (place, number) in places.iter_mut().zip([offset, first_offset, first_timestamp, last_seen]) {
            *place = number.to_le_bytes();
        }
        hashes.as_chunks_mut().0.copy_from_slice(&[hash, fingerprint]);
        packed
    }

    fn unpack(packed: &[u8; BYTES]) -> Self {
        let (numbers, hashes) = packed.split_at(32);
        let number = |index: usize| i64::from_le_bytes(numbers.as_chunks().0[index]);
        let [hash, fingerprint] = [0, 1].map(|index| hashes.as_chunks().0[index]);
        Self { offset: number(0), first: (number(1), number(2)), last_seen: number(3), hash, fingerprint }
    }

    /// Whether the claim may come before another one of its partition.
    pub(crate) fn precedes(&self, next: &Self) -> bool {
        self.offset < next.offset && self.last_seen <= next.last_seen
    }

    /// Reads a row of version 2.
    pub(crate) fn of_version_2(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            offset: row.get(1)?,
            hash: row.get(2)?,
            fingerprint: row.get(3)?,
            first: (row.get(4)?, row.get(5)?),
            last_seen: row.get(6)?,
        })
    }
}

/// The id of a row. Offsets and partitions fit, because they fit the ids of activities.
pub(crate) fn id(partition: i32, last_offset: i64) -> i64 {
    (i64::from(partition) << OFFSET_BITS).wrapping_add(last_offset)
}

/// The ids of a partition's rows.
pub(crate) fn ids(partition: i32) -> Range<i64> {
    let start = id(partition, 0);
    start..start.wrapping_add(1 << OFFSET_BITS)
}

/// Inserts claims, in order of offset. Returns the number of rows.
pub(crate) fn insert(
    connection: &Connection,
    partition: i32,
    claims: &[StoredClaim],
) -> rusqlite::Result<i64> {
    if claims.is_empty() {
        return Ok(0);
    }
    let mut statement = connection.prepare_cached(CLAIM_GROUPS.insert)?;
    let mut rows = 0;
    for group in claims.chunks(GROUP) {
        let packed: Vec<[u8; BYTES]> = group.iter().map(StoredClaim::pack).collect();
        let id = id(partition, group[group.len() - 1].offset);
        let values = [ValueRef::Integer(id), ValueRef::Blob(packed.as_flattened())];
        checksum::insert(&mut statement, &CLAIM_GROUPS, &values)?;
        rows += 1;
    }
    Ok(rows)
}

/// The partition and the claims of a row whose checksum was compared.
pub(crate) fn claims_in<'a>(
    row: &'a Row<'_>,
) -> rusqlite::Result<(i32, impl DoubleEndedIterator<Item = StoredClaim> + Clone + 'a)> {
    let id: i64 = row.get(0)?;
    let bytes = row.get_ref(1)?.as_blob()?;
    let ([first, .., last] | [first @ last], []) = bytes.as_chunks() else {
        return damaged(row, format!("its claims have {} bytes, not {BYTES} for each", bytes.len()));
    };
    let [first, last] = [first, last].map(StoredClaim::unpack);
    let claims = bytes.as_chunks().0.iter().map(StoredClaim::unpack);
    let partition = (id >> OFFSET_BITS) as i32;
    let is_in_order = claims.clone().is_sorted_by(StoredClaim::precedes);
    if !is_in_order || first.offset < 0 || self::id(partition, last.offset) != id {
        return damaged(row, "its claims do not ascend to the offset in its id");
    }
    Ok((partition, claims))
}

/// What is wrong with a claim that does not [follow](StoredClaim::precedes) the one before it.
pub(crate) const NOT_AFTER: &str = "it does not come after the claim before it";

/// An error that says what is wrong with a row.
pub(crate) fn damaged<T>(row: &Row<'_>, found: impl Into<String>) -> rusqlite::Result<T> {
    Err(DamagedRow::new(&CLAIM_GROUPS, row, found.into()).into())
}

/// Moves the claims of version 2 into groups. `progress` gets the number of claims done since its last call.
pub(crate) fn upgrade(connection: &Connection, mut progress: impl FnMut(usize)) -> rusqlite::Result<()> {
    let of_partition = format!("{} WHERE partition = ?1 ORDER BY offset", CLAIMS_OF_VERSION_2.select);
    let mut of_partition = connection.prepare(&of_partition)?;
    for (partition, mut cursor) in CursorRow::load(connection)? {
        let mut rows = of_partition.query([partition])?;
        let mut claims = Vec::new();
        cursor.claims = 0;
        loop {
            let row = rows.next()?;
            if row.is_none() || claims.len() == GROUP {
                cursor.claims += insert(connection, partition, &claims)?;
                progress(claims.len());
                claims.clear();
            }
            let Some(row) = row else { break };
            check_row(row, &CLAIMS_OF_VERSION_2)?;
            claims.push(StoredClaim::of_version_2(row)?);
        }
        cursor.store(connection)?;
    }
    drop(of_partition);
    connection.execute_batch("DROP TABLE claims")
}
