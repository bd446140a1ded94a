//! Where a partition starts: the rule of the two cursors, and what it depends on.
//!
//! `logged` is the next offset that the log lacks, `published` the next offset whose output is not published. Reading
//! begins at `min(logged, published)`. A record at offset `o` is decided and appended if `o >= logged`; below that, the log
//! has the decision. Its output is published if `o >= published`. If one of the two cursors would be a guess, the
//! partition does not start, and the refusal contains the facts and the ways out.

use contract::Record;
use event_log::{Anchor, Cursor, Gap};
use kafka::{
    Bounds,
    mark::{Committed, Marker},
};
use thiserror::Error;

/// A loss that the operator can accept to get past a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Commands were deleted before anyone decided them: continue after them.
    LostCommands,
    /// How far the output is published is unknown: publish again from the last known offset. Some output may be
    /// published twice.
    Republish,
    /// How far the output is published is unknown: continue after everything that the log has or has seen published.
    /// Some output may never be published.
    SkipUnpublished,
    /// How far the output is published is unknown: trust the group's offset, whoever committed it.
    GroupOffset,
}

impl Loss {
    pub const ALL: [Self; 4] =
        [Self::LostCommands, Self::Republish, Self::SkipUnpublished, Self::GroupOffset];

    /// The name for `--accept` and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LostCommands => "lost-commands",
            Self::Republish => "republish",
            Self::SkipUnpublished => "skip-unpublished",
            Self::GroupOffset => "group-offset",
        }
    }
}

/// The losses that are accepted for one start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accept {
    pub lost_commands: bool,
    pub republish: bool,
    pub skip_unpublished: bool,
    pub group_offset: bool,
}

impl FromIterator<Loss> for Accept {
    fn from_iter<I: IntoIterator<Item = Loss>>(losses: I) -> Self {
        let mut accept = Self::default();
        for loss in losses {
            match loss {
                Loss::LostCommands => accept.lost_commands = true,
                Loss::Republish => accept.republish = true,
                Loss::SkipUnpublished => accept.skip_unpublished = true,
                Loss::GroupOffset => accept.group_offset = true,
            }
        }
        accept
    }
}

/// The terms on which partitions start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub accept: Accept,
    pub marker: Marker,
    pub plan: Plan,
}

/// The rule: [`plan`].
pub(crate) type Plan = fn(&Facts, Accept) -> Result<Start, Refusal>;

/// The facts about a partition that this instance is about to start.
#[derive(Debug, Clone)]
pub struct Facts {
    pub partition: i32,
    /// The log's cursor; `None` if this log has never seen the partition.
    pub cursor: Option<Cursor>,
    /// The group's committed offset.
    pub committed: Option<Committed>,
    pub bounds: Bounds,
    /// The record that is now at the cursor's anchor; `None` if there is none, or none was read.
    pub at_anchor: Option<AtAnchor>,
}

impl Facts {
    /// How far the output is published at least, as far as the group or the log says.
    #[must_use]
    pub fn published_by_group(&self) -> Option<i64> {
        let marked = self.committed.filter(|found| found.mark.is_some()).map(|found| found.offset);
        marked.max(self.cursor.and_then(|cursor| cursor.published_seen))
    }
}

/// The record found at the anchor's offset.
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

/// Where and how a partition starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The first offset to read.
    pub offset: i64,
    pub logged: i64,
    pub published: i64,
    /// The partition's clock at `published`, as far as known.
    pub clock: i64,
    /// Offsets that this log will never have.
    pub gap: Option<Gap>,
    /// The losses that had to be accepted, and why; the log records them.
    pub accepted: Vec<(Loss, String)>,
}

impl Start {
    /// Whether the group's offset has to be committed again with this marker before anything is published. From then on, an
    /// absent or lower offset means that Kafka lost it, and one without a mark that somebody else moved it. If the group's
    /// offset differed from this start, or had no mark, the next start could not tell. And whoever takes the partition over
    /// learns from the mark whose transaction may be open.
    #[must_use]
    pub fn has_to_commit(&self, facts: &Facts, marker: Marker) -> bool {
        let is_own = |found: Committed| found.mark.is_some_and(|mark| mark.instance == marker.instance);
        facts.committed.is_none_or(|found| found.offset != self.published || !is_own(found))
    }
}

/// Why a partition does not start. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error(
        "partition {partition}: commands were deleted before they were decided: the next one to publish is \
         {published}, and the topic holds {start} to {end}. Restore the topic, or start once with \
         '--accept lost-commands' to continue at {start}; the log records that"
    )]
    CommandsLost { partition: i32, published: i64, start: i64, end: i64 },
    #[error(
        "partition {}: the group's committed offset is {}, but this log has seen {} published and was not stopped \
         cleanly, so what is published is unknown (the log goes up to {}, the topic holds {} to {}). Start once with \
         {}",
        .0.partition, found(*.0), .0.seen, .0.logged, .0.bounds.start, .0.bounds.end, ways_out(*.0)
    )]
    PublishedUnknown(Doubt),
    #[error(
        "partition {}: the group's committed offset {} was not committed by this program with a mark: another consumer \
         is in the group, somebody set the offset, or version 0.1.0, which left no marks, committed it (then '--accept \
         group-offset' is right). {} (the topic holds {} to {}). Remove other consumers from the group, then start once \
         with {}",
        .0.partition, found(*.0), at_stake(*.0), .0.bounds.start, .0.bounds.end, ways_out(*.0)
    )]
    ForeignOffset(Doubt),
    #[error(
        "partition {partition}: this is not the topic that the log was made from: the log's last record is at \
         offset {offset} with timestamp {wanted_timestamp} and checksum {wanted_checksum:08x}, and the topic has \
         {found} there. The topic was created again, belongs to another cluster, or lost records. Name the right \
         cluster and topic, or keep this log aside and start with a new file and a new group"
    )]
    OtherTopic { partition: i32, offset: i64, wanted_timestamp: i64, wanted_checksum: u32, found: String },
    #[error(
        "partition {partition}: the {cursor} cursor is at {at}, beyond the topic's end (it holds {start} to \
         {end}). The topic was created again, belongs to another cluster, or lost records. Name the right cluster \
         and topic, or keep this log aside and start with a new file and a new group"
    )]
    BeyondEnd { partition: i32, cursor: &'static str, at: i64, start: i64, end: i64 },
    /// Only of a partition that is followed.
    #[error(
        "partition {partition}: commands were deleted from the topic, which holds {start} to {end}, before this log had \
         read them (it goes up to {logged}), and nothing says that they were published: it is followed once the group \
         has committed {start} or more with a mark"
    )]
    Undecided { partition: i32, logged: i64, start: i64, end: i64 },
}

/// The facts about a partition whose `published` cursor is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    pub partition: i32,
    /// The group's committed offset.
    pub found: Option<i64>,
    /// Whether this log has seen the partition before.
    pub is_known: bool,
    /// What the log has seen published; the topic's start if the log has never seen the partition.
    pub seen: i64,
    pub logged: i64,
    pub bounds: Bounds,
}

impl Doubt {
    /// After everything in the log, and after everything it has seen published, which is more if the log lost its tail.
    fn after_log(&self) -> i64 {
        self.logged.max(self.seen)
    }

    /// The accepted loss that resolves the doubt, and where to continue.
    fn settled_by(&self, accept: Accept) -> Option<(Loss, i64)> {
        match self.found {
            _ if accept.republish => Some((Loss::Republish, self.seen)),
            _ if accept.skip_unpublished => Some((Loss::SkipUnpublished, self.after_log())),
            Some(found) if accept.group_offset => Some((Loss::GroupOffset, found)),
            _ => None,
        }
    }
}

fn found(doubt: Doubt) -> String {
    doubt.found.map_or("absent".to_owned(), |offset| offset.to_string())
}

/// What an offset that somebody else committed would skip or repeat.
fn at_stake(Doubt { found, is_known, seen, logged, bounds, .. }: Doubt) -> String {
    let found = found.unwrap_or(bounds.start);
    if !is_known {
        let unpublished = if found > bounds.start {
            format!(
                "the output of offsets {} to {} may never have been published, and ",
                bounds.start,
                found - 1
            )
        } else {
            String::new()
        };
        return format!(
            "This log has never seen the partition: {unpublished}output from {found} on may be published already"
        );
    }
    let log = format!("This log has seen {seen} published and goes up to {logged}");
    match found {
        ahead if ahead > seen => {
            format!("{log}; the output of offsets {seen} to {} may never have been published", ahead - 1)
        }
        behind if behind < seen => {
            format!("{log}; the output of offsets {behind} to {} is published already", seen - 1)
        }
        _ => format!("{log} and was not stopped cleanly; output from {seen} on may be published already"),
    }
}

fn ways_out(doubt: Doubt) -> String {
    let (seen, after_log) = (doubt.seen, doubt.after_log());
    let skip = if doubt.is_known {
        format!(", '--accept skip-unpublished' to continue at {after_log} (some may never be published)")
    } else {
        String::new()
    };
    let group = match doubt.found {
        Some(found) => format!("'--accept group-offset' to continue at {found}"),
        None => {
            "set the group's offset and start once with '--accept group-offset' to continue there".to_owned()
        }
    };
    format!(
        "'--accept republish' to publish from {seen} (some may be published twice){skip}, or {group}; the \
         log records that"
    )
}

/// The anchor, if the topic still retains its offset: the same record must be there.
#[must_use]
pub fn retained_anchor(cursor: Option<&Cursor>, bounds: Bounds) -> Option<&Anchor> {
    cursor?.anchor.as_ref().filter(|anchor| (bounds.start..bounds.end).contains(&anchor.offset))
}

/// Decides where a partition starts.
pub fn plan(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    let Bounds { start, end } = facts.bounds;
    let partition = facts.partition;
    let logged = facts.cursor.as_ref().map_or(0, |cursor| cursor.logged);
    check_same_topic(facts)?;
    let beyond_end = |cursor, at| Refusal::BeyondEnd { partition, cursor, at, start, end };
    // Before everything else: no flag helps if the topic was created again.
    if logged > end {
        return Err(beyond_end("logged", logged));
    }
    if let Some(Committed { offset, .. }) = facts.committed.filter(|found| found.offset > end) {
        return Err(beyond_end("published", offset));
    }
    let mut accepted = Vec::new();

    let mut published = match published(facts, logged) {
        Ok(published) => published,
        Err(refusal) => {
            let settled = match &refusal {
                Refusal::PublishedUnknown(doubt) | Refusal::ForeignOffset(doubt) => doubt.settled_by(accept),
                _ => None,
            };
            let Some((loss, offset)) = settled else { return Err(refusal) };
            accepted.push((loss, refusal.to_string()));
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
        accepted.push((Loss::LostCommands, refusal.to_string()));
        published = start;
    }
    // start <= published <= end: everything below `start` was decided by some process, or accepted as lost above.
    let reason = if accepted.iter().any(|(loss, _)| *loss == Loss::LostCommands) {
        "deleted before they were decided"
    } else {
        UNREAD
    };
    let gap = gap(logged, start, reason);
    let logged = logged.max(start);
    let clock = clock(facts, published);
    Ok(Start { offset: logged.min(published), logged, published, clock, gap, accepted })
}

const UNREAD: &str = "deleted from the topic before this log had read them";

/// What the log lacks between its cursor and the topic's start.
fn gap(logged: i64, start: i64, reason: &str) -> Option<Gap> {
    (logged < start).then(|| Gap { first_offset: logged, next_offset: start, reason: reason.to_owned() })
}

/// Decides where a partition starts that another instance publishes: at `logged`. All of it counts as published.
pub fn plan_following(facts: &Facts, _: Accept) -> Result<Start, Refusal> {
    let Bounds { start, end } = facts.bounds;
    let partition = facts.partition;
    let logged = facts.cursor.as_ref().map_or(0, |cursor| cursor.logged);
    check_same_topic(facts)?;
    if logged > end {
        return Err(Refusal::BeyondEnd { partition, cursor: "logged", at: logged, start, end });
    }
    // As in `plan`: a gap is below `published`. Commands that were deleted before that are a matter for their owner.
    let published = facts.committed.filter(|found| found.mark.is_some());
    if logged < start && published.is_none_or(|published| published.offset < start) {
        return Err(Refusal::Undecided { partition, logged, start, end });
    }
    let gap = gap(logged, start, UNREAD);
    let offset = logged.max(start);
    let clock = facts.cursor.map_or(0, |cursor| cursor.clock);
    Ok(Start { offset, logged: offset, published: offset, clock, gap, accepted: Vec::new() })
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

/// The `published` cursor, if it is known: from an offset that this program committed, or from the log if that is certain.
fn published(facts: &Facts, logged: i64) -> Result<i64, Refusal> {
    let cursor = facts.cursor.as_ref();
    // Absent too if the log has the partition from following it, and nobody in the group had published any of it.
    let seen = cursor.and_then(|cursor| cursor.published_seen);
    // Exact if the log was stopped cleanly. Otherwise it is a lower bound, and an equal offset proves nothing.
    let exact = seen.filter(|_| cursor.is_some_and(|cursor| cursor.clean));
    let doubt = Doubt {
        partition: facts.partition,
        found: facts.committed.map(|found| found.offset),
        is_known: cursor.is_some(),
        seen: seen.unwrap_or(if cursor.is_some() { 0 } else { facts.bounds.start }),
        logged,
        bounds: facts.bounds,
    };
    match facts.committed {
        // What this process had published when it released the partition proves nothing: other members may have
        // published more since.
        Some(Committed { offset, mark: None }) if exact == Some(offset) => Ok(offset),
        Some(Committed { mark: None, .. }) => Err(Refusal::ForeignOffset(doubt)),
        Some(Committed { offset, mark: Some(_) }) if seen.is_none_or(|seen| offset >= seen) => Ok(offset),
        // Nobody has published anything of what this log has, and it begins at 0, or with a gap that somebody has published.
        None if seen.is_none() && cursor.is_some() => Ok(0),
        None if cursor.is_none() => Ok(facts.bounds.start),
        _ => exact.ok_or(Refusal::PublishedUnknown(doubt)),
    }
}

/// The partition's clock at `published`: from the mark there, otherwise from the log. The log's clock is exact if the log
/// goes no further than `published`; if it ends earlier, the records in between will be read.
fn clock(facts: &Facts, published: i64) -> i64 {
    if published == 0 {
        return 0;
    }
    let marked = facts.committed.filter(|found| found.offset == published).and_then(|found| found.mark);
    marked.map_or_else(|| facts.cursor.map_or(0, |cursor| cursor.clock), |mark| mark.clock)
}

#[cfg(test)]
mod tests;
