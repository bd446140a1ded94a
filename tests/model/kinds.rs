//! Kinds of states that an exploration must include, beside the limits.

use super::{
    following::Followed,
    limits::Limit,
    state::{Instance, NOT_SYNCED, Process, State, Who},
};

pub const REFUSED: &str = "refused";
pub const PENDING: &str = "an offset that a former owner keeps pending";
pub const MOVED: &str = "a transaction with a partition that was released, and one that is held";
pub const GAP: &str = "a gap in a log";
pub const BEHIND: &str = "a log behind what is published";
pub const OWNER_FOLLOWS: &str = "an owner that has appended what it follows";
pub const AHEAD: &str = "a follower ahead of what is published";
pub const UNSYNCED: &str = "what was followed is not on the disk";
pub const WARMING: &str = "a process that is not warm";

pub fn kind(state: &State) -> Option<&'static str> {
    let of_process =
        |is_it: fn(&Process) -> bool| state.instances.iter().any(|instance| is_it(&instance.process));
    let of_log =
        |is_it: fn(&State, &Instance) -> bool| state.instances.iter().any(|instance| is_it(state, instance));
    let of_anybody = |is_it: fn(&State, Who) -> bool| state.everybody().any(|who| is_it(state, who));
    let kinds = [
        (REFUSED, of_process(|process| *process == Process::Refused)),
        (PENDING, of_anybody(waits_for_another)),
        (MOVED, of_anybody(has_moved_in_part)),
        (GAP, of_log(|_, instance| instance.logs.iter().any(|log| log.gaps != 0))),
        (BEHIND, of_log(is_behind)),
        (UNSYNCED, of_anybody(|state, who| who != NOT_SYNCED && state.instance(who).synced.is_some())),
        (OWNER_FOLLOWS, of_anybody(holds_and_follows)),
        (AHEAD, of_anybody(is_ahead)),
        (WARMING, of_process(|process| matches!(process, Process::Warming(_)))),
    ];
    let limit = state.limit.map(Limit::name);
    limit.or(kinds.into_iter().find(|(_, is_it)| *is_it).map(|(kind, _)| kind))
}

/// An offset of what it has to start is pending, and its mark names another instance.
fn waits_for_another(state: &State, who: Who) -> bool {
    let is_pending = |partition: u8| {
        let committed = state.kafka.partition(partition).committed;
        let is_others = committed.is_some_and(|found| found.mark.is_some_and(|mark| mark.instance != who));
        is_others && state.kafka.is_pending(partition)
    };
    let waits = |partition: u8| {
        let assignment = state.session(who).map(|session| session.assignment(partition));
        assignment.is_some_and(|found| found.is_assigned && found.running.is_none()) && is_pending(partition)
    };
    state.partitions().any(waits)
}

fn has_moved_in_part(state: &State, who: Who) -> bool {
    let (Some(session), Some(open)) = (state.session(who), state.kafka.client(who).transaction) else {
        return false;
    };
    let is_held = |partition: i32| session.held.contains_key(&partition);
    let mut parts =
        (0..).zip(open.parts).filter(|(_, part)| part.is_some()).map(|(partition, _)| is_held(partition));
    parts.next().is_some_and(|first| parts.any(|other| other != first))
}

fn is_behind(state: &State, instance: &Instance) -> bool {
    let mut logs = instance.logs.iter().zip(&state.kafka.partitions);
    logs.any(|(log, topic)| log.logged < topic.published)
}

fn holds_and_follows(state: &State, who: Who) -> bool {
    let Some((session, follower)) = state.session(who).zip(state.follower(who)) else { return false };
    let has_followed = |partition: u8| {
        let is_followed = matches!(follower.followed(partition), Followed::Up { .. });
        let may_append = follower.shares.may_append(partition.into());
        is_followed && may_append && state.log(who, partition).logged > 0
    };
    !session.held.is_empty() && state.partitions().any(has_followed)
}

fn is_ahead(state: &State, who: Who) -> bool {
    let Some(follower) = state.follower(who) else { return false };
    state.partitions().any(|partition| {
        let is_followed = matches!(follower.followed(partition), Followed::Up { .. });
        is_followed && state.log(who, partition).logged > state.kafka.partition(partition).published
    })
}
