//! Kafka records, as bytes with coordinates.

use bytes::Bytes;

use crate::date_time::TIMESTAMPS;

/// The partition, offset and timestamp of a command record. Its activity id consists of these and of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Coordinates {
    /// The partition of the commands topic.
    pub partition: i32,
    /// The offset in that partition.
    pub offset: i64,
    /// The record's Kafka timestamp, in milliseconds since 1970-01-01T00:00:00Z; −1 if it has none.
    pub timestamp: i64,
}

impl Coordinates {
    /// Whether the contract accepts the timestamp: from 1970 to the end of 9999.
    #[must_use]
    pub fn has_valid_timestamp(&self) -> bool {
        TIMESTAMPS.contains(&self.timestamp)
    }

    /// The partition's clock after this record. Only a later, valid timestamp advances it.
    #[must_use]
    pub fn advance(&self, clock: i64) -> i64 {
        if self.has_valid_timestamp() { clock.max(self.timestamp) } else { clock }
    }
}

/// One header of a record. Kafka allows any number of headers of the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes, because a producer can write names that are not UTF-8.
    pub name: Bytes,
    /// `None` is Kafka's null, which differs from an empty value.
    pub value: Option<Bytes>,
}

const UNREADABLE: &[u8] = b"\0unreadable";

/// A record of the commands topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub coordinates: Coordinates,
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// A record to produce. The caller knows its topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputRecord {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// A header whose bytes lie elsewhere: its name, and its value or null.
pub type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// A record to produce whose bytes lie elsewhere. The caller knows its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRef<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [HeaderRef<'a>],
}

impl Header {
    pub fn new(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: Bytes::from(name.into()), value: Some(Bytes::from(value.into())) }
    }

    /// A header with a constant name.
    pub(crate) fn named(name: &'static str, value: impl Into<Bytes>) -> Self {
        Self { name: Bytes::from_static(name.as_bytes()), value: Some(value.into()) }
    }

    /// Stands for all headers of a record that has too many for the Kafka client. Without this mark, an idempotency key
    /// or a request for a reply among them would be silently ignored.
    ///
    /// No real header has this name: for the Kafka client, names end at a NUL.
    #[must_use]
    pub fn unreadable() -> Self {
        Self { name: Bytes::from_static(UNREADABLE), value: None }
    }

    /// Whether the headers of a record could not be read.
    pub(crate) fn are_unreadable(headers: &[Self]) -> bool {
        headers.first().is_some_and(|header| *header.name == *UNREADABLE)
    }

    #[must_use]
    pub fn as_parts(&self) -> HeaderRef<'_> {
        (&self.name, self.value.as_deref())
    }

    /// Bytes of name and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// The last header with that name, as Kafka's own clients look headers up.
    pub(crate) fn last<'h>(headers: &'h [Self], name: &[u8]) -> Option<&'h Self> {
        headers.iter().rev().find(|header| *header.name == *name)
    }
}

impl Record {
    /// CRC-32C of key, value and headers, by which the record is recognized when it is read again. Each part is preceded
    /// by its length, and null differs from empty, so moving bytes between parts changes it.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        let crc = checksum_part(0, self.key.as_deref());
        let crc = checksum_part(crc, self.value.as_deref());
        self.headers.iter().fold(crc, |crc, header| {
            let crc = checksum_part(crc, Some(&header.name));
            checksum_part(crc, header.value.as_deref())
        })
    }
}

fn checksum_part(crc: u32, part: Option<&[u8]>) -> u32 {
    let length = part.map_or(u64::MAX, |bytes| bytes.len() as u64);
    let crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    crc32c::crc32c_append(crc, part.unwrap_or_default())
}

impl Record {
    /// Bytes of key, value and headers, without what Kafka's record format adds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes_of(self.key.as_deref(), self.value.as_deref(), self.headers.iter().map(Header::as_parts))
    }
}

impl OutputRef<'_> {
    /// Bytes of key, value and headers, without what Kafka's record format adds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes_of(self.key, self.value, self.headers.iter().copied())
    }

    /// Copies the bytes.
    #[must_use]
    pub fn to_record(&self) -> OutputRecord {
        let copied = |part: Option<&[u8]>| part.map(Bytes::copy_from_slice);
        let header = |(name, value): &HeaderRef<'_>| Header {
            name: Bytes::copy_from_slice(name),
            value: copied(*value),
        };
        OutputRecord {
            key: copied(self.key),
            value: copied(self.value),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

impl OutputRecord {
    /// Calls `with` with this record.
    pub fn with_ref<T>(&self, with: impl FnOnce(OutputRef<'_>) -> T) -> T {
        let headers: Vec<_> = self.headers.iter().map(Header::as_parts).collect();
        with(OutputRef { key: self.key.as_deref(), value: self.value.as_deref(), headers: &headers })
    }

    /// Bytes of key, value and headers, without what Kafka's record format adds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes_of(self.key.as_deref(), self.value.as_deref(), self.headers.iter().map(Header::as_parts))
    }
}

fn bytes_of<'h>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = HeaderRef<'h>>,
) -> usize {
    let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    bytes(key) + bytes(value) + headers.map(|(name, value)| name.len() + bytes(value)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&str>, value: Option<&str>, headers: &[(&str, Option<&str>)]) -> Record {
        let bytes = |text: &str| Bytes::from(text.to_owned());
        Record {
            coordinates: Coordinates { partition: 0, offset: 0, timestamp: 0 },
            key: key.map(bytes),
            value: value.map(bytes),
            headers: headers
                .iter()
                .map(|(name, value)| Header { name: bytes(name), value: value.map(bytes) })
                .collect(),
        }
    }

    #[test]
    fn checksums_of_different_records_differ() {
        let records = [
            record(None, None, &[]),
            record(Some(""), None, &[]),
            record(None, Some(""), &[]),
            record(Some("ab"), Some("c"), &[]),
            record(Some("a"), Some("bc"), &[]),
            record(Some("a"), Some("bc"), &[("h", None)]),
            record(Some("a"), Some("bc"), &[("h", Some(""))]),
            record(Some("a"), Some("bc"), &[("", Some("h"))]),
            record(Some("a"), Some("bc"), &[("h", None), ("h", None)]),
        ];
        for (index, one) in records.iter().enumerate() {
            for other in &records[index + 1..] {
                assert_ne!(one.checksum(), other.checksum(), "{one:?} {other:?}");
            }
            assert_eq!(one.checksum(), one.clone().checksum());
        }
    }

    /// Logs contain checksums from earlier versions.
    #[test]
    fn checksum_never_changes() {
        let record = record(Some("case/1"), Some("{}"), &[("h", None), ("i", Some("x"))]);
        assert_eq!(record.checksum(), 2_150_441_526);
    }
}
