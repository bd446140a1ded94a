//! Kafka records as the core sees them: bytes with coordinates.

use std::borrow::Cow;

use super::date_time::TIMESTAMPS;

/// Where a command record lies, and when: all that its activity id is made of, besides the topic's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Coordinates {
    /// Partition of the commands topic.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
    /// The record's Kafka timestamp, in milliseconds since 1970-01-01T00:00:00Z; −1 where Kafka has none.
    pub timestamp: i64,
}

impl Coordinates {
    /// Whether the contract accepts the timestamp: 1970 to the end of 9999.
    #[must_use]
    pub fn has_valid_timestamp(&self) -> bool {
        TIMESTAMPS.contains(&self.timestamp)
    }

    /// A partition's clock after this record: a valid timestamp moves it.
    #[must_use]
    pub fn advance(&self, clock: i64) -> i64 {
        if self.has_valid_timestamp() { clock.max(self.timestamp) } else { clock }
    }
}

/// One header of a record. Kafka allows any number of headers of the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes, because a producer can write a name that is not UTF-8.
    pub name: Cow<'static, [u8]>,
    /// `None` is Kafka's null, which is not the empty value.
    pub value: Option<Vec<u8>>,
}

const UNREADABLE: &[u8] = b"\0unreadable";

/// A command as it came from the commands topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub coordinates: Coordinates,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

/// A record that is to be produced; its topic follows from what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

impl Header {
    pub fn new(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: Cow::Owned(name.into()), value: Some(value.into()) }
    }

    /// Of this program's own, whose name is always the same.
    pub(super) fn named(name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        Self { name: Cow::Borrowed(name.as_bytes()), value: Some(value.into()) }
    }

    /// Stands for all headers of a record whose headers can't be read: there are too many for the Kafka client. Read
    /// as none, an idempotency key or a request for a reply among them would be ignored without a word.
    ///
    /// No header that was read has this name: to the Kafka client a name ends with a NUL.
    #[must_use]
    pub fn unreadable() -> Self {
        Self { name: Cow::Borrowed(UNREADABLE), value: None }
    }

    /// Whether the headers of a record could not be read.
    pub(super) fn are_unreadable(headers: &[Self]) -> bool {
        headers.first().is_some_and(|header| *header.name == *UNREADABLE)
    }

    /// Bytes of name and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Vec::len)
    }

    /// The last header of that name, the one that counts where Kafka's own clients look for one.
    pub(super) fn last<'h>(headers: &'h [Self], name: &[u8]) -> Option<&'h Self> {
        headers.iter().rev().find(|header| *header.name == *name)
    }
}

impl Record {
    /// CRC-32C over key, value and headers, by which the record is known again when it is re-read. Each part
    /// is preceded by its length, and null differs from empty, so bytes cannot move from one to the other.
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
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(Header::bytes).sum();
        bytes(&self.key) + bytes(&self.value) + headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&str>, value: Option<&str>, headers: &[(&str, Option<&str>)]) -> Record {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Record {
            coordinates: Coordinates { partition: 0, offset: 0, timestamp: 0 },
            key: key.map(bytes),
            value: value.map(bytes),
            headers: headers
                .iter()
                .map(|(name, value)| Header { name: bytes(name).into(), value: value.map(bytes) })
                .collect(),
        }
    }

    #[test]
    fn checksum_tells_records_apart() {
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

    /// The log compares checksums that an earlier version wrote, so they must not change.
    #[test]
    fn checksum_stays_what_it_is() {
        let record = record(Some("case/1"), Some("{}"), &[("h", None), ("i", Some("x"))]);
        assert_eq!(record.checksum(), 2_150_441_526);
    }
}
