//! What must be true of every state, and of every state at rest.

use processor::LogPartitions;

use super::{
    commands::{Commands, Outcome},
    log::Log,
    state::{NOT_SYNCED, Partition, Process, State, Who},
    world::World,
};

pub fn check(state: &State, is_at_rest: bool, world: &World) -> Result<(), String> {
    let commands = &world.commands;
    if state.limit.is_some() {
        return Ok(());
    }
    if state.has_joined_cold {
        return Err("whoever joins a group that has members lacks no more than it may".to_owned());
    }
    for partition in state.partitions() {
        check_visible(state, partition, commands)?;
        check_mark(state, partition, commands)?;
        for who in state.everybody() {
            check_log(state, who, partition, commands)?;
            let others = state.others(who).filter(|other| other.0 < who.0);
            others
                .into_iter()
                .try_for_each(|other| check_replicas(state, partition, [other, who], commands))?;
        }
    }
    state.everybody().try_for_each(|who| check_process(state, who))?;
    if is_at_rest {
        check_rest(state)?;
        if world.log_partitions == LogPartitions::All {
            check_followers(state)?;
        }
    }
    Ok(())
}

fn check_visible(state: &State, partition: Partition, commands: &Commands) -> Result<(), String> {
    let topic = state.kafka.partition(partition);
    for offset in 0..topic.end {
        let at = format_args!("offset {offset} of partition {partition}");
        let found = topic.visible[usize::from(offset)];
        if found.times > 1 {
            return Err(format!("output is visible at most once ({at})"));
        }
        let is_event = |other: u8| topic.visible[usize::from(other)].outcome == Some(Outcome::Event);
        if is_event(offset) && (0..offset).any(|other| is_event(other) && commands.repeats(other, offset)) {
            return Err(format!("a repeated command becomes no second event ({at})"));
        }
        let becomes = commands.becomes(offset);
        if found.outcome.is_some_and(|outcome| outcome != becomes) {
            return Err(format!("what is visible is what the contract requires ({at})"));
        }
        if becomes.has_output() && (offset < topic.published) != (found.times == 1) {
            return Err(format!(
                "output is visible exactly up to the published offset {} ({at})",
                topic.published
            ));
        }
    }
    Ok(())
}

fn check_mark(state: &State, partition: Partition, commands: &Commands) -> Result<(), String> {
    let topic = state.kafka.partition(partition);
    let Some((offset, mark)) = topic.committed.and_then(|found| Some((found.offset, found.mark?))) else {
        return Ok(());
    };
    if offset != topic.published {
        return Err(format!(
            "a marked offset says how far the output is published (it is {offset}, and output of partition {partition} is \
             published up to {})",
            topic.published
        ));
    }
    if !state.is_clock_guessed && mark.clock > commands.clock(offset) {
        return Err(format!(
            "the clock in a mark is not ahead of its offset {offset} of partition {partition}"
        ));
    }
    Ok(())
}

fn check_log(state: &State, who: Who, partition: Partition, commands: &Commands) -> Result<(), String> {
    let (log, topic) = (state.log(who, partition), state.kafka.partition(partition));
    if log.is_doubled {
        return Err(format!("a log has each command once (partition {partition} in the log of {who})"));
    }
    for offset in 0..log.logged {
        let is_right = match log.outcome(offset) {
            Some(outcome) => outcome == commands.becomes(offset),
            None => log.is_gap(offset) && offset < topic.start,
        };
        if !is_right {
            return Err(format!(
                "every log has the decision that the contract requires (offset {offset} of partition {partition} in the \
                 log of {who})"
            ));
        }
    }
    if log.seen > Some(topic.published) {
        return Err(format!(
            "a log has seen no more published than is (partition {partition} in the log of {who})"
        ));
    }
    Ok(())
}

fn check_process(state: &State, who: Who) -> Result<(), String> {
    let instance = state.instance(who);
    if instance.process == Process::Refused && !state.is_disturbed {
        return Err(format!("nobody refuses to start unless something was moved or lost ({who})"));
    }
    // A process that ended may have lost what it appended, with its power.
    let open = state.kafka.client(who).transaction.filter(|_| state.session(who).is_some());
    let durable = instance.synced.as_ref().filter(|_| who != NOT_SYNCED).unwrap_or(&instance.logs);
    for (partition, part) in (0..).zip(open.into_iter().flat_map(|open| open.parts)) {
        let Some(part) = part else { continue };
        if !part.is_held {
            return Err(format!(
                "nothing is published by who does not have the partition ({partition}, {who})"
            ));
        }
        let log: &Log = &durable[partition];
        for (offset, output) in (0..).zip(part.outputs) {
            if output.is_some() && (offset >= log.logged || log.outcome(offset) != output) {
                return Err(format!(
                    "nothing is published before it is decided in the log (offset {offset} of partition {partition})"
                ));
            }
        }
    }
    Ok(())
}

/// Two logs differ in nothing that both have.
fn check_replicas(
    state: &State,
    partition: Partition,
    pair: [Who; 2],
    commands: &Commands,
) -> Result<(), String> {
    let [one, other] = pair.map(|who| state.log(who, partition));
    let differs = |offset: &u8| {
        let outcomes = one.outcome(*offset).zip(other.outcome(*offset));
        outcomes.is_some_and(|(one, other)| one != other)
    };
    if let Some(offset) = (0..state.kafka.partition(partition).end).find(differs) {
        return Err(format!("two logs have the same decision (offset {offset} of partition {partition})"));
    }
    // A log does not know the clock of what it will never have.
    let clock = |log: &Log| log.clock(commands, log.logged);
    let is_comparable = one.logged == other.logged && one.gaps == 0 && other.gaps == 0;
    if is_comparable && clock(one) != clock(other) {
        return Err(format!("two logs that go equally far have the same clock (partition {partition})"));
    }
    Ok(())
}

/// Every log is complete, unless the topic holds less than it lacks, and the group has not committed so much.
fn check_followers(state: &State) -> Result<(), String> {
    let waits = |who: &Who| matches!(state.instance(*who).process, Process::Refused | Process::Gone);
    for who in state.everybody().filter(|who| !waits(who)) {
        for partition in state.partitions() {
            let (log, topic) = (state.log(who, partition), state.kafka.partition(partition));
            let lacks_all = log.logged < topic.start && topic.marked() < Some(topic.start);
            if !lacks_all && log.logged != topic.end {
                return Err(format!(
                    "at rest, every log is complete (partition {partition} in the log of {who})"
                ));
            }
            if !lacks_all && state.session(who).is_none() {
                return Err(format!("at rest, everybody has joined the group ({who})"));
            }
        }
    }
    Ok(())
}

/// Everything is processed, unless everybody is gone or waits for a person.
fn check_rest(state: &State) -> Result<(), String> {
    let works = |who: Who| !matches!(state.instance(who).process, Process::Refused | Process::Gone);
    if !state.everybody().any(works) {
        return Ok(());
    }
    for partition in state.partitions() {
        let topic = state.kafka.partition(partition);
        let holds = |who: &Who| {
            state.session(*who).is_some_and(|session| session.held.contains_key(&partition.into()))
        };
        let Some(owner) = state.everybody().find(holds) else {
            return Err(format!("at rest, somebody has the partition ({partition})"));
        };
        if topic.published != topic.end {
            return Err(format!("at rest, all output is published (partition {partition})"));
        }
        if state.log(owner, partition).logged != topic.end {
            return Err(format!(
                "at rest, the owner's log is complete (partition {partition} in the log of {owner})"
            ));
        }
    }
    Ok(())
}
