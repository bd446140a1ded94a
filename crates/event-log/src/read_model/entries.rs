//! The entries of a run: the positions of each object's events, in blocks.

/// Entries in a block, which is read as a whole: about 6 KB.
const BLOCK: usize = 512;
const BYTES: usize = 12;

/// One event of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// 63 bits, so that SQLite's signed integers have the same order.
    pub hash: u64,
    pub position: i64,
}

/// The hash of an object. Two objects may share one, so the query compares the events themselves.
pub(super) fn hash(object_type: &str, object_id: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(object_type.as_bytes()).update(b"/").update(object_id.as_bytes());
    first_63_bits(&hasher.finalize())
}

/// Like [`hash`], for `type/id`.
pub(super) fn hash_of_object(object: &str) -> u64 {
    first_63_bits(&blake3::hash(object.as_bytes()))
}

fn first_63_bits(hash: &blake3::Hash) -> u64 {
    let (bytes, _) = hash.as_bytes().split_first_chunk().expect("32 bytes");
    u64::from_be_bytes(*bytes) >> 1
}

/// Cuts sorted entries into blocks, each with its first hash and that of the next block.
pub(super) fn blocks(
    entries: &[Entry],
    first_position: i64,
) -> impl Iterator<Item = (i64, Option<i64>, Vec<u8>)> {
    let mut next = entries.chunks(BLOCK).skip(1).map(|block| block[0].hash as i64);
    entries.chunks(BLOCK).map(move |block| {
        let mut bytes = Vec::with_capacity(block.len() * BYTES);
        for entry in block {
            let place = u32::try_from(entry.position - first_position).expect("a run is shorter than that");
            bytes.extend_from_slice(&entry.hash.to_be_bytes());
            bytes.extend_from_slice(&place.to_be_bytes());
        }
        (block[0].hash as i64, next.next(), bytes)
    })
}

/// The complete entries of a block.
pub(super) fn of_block(block: &[u8], first_position: i64) -> impl Iterator<Item = Entry> {
    let (whole, _) = block.as_chunks::<BYTES>();
    whole.iter().map(move |bytes| {
        let (hash, rest) = bytes.split_first_chunk().expect("12 bytes");
        let (place, _) = rest.split_first_chunk().expect("4 bytes");
        Entry {
            hash: u64::from_be_bytes(*hash),
            position: first_position + i64::from(u32::from_be_bytes(*place)),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_hold_every_entry_in_order(hashes in prop::collection::vec(0_u64..50, 0..2000)) {
            let first = 1 << 40;
            let mut entries: Vec<_> =
                (first..).zip(hashes).map(|(position, hash)| Entry { hash: hash << 57 >> 1, position }).collect();
            entries.sort_unstable();
            let blocks: Vec<_> = blocks(&entries, first).collect();
            let found: Vec<_> = blocks.iter().flat_map(|(_, _, block)| of_block(block, first)).collect();
            prop_assert_eq!(found, entries);
            prop_assert!(blocks.is_sorted_by_key(|(first_hash, ..)| *first_hash));
            for pair in blocks.windows(2) {
                prop_assert_eq!(pair[0].1, Some(pair[1].0));
            }
            prop_assert!(blocks.last().is_none_or(|(_, next, _)| next.is_none()));
        }
    }

    #[test]
    fn the_hash_is_of_type_slash_id() {
        assert_eq!(hash("case", "2026/7"), hash_of_object("case/2026/7"));
        assert_ne!(hash("case", "7"), hash("case", "8"));
    }
}
