//! What is found, as data; how it is printed is the command line's.

use std::{fmt, path::PathBuf};

use super::VerifyError;

/// What is wrong with a record or a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It should be there and is not.
    Lost,
    /// It is there once more.
    Doubled,
    /// It is there, with another content.
    Altered,
    /// It is there, and should not be.
    Foreign,
    /// It is there, and the log does not find it by its offset.
    Misplaced,
    /// A log's own count of its rows is wrong.
    Miscounted,
}

/// What a record or a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Event,
    Duplicate,
    Rejection,
    Notification,
    /// Commands of which no log says anything.
    Commands,
}

impl What {
    #[must_use]
    pub fn with_article(self) -> &'static str {
        match self {
            Self::Event => "an event",
            Self::Duplicate => "a duplicate",
            Self::Rejection => "a rejection",
            Self::Notification => "a notification",
            Self::Commands => "commands",
        }
    }
}

/// Where a deviation was found, or where something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Logs,
    Log { path: PathBuf, position: Option<i64> },
    Topic { topic: String, at: Option<At> },
}

/// A place in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    pub partition: i32,
    pub offset: i64,
}

/// One thing that is not as deciding the commands again says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    pub kind: Kind,
    pub what: What,
    pub place: Place,
    /// Where the command lies that it belongs to, as far as that can be told.
    pub command: Option<At>,
    /// A notification's id.
    pub id: Option<String>,
    /// A sentence, or the part of one, that says what was found and what was wanted.
    pub details: String,
}

/// Something that could not be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchecked {
    pub topic: String,
    pub partition: i32,
    /// What is concerned lies in `first_offset..next_offset`.
    pub first_offset: i64,
    pub next_offset: i64,
    /// How many are concerned, where that can be told.
    pub count: Option<u64>,
    pub reason: Reason,
}

/// Why something could not be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    NoOffset,
    ForeignOffset,
    Undecided,
    CommandsDeleted,
    NoWitness,
    KeyForgotten,
    OutputDeleted,
    DeletedMeanwhile,
    HeldBack,
    OutputHeldBack,
    LimitUnknown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoOffset => "the group has no committed offset here, so it is not known what must be out",
            Self::ForeignOffset => {
                "the group's committed offset here is not the processor's: another consumer is in the group, or somebody \
                 set it, so it does not say what must be out; only what the logs have seen published was checked. Start \
                 the processor, which says what to do"
            }
            Self::Undecided => {
                "the topic no longer holds what lay here when the group came to it: any command among it was deleted \
                 before it was decided"
            }
            Self::CommandsDeleted => {
                "the topic no longer holds these commands, so they could not be decided again; what the log says \
                 of them was taken for true"
            }
            Self::NoWitness => "neither the topic nor a log holds these commands",
            Self::KeyForgotten => {
                "their idempotency key may have been used by a command that the topic no longer holds: what a log \
                 says that knew that command was taken for true, and another log may differ"
            }
            Self::OutputDeleted => "the output of these commands is not there, and may have been deleted by then",
            Self::DeletedMeanwhile => {
                "these records were deleted while they were checked, before what differs could be read a second time"
            }
            Self::HeldBack => {
                "these records could not be read: a transaction is open in front of them, or the brokers do not \
                 answer"
            }
            Self::OutputHeldBack => {
                "the output of these commands is not there, and may be among what could not be read"
            }
            Self::LimitUnknown => {
                "these rejections leave behind a part of their command, or another part than the topic's present \
                 max.message.bytes asks for; what it was when they were published is not known"
            }
        })
    }
}

/// What was checked, and how it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events, duplicates and rejections together.
    pub commands: u64,
    pub events: u64,
    pub duplicates: u64,
    pub rejections: u64,
    /// That follow from the events.
    pub notifications: u64,
    pub deviations: u64,
    /// Stretches, not records.
    pub unchecked: u64,
}

/// Who is told, as soon as something is known.
pub trait Report {
    fn deviation(&mut self, deviation: &Deviation) -> Result<(), VerifyError>;
    fn unchecked(&mut self, unchecked: &Unchecked) -> Result<(), VerifyError>;
    /// So many more records are to be read.
    fn ahead(&mut self, records: u64);
    /// So many were read.
    fn advanced(&mut self, records: u64);
}
