//! Activity ids: a pure function of the command record's coordinates.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::{Uuid, Variant};

use super::record::Coordinates;

/// An activity's id, a UUID of version 8 (RFC 9562) that holds timestamp, topic, partition and offset.
///
/// | bits | 48 | 4 | 12 | 2 | 14 | 48 |
/// | --- | --- | --- | --- | --- | --- | --- |
/// | holds | record timestamp, ms | `8` | CRC-32C of the topic's name, low 12 bits | `10` | partition | offset |
///
/// Ids are ordered by time first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActivityId(#[serde(deserialize_with = "deserialize_activity_id")] Uuid);

/// Text or a UUID that is no activity id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAnActivityId {
    #[error("{0:?} is not an activity id: expected a UUID like 01a20ada-2c7b-89d1-8003-000000003039")]
    NotAUuid(String),
    #[error("{0} is a UUID, but not an activity id: those are of version 8 and the RFC 9562 variant")]
    OtherUuid(Uuid),
}

const PARTITION_BITS: u32 = 14;
const OFFSET_BITS: u32 = 48;
const TOPIC_MASK: u16 = 0xfff;
const TIMESTAMP_MASK: u128 = 0xffff_ffff_ffff;

impl ActivityId {
    /// The highest partition that an id can hold.
    pub const MAX_PARTITION: i32 = (1 << PARTITION_BITS) - 1;
    /// The highest offset that an id can hold.
    pub const MAX_OFFSET: i64 = (1 << OFFSET_BITS) - 1;

    /// `topic_bits` as [`topic_bits`] gives it. What is too large for its bits is cut off: see
    /// [`Coordinates::fits_id`].
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
    /// [`NotAnActivityId::OtherUuid`] where version or variant is another.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, NotAnActivityId> {
        let ours = uuid.get_version_num() == 8 && uuid.get_variant() == Variant::RFC4122;
        if ours { Ok(Self(uuid)) } else { Err(NotAnActivityId::OtherUuid(uuid)) }
    }

    #[must_use]
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// The command record's timestamp, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        (self.0.as_u128() >> 80) as i64
    }

    /// Tells commands topics apart; [`topic_bits`] of the topic's name.
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

    /// All that the id was made of, besides the topic.
    #[must_use]
    pub fn coordinates(&self) -> Coordinates {
        Coordinates { partition: self.partition(), offset: self.offset(), timestamp: self.timestamp() }
    }
}

/// What an id holds of its topic: the low 12 bits of the CRC-32C of the topic's name.
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

    /// The form with hyphens only, in either case: it is the one that travels.
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

/// A partition or an offset has more bits than the activity id has for it, so two activities could get the
/// same id. Nothing of the topic may be decided then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "partition {partition}, offset {offset} has no activity id: ids have room for partitions 0 to {} and offsets 0 to {}; use a commands topic with fewer partitions, or a new one",
    ActivityId::MAX_PARTITION,
    ActivityId::MAX_OFFSET
)]
pub struct IdSpaceExceeded {
    pub partition: i32,
    pub offset: i64,
}

impl Coordinates {
    /// Whether the activity id of this record is its own.
    ///
    /// # Errors
    ///
    /// [`IdSpaceExceeded`] where partition or offset is too large for its bits, or negative.
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
    use crate::date_time::TIMESTAMPS;

    const TIMESTAMP: i64 = 1_795_478_400_123;

    /// The table in section 2 of the contract.
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
    fn ids_are_those_of_the_contract() {
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
    fn text_that_is_no_id_is_refused() {
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
    fn coordinates_beyond_the_id_are_told() {
        let at = |partition, offset| Coordinates { partition, offset, timestamp: 0 };
        assert_eq!(at(16_383, (1 << 48) - 1).fits_id(), Ok(()));
        for (partition, offset) in [(16_384, 0), (-1, 0), (0, 1 << 48), (0, -1)] {
            let error = at(partition, offset).fits_id().unwrap_err();
            assert_eq!(error, IdSpaceExceeded { partition, offset });
        }
    }

    fn coordinates() -> impl Strategy<Value = Coordinates> {
        (0..=ActivityId::MAX_PARTITION, 0..=ActivityId::MAX_OFFSET, TIMESTAMPS)
            .prop_map(|(partition, offset, timestamp)| Coordinates { partition, offset, timestamp })
    }

    proptest! {
        #[test]
        fn ids_give_back_what_they_were_made_of(bits in 0..=TOPIC_MASK, at in coordinates()) {
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
        fn any_coordinates_give_an_id(bits: u16, partition: i32, offset: i64, timestamp: i64) {
            let id = ActivityId::new(bits, Coordinates { partition, offset, timestamp });
            prop_assert_eq!(ActivityId::from_uuid(*id.as_uuid()), Ok(id));
        }
    }
}
