//! Codes of problems: stable, for programs.

use std::fmt;

/// Declares each code once, so that [`Code::ALL`] is complete.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident => $code:literal,)+) => {
        /// Why a command is rejected.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl Code {
            /// All codes, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code in Kafka records and in the log. Its meaning never changes.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// The meaning of the code, in one line.
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
    /// The record has more than 100,000 headers, which can't be read.
    UnreadableHeaders => "unreadable_headers",
    /// The header `idempotency-key` is repeated, or is not 1 to 255 bytes of UTF-8.
    BadIdempotencyKey => "bad_idempotency_key",
    /// A record with an idempotency key has no record key, so repetitions could go to other partitions.
    IdempotencyKeyWithoutRecordKey => "idempotency_key_without_record_key",
    /// The idempotency key was already used for a command with other content.
    IdempotencyKeyReused => "idempotency_key_reused",
    /// The record claims to be a CloudEvent but is not a valid one, has no JSON data, or repeats an attribute.
    BadCloudEvent => "bad_cloud_event",
    /// A header of a request for a reply (`kafka_replyTopic`, `kafka_replyPartition`, `kafka_correlationId`) is invalid.
    BadReplyHeader => "bad_reply_header",
    /// The command requests a reply on a topic that the processor does not allow.
    ReplyTopicNotAllowed => "reply_topic_not_allowed",
    /// The record has no value.
    Tombstone => "tombstone",
    /// The value is larger than a command may be.
    TooLarge => "too_large",
    /// The value is not UTF-8.
    NotUtf8 => "not_utf8",
    /// The value is not JSON.
    NotJson => "not_json",
    /// The value is JSON, but not an object.
    NotAnObject => "not_an_object",
    /// Arrays and objects are nested too deeply.
    TooDeep => "too_deep",
    /// A required property is absent or null.
    Missing => "missing",
    /// A value has a different JSON type than its field requires.
    WrongType => "wrong_type",
    /// A string is empty where it must not be.
    Empty => "empty",
    /// An id, type, verb or name has too many characters.
    TooLong => "too_long",
    /// An id, type, verb or name contains a control character.
    ControlCharacter => "control_character",
    /// A string contains half of a UTF-16 surrogate pair, so it is not Unicode text.
    UnpairedSurrogate => "unpaired_surrogate",
    /// A value is not one of those that the contract allows.
    UnknownValue => "unknown_value",
    /// An identity or a target has a property that the contract does not allow.
    UnknownProperty => "unknown_property",
    /// A property is repeated, or given under two names of the same field.
    DuplicateProperty => "duplicate_property",
    /// `publishedAt` (or `published`) is not a date-time with offset as in RFC 3339.
    BadDateTime => "bad_date_time",
    /// A property's name is almost `targets`. If it were ignored, the activity would be visible to everyone.
    MisspeltTargets => "misspelt_targets",
    /// A property has the name of an audience in another vocabulary (`cc`, `to`, `audience`, …). If it were ignored, the
    /// activity would be visible to everyone.
    ForeignAudience => "foreign_audience",
    /// A target of type `Everyone` or `Public` has a `targetId`, but would reach everyone.
    UnexpectedTargetId => "unexpected_target_id",
    /// `targets` is null or empty, so nobody could see the activity.
    NoTargets => "no_targets",
    /// The command has too many targets.
    TooManyTargets => "too_many_targets",
    /// The command has too many attachments.
    TooManyAttachments => "too_many_attachments",
    /// The notifications would be larger than the output of one command may be.
    OutputTooLarge => "output_too_large",
    /// The command has more problems than are reported.
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
    fn codes_are_unique_and_in_snake_case_and_have_a_meaning() {
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
