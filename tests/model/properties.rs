//! What must be true of every state, and of every state at rest.

use processor::LogPartitions;

use super::{
    commands::{Commands, Outcome},
    log::Log,
    state::{BOTH, NOT_SYNCED, Process, State, Who},
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
    check_visible(state, commands)?;
    BOTH.into_iter().try_for_each(|who| check_instance(state, who, commands))?;
    check_replicas(state, commands)?;
    if is_at_rest {
        check_rest(state)?;
        if world.partitions == LogPartitions::All {
            check_followers(state)?;
        }
    }
    let Some(found) = state.kafka.committed.filter(|found| found.clock.is_some()) else {
        return Ok(());
    };
    if found.offset != state.kafka.published {
        return Err(format!(
            "a marked offset says how far the output is published (it is {}, and output is published up to {})",
            found.offset, state.kafka.published
        ));
    }
    if !state.is_clock_guessed && found.clock > Some(commands.clock(0, 0, found.offset)) {
        return Err(format!("the clock in a mark is not ahead of its offset {}", found.offset));
    }
    Ok(())
}

fn check_visible(state: &State, commands: &Commands) -> Result<(), String> {
    let kafka = &state.kafka;
    for offset in 0..kafka.end {
        let found = kafka.visible[usize::from(offset)];
        if found.times > 1 {
            return Err(format!("output is visible at most once (offset {offset})"));
        }
        let is_event = |other: u8| kafka.visible[usize::from(other)].outcome == Some(Outcome::Event);
        if is_event(offset) && (0..offset).any(|other| is_event(other) && commands.repeats(other, offset)) {
            return Err(format!("a repeated command becomes no second event (offset {offset})"));
        }
        let becomes = commands.becomes(offset);
        if found.outcome.is_some_and(|outcome| outcome != becomes) {
            return Err(format!("what is visible is what the contract requires (offset {offset})"));
        }
        if becomes.has_output() && (offset < kafka.published) != (found.times == 1) {
            return Err(format!(
                "output is visible exactly up to the published offset {} (offset {offset})",
                kafka.published
            ));
        }
    }
    Ok(())
}

fn check_instance(state: &State, who: Who, commands: &Commands) -> Result<(), String> {
    let (log, kafka) = (&state.instances[who.index()].log, &state.kafka);
    if log.is_doubled {
        return Err(format!("a log has each command once (the log of {who})"));
    }
    for offset in 0..log.logged {
        let is_right = match log.outcome(offset) {
            Some(outcome) => outcome == commands.becomes(offset),
            None => log.is_gap(offset) && offset < kafka.start,
        };
        if !is_right {
            return Err(format!(
                "every log has the decision that the contract requires (offset {offset} in the log of {who})"
            ));
        }
    }
    if log.seen > Some(kafka.published) {
        return Err(format!("a log has seen no more published than is (the log of {who})"));
    }
    if state.instances[who.index()].process == Process::Refused && !state.is_disturbed {
        return Err(format!("nobody refuses to start unless something was moved or lost ({who})"));
    }
    // A process that ended may have lost what it appended, with its power.
    let open = kafka.transactions[who.index()].filter(|_| state.session(who).is_some());
    if open.is_some_and(|open| !open.is_held) {
        return Err(format!("nothing is published by who does not have the partition ({who})"));
    }
    let durable = state.instances[who.index()].synced.filter(|_| who != NOT_SYNCED).unwrap_or(*log);
    for (offset, output) in (0..).zip(open.into_iter().flat_map(|open| open.outputs)) {
        if output.is_some() && (offset >= durable.logged || durable.outcome(offset) != output) {
            return Err(format!("nothing is published before it is decided in the log (offset {offset})"));
        }
    }
    Ok(())
}

/// Two logs differ in nothing that both have.
fn check_replicas(state: &State, commands: &Commands) -> Result<(), String> {
    let [one, other] = state.instances.map(|instance| instance.log);
    let differs = |offset: u8| {
        let outcomes = one.outcome(offset).zip(other.outcome(offset));
        outcomes.is_some_and(|(one, other)| one != other)
    };
    if let Some(offset) = (0..state.kafka.end).find(|offset| differs(*offset)) {
        return Err(format!("two logs have the same decision (offset {offset})"));
    }
    // A log does not know the clock of what it will never have.
    let clock = |log: Log| log.clock(commands, log.logged);
    let is_comparable = one.logged == other.logged && one.gaps == 0 && other.gaps == 0;
    if is_comparable && clock(one) != clock(other) {
        return Err("two logs that go equally far have the same clock".to_owned());
    }
    Ok(())
}

/// Every log is complete, unless the topic holds less than it lacks, and the group has not committed so much.
fn check_followers(state: &State) -> Result<(), String> {
    let kafka = &state.kafka;
    for (who, instance) in BOTH.into_iter().zip(&state.instances) {
        let lacks_all = instance.log.logged < kafka.start && kafka.marked() < Some(kafka.start);
        if instance.process == Process::Refused || lacks_all {
            continue;
        }
        if instance.log.logged != kafka.end {
            return Err(format!("at rest, every log is complete (the log of {who})"));
        }
        if state.session(who).is_none() {
            return Err(format!("at rest, everybody has joined the group ({who})"));
        }
    }
    Ok(())
}

/// Everything is processed, unless everybody waits for a person.
fn check_rest(state: &State) -> Result<(), String> {
    let kafka = &state.kafka;
    let holds = |who: &Who| state.session(*who).is_some_and(|session| session.held.is_some());
    let Some(owner) = BOTH.into_iter().find(holds) else {
        let is_refused = |who: Who| state.instances[who.index()].process == Process::Refused;
        if BOTH.into_iter().all(is_refused) {
            return Ok(());
        }
        return Err("at rest, somebody has the partition".to_owned());
    };
    if kafka.published != kafka.end {
        return Err("at rest, all output is published".to_owned());
    }
    if state.instances[owner.index()].log.logged != kafka.end {
        return Err(format!("at rest, the owner's log is complete (the log of {owner})"));
    }
    Ok(())
}
