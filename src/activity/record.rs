//! Kafka records as the core sees them: bytes with coordinates.

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

/// One header of a record. Kafka allows any number of headers of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Bytes, because a producer can write a name that is not UTF-8.
    pub name: Vec<u8>,
    /// `None` is Kafka's null, which is not the empty value.
    pub value: Option<Vec<u8>>,
}

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}
