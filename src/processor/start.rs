//! Where a partition is taken up: the rule of the two cursors, and what it leans on.
//!
//! `logged` is the next offset that the log lacks, `published` the next offset whose output is not out.
//! Reading begins at `min(logged, published)`. A record at `o >= logged` is decided and appended; below
//! it the log is the decision. What is at `o >= published` is published. Anything that would make one of
//! the two a guess stops here, with the facts and the ways out.

use thiserror::Error;

use crate::{
    activity::Record,
    event_log::{Anchor, Cursor, Gap},
    kafka::Bounds,
};

/// The ways out of a stop, each chosen by the operator for one start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accept {
    /// Go on behind commands that were deleted before anyone decided them.
    pub lost_commands: bool,
    /// What was published is unknown: publish again from where it was last seen. Some may be told twice.
    pub republish: bool,
    /// What was published is unknown: take everything for published that is in the log or was seen published. Some
    /// may never be told.
    pub skip_unpublished: bool,
}

/// All that is known of a partition when this instance is to take it up.
#[derive(Debug, Clone)]
pub struct Facts {
    pub partition: i32,
    /// The log's cursor; `None` where this log has never seen the partition.
    pub cursor: Option<Cursor>,
    /// The group's committed offset.
    pub committed: Option<i64>,
    pub bounds: Bounds,
    /// The record that now lies at the cursor's anchor; `None` where nothing was read or nothing is there.
    pub at_anchor: Option<AtAnchor>,
}

/// What a re-read of the anchor's offset found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtAnchor {
    Nothing,
    Record { timestamp: i64, checksum: u32 },
}

impl From<Option<&Record>> for AtAnchor {
    fn from(record: Option<&Record>) -> Self {
        match record {
            None => Self::Nothing,
            Some(record) => {
                Self::Record { timestamp: record.coordinates.timestamp, checksum: record.checksum() }
            }
        }
    }
}

const LOST_COMMANDS: &str = "lost-commands";

/// Where and how the partition is taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The first offset to read.
    pub offset: i64,
    pub logged: i64,
    pub published: i64,
    /// Offsets that this log will never hold.
    pub gap: Option<Gap>,
    /// The flags that were needed, and why; the log records them.
    pub accepted: Vec<(&'static str, String)>,
}

/// Why a partition is not taken up. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error(
        "partition {partition}: commands were deleted before they were decided: the next one to publish is \
         {published}, and the topic holds {start} to {end}. Restore the topic, or start once with \
         '--accept lost-commands' to go on at {start}; the log records that"
    )]
    CommandsLost { partition: i32, published: i64, start: i64, end: i64 },
    #[error(
        "partition {partition}: the group's committed offset is {found}, but this log has seen {seen} \
         published and was not stopped cleanly, so what is published is unknown (the log goes up to {logged}, \
         the topic holds {start} to {end}). Restore the group's offset, or start once with '--accept republish' \
         to publish from {seen} (some may be told twice) or '--accept skip-unpublished' to go on at {behind} \
         (some may never be told); the log records that"
    )]
    PublishedUnknown {
        partition: i32,
        found: String,
        seen: i64,
        logged: i64,
        behind: i64,
        start: i64,
        end: i64,
    },
    #[error(
        "partition {partition}: this is not the topic that the log was made from: the log's last record is at \
         offset {offset} with timestamp {wanted_timestamp} and checksum {wanted_checksum:08x}, and the topic has \
         {found} there. The topic was made again, belongs to another cluster, or lost records. Name the right \
         cluster and topic, or keep this log aside and start with a new file and a new group"
    )]
    OtherTopic { partition: i32, offset: i64, wanted_timestamp: i64, wanted_checksum: u32, found: String },
    #[error(
        "partition {partition}: the {cursor} cursor is at {at}, beyond the topic's end (it holds {start} to \
         {end}). The topic was made again, belongs to another cluster, or lost records. Name the right cluster \
         and topic, or keep this log aside and start with a new file and a new group"
    )]
    BeyondEnd { partition: i32, cursor: &'static str, at: i64, start: i64, end: i64 },
}

/// The anchor, where the topic still holds its offset and so must show the same record there.
#[must_use]
pub fn retained_anchor(cursor: Option<&Cursor>, bounds: Bounds) -> Option<&Anchor> {
    cursor?.anchor.as_ref().filter(|anchor| (bounds.start..bounds.end).contains(&anchor.offset))
}

/// Decides where a partition is taken up.
pub fn plan(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    let Bounds { start, end } = facts.bounds;
    let partition = facts.partition;
    let logged = facts.cursor.as_ref().map_or(0, |cursor| cursor.logged);
    check_same_topic(facts)?;
    let beyond_end = |cursor, at| Refusal::BeyondEnd { partition, cursor, at, start, end };
    // Before anything else is asked: no flag helps with a topic that was made again.
    if logged > end {
        return Err(beyond_end("logged", logged));
    }
    let mut accepted = Vec::new();

    let mut published = match published(facts, logged) {
        Ok(published) => published,
        Err(refusal) => {
            let (flag, offset) = match &refusal {
                Refusal::PublishedUnknown { seen, .. } if accept.republish => ("republish", *seen),
                Refusal::PublishedUnknown { behind, .. } if accept.skip_unpublished => {
                    ("skip-unpublished", *behind)
                }
                _ => return Err(refusal),
            };
            accepted.push((flag, refusal.to_string()));
            offset
        }
    };
    if published > end {
        return Err(beyond_end("published", published));
    }
    if published < start {
        let refusal = Refusal::CommandsLost { partition, published, start, end };
        if !accept.lost_commands {
            return Err(refusal);
        }
        accepted.push((LOST_COMMANDS, refusal.to_string()));
        published = start;
    }
    // start <= published <= end: whatever lies below `start` was decided by somebody, or given up above.
    let gap = (logged < start).then(|| Gap {
        first_offset: logged,
        next_offset: start,
        reason: if accepted.iter().any(|(flag, _)| *flag == LOST_COMMANDS) {
            "deleted before they were decided".to_owned()
        } else {
            "deleted from the topic before this log had read them".to_owned()
        },
    });
    let logged = logged.max(start);
    Ok(Start { offset: logged.min(published), logged, published, gap, accepted })
}

fn check_same_topic(facts: &Facts) -> Result<(), Refusal> {
    let Some(anchor) = retained_anchor(facts.cursor.as_ref(), facts.bounds) else { return Ok(()) };
    let found = match facts.at_anchor {
        Some(AtAnchor::Record { timestamp, checksum })
            if (timestamp, checksum) == (anchor.timestamp, anchor.checksum) =>
        {
            return Ok(());
        }
        Some(AtAnchor::Record { timestamp, checksum }) => {
            format!("a record with timestamp {timestamp} and checksum {checksum:08x}")
        }
        Some(AtAnchor::Nothing) | None => "no record".to_owned(),
    };
    Err(Refusal::OtherTopic {
        partition: facts.partition,
        offset: anchor.offset,
        wanted_timestamp: anchor.timestamp,
        wanted_checksum: anchor.checksum,
        found,
    })
}

/// The `published` cursor, where it is known.
fn published(facts: &Facts, logged: i64) -> Result<i64, Refusal> {
    let Some(cursor) = &facts.cursor else {
        // Where the group is, or at the beginning.
        return Ok(facts.committed.unwrap_or(facts.bounds.start));
    };
    let seen = cursor.published_seen.unwrap_or(0);
    match facts.committed {
        Some(committed) if committed >= seen => Ok(committed),
        _ if cursor.clean => Ok(seen),
        committed => Err(Refusal::PublishedUnknown {
            partition: facts.partition,
            found: committed.map_or("absent".to_owned(), |offset| offset.to_string()),
            seen,
            logged,
            // A log that lost its tail has seen more published than it holds.
            behind: logged.max(seen),
            start: facts.bounds.start,
            end: facts.bounds.end,
        }),
    }
}

#[cfg(test)]
mod tests;
