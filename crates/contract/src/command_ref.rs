//! References to commands: by partition and offset, or by activity id.

use std::{fmt, str::FromStr};

use serde::Serialize;
use thiserror::Error;

use crate::id::{ActivityId, topic_bits};

/// The partition and offset of a command in the commands topic, displayed as `PARTITION:OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PartitionOffset {
    pub partition: i32,
    pub offset: i64,
}

/// A command, as a person refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandRef {
    At(PartitionOffset),
    /// Contains partition, offset and some bits of the topic's name.
    Id(ActivityId),
}

/// The id belongs to another topic, so its partition and offset mean nothing here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{id} is an id from another topic than '{topic}' (checksum {found:03x} instead of {wanted:03x}); set --commands-topic \
     to that topic, or use PARTITION:OFFSET"
)]
pub struct IdOfOtherTopic {
    id: ActivityId,
    topic: String,
    found: u16,
    wanted: u16,
}

/// Neither `PARTITION:OFFSET` nor an activity id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected PARTITION:OFFSET, such as 3:12345, or an activity id")]
pub struct NotACommandRef;

impl fmt::Display for PartitionOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for PartitionOffset {
    type Err = NotACommandRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, offset) = text.split_once(':').ok_or(NotACommandRef)?;
        match (partition.parse(), offset.parse()) {
            (Ok(partition), Ok(offset)) if partition >= 0 && offset >= 0 => Ok(Self { partition, offset }),
            _ => Err(NotACommandRef),
        }
    }
}

impl FromStr for CommandRef {
    type Err = NotACommandRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Id).or_else(|_| text.parse().map(Self::At))
    }
}

impl CommandRef {
    /// The partition and offset in this commands topic.
    ///
    /// # Errors
    ///
    /// [`IdOfOtherTopic`] for an id from a topic with another name.
    pub fn on(self, topic: &str) -> Result<PartitionOffset, IdOfOtherTopic> {
        match self {
            Self::At(at) => Ok(at),
            Self::Id(id) => {
                let (found, wanted) = (id.topic_bits(), topic_bits(topic));
                if found != wanted {
                    return Err(IdOfOtherTopic { id, topic: topic.to_owned(), found, wanted });
                }
                Ok(PartitionOffset { partition: id.partition(), offset: id.offset() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: PartitionOffset = PartitionOffset { partition: 3, offset: 12_345 };
    const ID: &str = "01a20ada-2c7b-89d1-8003-000000003039";

    #[test]
    fn reads_both_kinds_of_references() {
        assert_eq!("3:12345".parse(), Ok(CommandRef::At(AT)));
        assert_eq!(ID.parse(), Ok(CommandRef::Id(ID.parse().unwrap())));
        for wrong in ["", "3", "3:", ":1", "-1:1", "1:-1", "a:b", "1:2:3"] {
            assert_eq!(wrong.parse::<CommandRef>(), Err(NotACommandRef), "{wrong}");
        }
    }

    #[test]
    fn resolves_an_id_only_on_its_own_topic() {
        let id = ID.parse::<CommandRef>().unwrap();
        assert_eq!(id.on("activity.commands"), Ok(AT));
        let error = id.on("Aktivität").unwrap_err();
        assert_eq!((error.found, error.wanted), (0x9d1, 0x8a9));
        assert_eq!("3:12345".parse::<CommandRef>().unwrap().on("Aktivität"), Ok(AT));
    }
}
