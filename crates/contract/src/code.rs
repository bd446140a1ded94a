//! The codes that name what is wrong with a command: stable, for programs to tell them apart.

use std::fmt;

/// Declares the codes once, so that the list of all of them cannot miss one.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident => $code:literal,)+) => {
        /// Why a command is rejected.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl Code {
            /// Every code, in the order in which the documentation lists them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code as it is written to Kafka and to the log. Never changes its meaning.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// What the code means, in a line.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning,)+).trim_ascii(),)+
                }
            }
        }
    };
}

codes! {
    /// The record's timestamp is not between the years 1970 and 9999.
    BadTimestamp => "bad_timestamp",
    /// The record's headers can't be read: there are more than 100,000.
    UnreadableHeaders => "unreadable_headers",
    /// The header `idempotency-key` is not given exactly once, with 1 to 255 bytes of UTF-8.
    BadIdempotencyKey => "bad_idempotency_key",
    /// A record with an idempotency key has no record key, so its repetitions could land in other partitions.
    IdempotencyKeyWithoutRecordKey => "idempotency_key_without_record_key",
    /// A command with other content came before with the same idempotency key.
    IdempotencyKeyReused => "idempotency_key_reused",
    /// A record says that it is a CloudEvent and is not one, or one without JSON data, or gives an attribute twice.
    BadCloudEvent => "bad_cloud_event",
    /// A header of a request for a reply (`kafka_replyTopic`, `kafka_replyPartition`, `kafka_correlationId`) is not
    /// what it must be.
    BadReplyHeader => "bad_reply_header",
    /// The reply is wanted on a topic that replies may not go to.
    ReplyTopicNotAllowed => "reply_topic_not_allowed",
    /// The record has no value.
    Tombstone => "tombstone",
    /// The value has more bytes than a command may have.
    TooLarge => "too_large",
    /// The value is not UTF-8.
    NotUtf8 => "not_utf8",
    /// The value is not JSON.
    NotJson => "not_json",
    /// The value is JSON, but not an object.
    NotAnObject => "not_an_object",
    /// Arrays and objects are nested too deep.
    TooDeep => "too_deep",
    /// A required property is absent or null.
    Missing => "missing",
    /// A value is of another JSON type than the field wants.
    WrongType => "wrong_type",
    /// A string that must not be empty is.
    Empty => "empty",
    /// A string has more characters than an id, type, verb or name may have.
    TooLong => "too_long",
    /// An id, type, verb or name holds a control character.
    ControlCharacter => "control_character",
    /// A string holds half of a UTF-16 surrogate pair and is therefore no text.
    UnpairedSurrogate => "unpaired_surrogate",
    /// A value is none of those that the contract knows.
    UnknownValue => "unknown_value",
    /// An identity or a target has a property that the contract does not know.
    UnknownProperty => "unknown_property",
    /// One name is given twice, or two names for one field.
    DuplicateProperty => "duplicate_property",
    /// `publishedAt` (or `published`) is not a date-time with offset as RFC 3339 has it.
    BadDateTime => "bad_date_time",
    /// A property is named almost `targets`, and would publish to everyone what was meant for a few.
    MisspeltTargets => "misspelt_targets",
    /// A property is named as another vocabulary names an audience (`cc`, `to`, `audience`, …), and would publish to
    /// everyone what was meant for a few.
    ForeignAudience => "foreign_audience",
    /// A target of type `Everyone` or `Public` has a `targetId`: it would reach all where one was meant.
    UnexpectedTargetId => "unexpected_target_id",
    /// `targets` is null or an empty array: an audience of nobody.
    NoTargets => "no_targets",
    /// There are more targets than a command may have.
    TooManyTargets => "too_many_targets",
    /// There are more attachments than a command may have.
    TooManyAttachments => "too_many_attachments",
    /// The command's notifications would have more bytes than one command's output may have.
    OutputTooLarge => "output_too_large",
    /// There were more problems than are reported.
    TooManyProblems => "too_many_problems",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_snake_case_with_a_meaning() {
        let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(
                code.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || b"_8".contains(&byte)),
                "{code}"
            );
            assert!(code.meaning().ends_with('.'), "{code}: {}", code.meaning());
        }
    }
}
