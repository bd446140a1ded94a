//! Activity ids: a pure function of the command record's coordinates.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::Coordinates;

/// An activity's id, a UUID of version 8 (RFC 9562) that holds timestamp, topic, partition and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActivityId(Uuid);

impl ActivityId {
    /// The low 12 bits of the CRC-32C of the topic's name.
    #[must_use]
    pub fn topic_bits(topic: &str) -> u16 {
        (crc32c::crc32c(topic.as_bytes()) & 0xfff) as u16
    }

    /// `topic_bits` is the low 12 bits of the CRC-32C of the topic's name.
    #[must_use]
    pub fn new(topic_bits: u16, at: Coordinates) -> Self {
        let high = (at.timestamp as u128) << 80;
        let topic = u128::from(topic_bits & 0xfff) << 64;
        let low = ((at.partition as u128) & 0x3fff) << 48 | (at.offset as u128 & 0xffff_ffff_ffff);
        Self(Uuid::from_u128(high | 0x8 << 76 | topic | 0b10 << 62 | low))
    }

    #[must_use]
    pub fn partition(self) -> i32 {
        (self.0.as_u128() >> 48 & 0x3fff) as i32
    }

    #[must_use]
    pub fn offset(self) -> i64 {
        (self.0.as_u128() & 0xffff_ffff_ffff) as i64
    }

    #[must_use]
    pub fn timestamp(self) -> i64 {
        (self.0.as_u128() >> 80) as i64
    }
}

impl fmt::Display for ActivityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ActivityId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}
