//! Activity ids: a pure function of the command's topic and coordinates.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::{Uuid, Variant};

use crate::record::Coordinates;

/// The id of an activity: a UUID of version 8 (RFC 9562) that consists of timestamp, topic, partition and offset.
///
/// | bits | 48 | 4 | 12 | 2 | 14 | 48 |
/// | --- | --- | --- | --- | --- | --- | --- |
/// | contain | record timestamp, ms | `8` | CRC-32C of the topic's name, low 12 bits | `10` | partition | offset |
///
/// Ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActivityId(#[serde(deserialize_with = "deserialize_activity_id")] Uuid);

/// A text or UUID is not an activity id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAnActivityId {
    #[error("{0:?} is not an activity id: expected a UUID like 01a20ada-2c7b-89d1-8003-000000003039")]
    NotAUuid(String),
    #[error("{0} is a UUID, but not an activity id: those have version 8 and the RFC 9562 variant")]
    OtherUuid(Uuid),
}

const PARTITION_BITS: u32 = 14;
const OFFSET_BITS: u32 = 48;
const TOPIC_MASK: u16 = 0xfff;
const TIMESTAMP_MASK: u128 = 0xffff_ffff_ffff;

impl ActivityId {
    /// The highest partition that fits in an id.
    pub const MAX_PARTITION: i32 = (1 << PARTITION_BITS) - 1;
    /// The highest offset that fits in an id.
    pub const MAX_OFFSET: i64 = (1 << OFFSET_BITS) - 1;

    /// `topic_bits` is [`topic_bits`] of the topic. Coordinates that don't fit are truncated: check
    /// [`Coordinates::fits_id`] first.
    #[must_use]
    pub fn new(topic_bits: u16, at: Coordinates) -> Self {
        let timestamp = (at.timestamp as u128 & TIMESTAMP_MASK) << 80;
        let topic = u128::from(topic_bits & TOPIC_MASK) << 64;
        let partition = (at.partition as u128 & Self::MAX_PARTITION as u128) << OFFSET_BITS;
        let offset = at.offset as u128 & Self::MAX_OFFSET as u128;
        Self(Uuid::from_u128(timestamp | 0x8 << 76 | topic | 0b10 << 62 | partition | offset))
    }

    /// # Errors
    ///
    /// [`NotAnActivityId::OtherUuid`] if version or variant differ.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, NotAnActivityId> {
        let ours = uuid.get_version_num() == 8 && uuid.get_variant() == Variant::RFC4122;
        if ours { Ok(Self(uuid)) } else { Err(NotAnActivityId::OtherUuid(uuid)) }
    }

    #[must_use]
    pub(crate) fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// The command record's timestamp, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        (self.0.as_u128() >> 80) as i64
    }

    /// [`topic_bits`] of the commands topic.
    #[must_use]
    pub fn topic_bits(&self) -> u16 {
        (self.0.as_u128() >> 64) as u16 & TOPIC_MASK
    }

    /// The command record's partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        (self.0.as_u128() >> OFFSET_BITS) as i32 & Self::MAX_PARTITION
    }

    /// The command record's offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.0.as_u128() as i64 & Self::MAX_OFFSET
    }

    /// The command record's coordinates.
    #[must_use]
    pub fn coordinates(&self) -> Coordinates {
        Coordinates { partition: self.partition(), offset: self.offset(), timestamp: self.timestamp() }
    }
}

/// The part of an id that depends on the topic: the low 12 bits of the CRC-32C of the topic's name.
#[must_use]
pub fn topic_bits(topic: &str) -> u16 {
    crc32c::crc32c(topic.as_bytes()) as u16 & TOPIC_MASK
}

impl fmt::Display for ActivityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ActivityId {
    type Err = NotAnActivityId;

    /// Accepts the form with hyphens only, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WITH_HYPHENS: usize = 36;
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == WITH_HYPHENS => Self::from_uuid(uuid),
            _ => Err(NotAnActivityId::NotAUuid(text.chars().take(80).collect())),
        }
    }
}

fn deserialize_activity_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let uuid = Uuid::deserialize(deserializer)?;
    ActivityId::from_uuid(uuid).map(|id| id.0).map_err(serde::de::Error::custom)
}

/// A partition or an offset does not fit in an activity id, so two activities could have the same id. Commands of this
/// topic must not be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "partition {partition}, offset {offset} does not fit in an activity id: expected partitions 0 to {} and offsets 0 to {}; use a commands topic with fewer partitions, or a new one",
    ActivityId::MAX_PARTITION,
    ActivityId::MAX_OFFSET
)]
pub struct IdSpaceExceeded {
    pub partition: i32,
    pub offset: i64,
}

impl Coordinates {
    /// Checks that this record has an activity id that no other record has.
    ///
    /// # Errors
    ///
    /// [`IdSpaceExceeded`] if partition or offset are negative or too large.
    pub fn fits_id(&self) -> Result<(), IdSpaceExceeded> {
        let fits = (0..=ActivityId::MAX_PARTITION).contains(&self.partition)
            && (0..=ActivityId::MAX_OFFSET).contains(&self.offset);
        fits.then_some(()).ok_or(IdSpaceExceeded { partition: self.partition, offset: self.offset })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMESTAMP: i64 = 1_795_478_400_123;

    /// The table in the contract.
    const VECTORS: [(&str, i32, i64, i64, &str); 4] = [
        ("activity.commands", 0, 0, 0, "00000000-0000-89d1-8000-000000000000"),
        ("activity.commands", 3, 12345, TIMESTAMP, "01a20ada-2c7b-89d1-8003-000000003039"),
        (
            "activity.commands",
            16383,
            (1 << 48) - 1,
            253_402_300_799_999,
            "e677d21f-dbff-89d1-bfff-ffffffffffff",
        ),
        ("Aktivität", 1, 1, TIMESTAMP, "01a20ada-2c7b-88a9-8001-000000000001"),
    ];

    #[test]
    fn ids_match_the_contract() {
        for (topic, partition, offset, timestamp, expected) in VECTORS {
            let id = ActivityId::new(topic_bits(topic), Coordinates { partition, offset, timestamp });
            assert_eq!(id.to_string(), expected);
            assert_eq!(expected.parse(), Ok(id));
            assert_eq!(expected.to_uppercase().parse(), Ok(id));
            assert_eq!(serde_json::to_string(&id).unwrap(), format!("{expected:?}"));
            assert_eq!(serde_json::from_str::<ActivityId>(&format!("{expected:?}")).unwrap(), id);
        }
    }

    #[test]
    fn refuses_text_that_is_not_an_id() {
        for text in ["", "x", "01a20ada2c7b89d18003000000003039", "{01a20ada-2c7b-89d1-8003-000000003039}"] {
            assert_eq!(text.parse::<ActivityId>(), Err(NotAnActivityId::NotAUuid(text.to_owned())));
        }
        // Version 4, then version 8 with another variant.
        for text in ["01a20ada-2c7b-49d1-8003-000000003039", "01a20ada-2c7b-89d1-c003-000000003039"] {
            assert!(matches!(text.parse::<ActivityId>(), Err(NotAnActivityId::OtherUuid(_))), "{text}");
            assert!(serde_json::from_str::<ActivityId>(&format!("{text:?}")).is_err());
        }
    }

    #[test]
    fn refuses_coordinates_that_do_not_fit() {
        let at = |partition, offset| Coordinates { partition, offset, timestamp: 0 };
        assert_eq!(at(16_383, (1 << 48) - 1).fits_id(), Ok(()));
        for (partition, offset) in [(16_384, 0), (-1, 0), (0, 1 << 48), (0, -1)] {
            let error = at(partition, offset).fits_id().unwrap_err();
            assert_eq!(error, IdSpaceExceeded { partition, offset });
        }
    }

    fn coordinates() -> impl Strategy<Value = Coordinates> {
        (0..=ActivityId::MAX_PARTITION, 0..=ActivityId::MAX_OFFSET, 0..=253_402_300_799_999_i64)
            .prop_map(|(partition, offset, timestamp)| Coordinates { partition, offset, timestamp })
    }

    proptest! {
        #[test]
        fn ids_contain_topic_bits_and_coordinates(bits in 0..=TOPIC_MASK, at in coordinates()) {
            let id = ActivityId::new(bits, at);
            prop_assert_eq!(id.coordinates(), at);
            prop_assert_eq!(id.topic_bits(), bits);
            prop_assert_eq!(ActivityId::from_uuid(*id.as_uuid()), Ok(id));
        }

        #[test]
        fn ids_sort_by_time(bits in 0..=TOPIC_MASK, one in coordinates(), other in coordinates()) {
            let (left, right) = (ActivityId::new(bits, one), ActivityId::new(bits, other));
            if one.timestamp != other.timestamp {
                prop_assert_eq!(left.cmp(&right), one.timestamp.cmp(&other.timestamp));
            }
            prop_assert_eq!(left.cmp(&right), left.to_string().cmp(&right.to_string()));
        }

        #[test]
        fn any_coordinates_make_a_valid_id(bits: u16, partition: i32, offset: i64, timestamp: i64) {
            let id = ActivityId::new(bits, Coordinates { partition, offset, timestamp });
            prop_assert_eq!(ActivityId::from_uuid(*id.as_uuid()), Ok(id));
        }
    }
}
