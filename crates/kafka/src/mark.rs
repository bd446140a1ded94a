//! The mark in the metadata of every offset that this program commits.
//!
//! Other programs can move a group's offsets: a consumer that joins the group by mistake, or Kafka's own tools. Their offsets
//! carry no mark, so they do not say what is published. A mark also names its own offset: a client that keeps the metadata
//! and moves the offset leaves an invalid mark.

use std::fmt;

use contract::{Decider, Limits};
use uuid::Uuid;

/// The format. A mark of a later version of the program is invalid for this one.
const FORM: &str = "activity-stream/1";

/// What this program knows when it commits an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The log of the process that committed it.
    pub instance: Uuid,
    /// The partition's clock there: the highest valid record timestamp before the offset, as far as that process read.
    pub clock: i64,
    pub rules: RulesHash,
}

/// A checksum of what decisions depend on: limits, reply topics, idempotency window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulesHash(pub u32);

/// The constant part of a process's marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    pub instance: Uuid,
    pub rules: RulesHash,
}

/// An offset of the group to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextOffset {
    pub partition: i32,
    pub offset: i64,
    pub mark: Mark,
}

/// A committed offset of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    /// `None` if another program committed it, or a version of this one without marks.
    pub mark: Option<Mark>,
}

impl Committed {
    /// The instance that committed it, if that is another one: what it has open keeps the offset pending. An offset without a
    /// mark is nobody's.
    #[must_use]
    pub fn former_owner(&self, own: Uuid) -> Option<Uuid> {
        self.mark.map(|mark| mark.instance).filter(|instance| *instance != own)
    }
}

impl RulesHash {
    #[must_use]
    pub fn of(decider: &Decider, window_ms: i64) -> Self {
        let Limits {
            value_bytes,
            output_bytes,
            text_characters,
            targets,
            attachments,
            nesting,
            problems,
            problem_bytes,
        } = *decider.limits();
        let sizes = [
            value_bytes,
            output_bytes,
            text_characters,
            targets,
            attachments,
            nesting,
            problems,
            problem_bytes,
        ];
        let checksum = crc32c::crc32c(&window_ms.to_le_bytes());
        let checksum = sizes
            .iter()
            .fold(checksum, |checksum, size| crc32c::crc32c_append(checksum, &(*size as u64).to_le_bytes()));
        // Each ends with a byte that no name has.
        let names = decider.reply_topics().names().flat_map(|name| [name.as_bytes(), b"\0"]);
        Self(names.fold(checksum, crc32c::crc32c_append))
    }
}

impl fmt::Display for RulesHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Marker {
    #[must_use]
    pub fn mark(&self, clock: i64) -> Mark {
        Mark { instance: self.instance, clock, rules: self.rules }
    }
}

impl Mark {
    /// The longest metadata.
    pub const MOST_BYTES: usize = 132;

    /// The metadata to commit: up to [`Mark::MOST_BYTES`], of the 4,096 that brokers accept by default.
    #[must_use]
    pub fn metadata(&self, offset: i64) -> String {
        let Self { instance, clock, rules } = self;
        format!("{FORM} offset={offset} clock={clock} rules={rules} instance={instance}")
    }

    /// Reads the metadata of an offset. Only exactly what this program writes is a mark.
    #[must_use]
    pub fn read(metadata: &[u8], offset: i64) -> Option<Self> {
        let text = std::str::from_utf8(metadata).ok()?;
        let mut fields = text.strip_prefix(FORM)?.split(' ').skip(1);
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=');
        field("offset")?;
        let clock = field("clock")?.parse().ok()?;
        let rules = RulesHash(u32::from_str_radix(field("rules")?, 16).ok()?);
        let instance = field("instance")?.parse().ok()?;
        Some(Self { instance, clock, rules }).filter(|mark| mark.metadata(offset) == text)
    }
}

impl Committed {
    #[must_use]
    pub fn read(offset: i64, metadata: &[u8]) -> Self {
        Self { offset, mark: Mark::read(metadata, offset) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark() -> Mark {
        let instance = Uuid::from_u128(0x0102_0304_0506_4708_890a_0b0c_0d0e_0f10);
        Mark { instance, clock: 1_795_478_400_123, rules: RulesHash(0xbeef) }
    }

    #[test]
    fn is_written_as_text_that_people_can_read() {
        insta::assert_snapshot!(mark().metadata(40), @"activity-stream/1 offset=40 clock=1795478400123 rules=0000beef instance=01020304-0506-4708-890a-0b0c0d0e0f10");
    }

    #[test]
    fn has_no_more_bytes_than_brokers_are_to_take() {
        let longest = Mark { clock: i64::MIN, rules: RulesHash(u32::MAX), ..mark() };
        assert_eq!(longest.metadata(i64::MAX).len(), Mark::MOST_BYTES);
    }

    proptest! {
        #[test]
        fn is_read_as_it_was_written(instance: u128, clock: i64, rules: u32, offset: i64) {
            let mark = Mark { instance: Uuid::from_u128(instance), clock, rules: RulesHash(rules) };
            let metadata = mark.metadata(offset);
            prop_assert!(metadata.is_ascii() && (offset < 0 || metadata.len() <= Mark::MOST_BYTES));
            prop_assert_eq!(Mark::read(metadata.as_bytes(), offset), Some(mark));
            prop_assert_eq!(Mark::read(metadata.as_bytes(), offset.wrapping_add(1)), None);
        }

        #[test]
        fn other_bytes_are_no_mark(place in 0_usize..130, byte: u8, cut in 0_usize..130) {
            let written = mark().metadata(40).into_bytes();
            let mut other = written.clone();
            let place = place % other.len();
            other[place] = byte;
            // Another clock, instance or checksum is another mark; nothing else is one.
            if let Some(read) = Mark::read(&other, 40) {
                prop_assert_eq!(read.metadata(40).into_bytes(), other);
            }
            prop_assert_eq!(Mark::read(&written[..cut % written.len()], 40), None);
        }
    }

    #[test]
    fn commits_of_other_clients_are_no_mark() {
        let written = mark().metadata(40);
        let longer = format!("{written} ");
        let others: [&[u8]; 6] =
            [b"", b"activity-stream/1", b"\xff", longer.as_bytes(), b"activity-stream/2", b"a host name"];
        for other in others {
            assert_eq!(Mark::read(other, 40), None, "{}", String::from_utf8_lossy(other));
        }
        assert_eq!(Mark::read(written.replace("/1 ", "/2 ").as_bytes(), 40), None);
        assert_eq!(Mark::read(written.replace("beef", "BEEF").as_bytes(), 40), None);
        assert_eq!(Mark::read(written.replace("clock=", "clock=+").as_bytes(), 40), None);
    }

    #[test]
    fn rules_differ_where_a_limit_the_window_or_the_topics_for_replies_do() {
        let limits = Limits::default();
        let of = |limits: &Limits, window_ms, replies: &[&str]| {
            let replies = replies.iter().map(|&name| name.to_owned()).collect();
            RulesHash::of(&Decider::new("commands", limits.clone()).with_reply_topics(replies), window_ms)
        };
        let rules = of(&limits, 60_000, &["ab", "c"]);
        assert_eq!(rules, of(&limits, 60_000, &["c", "ab"]));
        for other in [&["ab"][..], &["a", "bc"], &["abc"], &["ab", "c", "d"], &[]] {
            assert_ne!(rules, of(&limits, 60_000, other), "{other:?}");
        }
        assert_ne!(rules, of(&limits, 60_001, &["ab", "c"]));
        assert_ne!(
            rules,
            of(&Limits { nesting: limits.nesting + 1, ..limits.clone() }, 60_000, &["ab", "c"])
        );
        assert_ne!(rules, of(&Limits { problem_bytes: 1, ..limits.clone() }, 60_000, &["ab", "c"]));
        // As it is in marks that were committed before.
        assert_eq!(of(&limits, 0, &[]).to_string(), "fbc84a93");
    }
}
