//! Where the promises end, as `docs/guarantees.md` says, or because of what a person accepted.

use super::{
    broker::GroupOffset,
    starting::Planned,
    state::{Partition, State, Who},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The group's offset is gone, and a log starts that has seen nothing published.
    NewLogWithoutOffset,
    /// The group's offset is gone, and more was published after this log's clean stop.
    OldCleanStop,
    /// Another program committed just the offset of this log's clean stop, after which more was published.
    ForeignOffsetOfOldCleanStop,
    /// A person accepted a loss, and the facts changed before the start.
    AcceptedTooLate,
}

impl Limit {
    pub const ALL: [Self; 4] = [
        Self::NewLogWithoutOffset,
        Self::OldCleanStop,
        Self::ForeignOffsetOfOldCleanStop,
        Self::AcceptedTooLate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::NewLogWithoutOffset => "limit: a new log, and no offset",
            Self::OldCleanStop => "limit: an old clean stop, and no offset",
            Self::ForeignOffsetOfOldCleanStop => "limit: another program's offset, at an old clean stop",
            Self::AcceptedTooLate => "limit: a loss accepted too late",
        }
    }
}

/// Why the promises end with this start, if they do.
pub fn limit(state: &State, who: Who, partition: Partition, planned: &Planned) -> Option<Limit> {
    let (log, topic) = (state.log(who, partition), state.kafka.partition(partition));
    let published = topic.published;
    if planned.published == published {
        return None;
    }
    let has_accepted =
        state.session(who).is_some_and(|session| session.assignment(partition).accepts.is_some());
    if planned.had_to_accept && has_accepted {
        return Some(Limit::AcceptedTooLate);
    }
    let is_old_stop = log.is_stopped && log.seen == Some(planned.published) && planned.published < published;
    match topic.committed {
        None if !log.is_known || (log.seen.is_none() && planned.published < published) => {
            Some(Limit::NewLogWithoutOffset)
        }
        None if is_old_stop => Some(Limit::OldCleanStop),
        Some(GroupOffset { offset, mark: None }) if is_old_stop && offset == planned.published => {
            Some(Limit::ForeignOffsetOfOldCleanStop)
        }
        _ => None,
    }
}
