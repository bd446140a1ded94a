//! The steps, and what each does, as a sentence.

use std::fmt;

use super::state::{Accepted, Membership, State, Who};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    // What others do, sooner or later.
    Post,
    Start(Who),
    Warm(Who),
    Assign(Who),
    Expire(Who),
    TimeOut(Who),
    // What a process does.
    Learn(Who),
    Hold(Who),
    Decide(Who, u8),
    Append(Who),
    DropDecided(Who),
    DropAppended(Who),
    Send(Who),
    AddOffset(Who),
    Commit(Who),
    Recover(Who),
    Refresh(Who),
    Release(Who),
    Lose(Who),
    Halt(Who),
    // What it does while another one may publish.
    Join(Who),
    Follow(Who),
    ReadFollowed(Who, u8),
    AppendFollowed(Who),
    Note(Who),
    StopFollowing(Who),
    // Faults.
    Fault(Fault),
    // What may happen after a fault, or before it.
    Arrive(Who),
    Copy(Who),
    /// A person who knows what is published.
    Resolve(Who, Accepted),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    HandOver(Who),
    Evict(Who),
    Crash(Who),
    PowerLoss(Who),
    Stop(Who),
    Restore(Who),
    /// The outcome is unknown, and it was committed.
    CommitUnnoticed(Who),
    /// The outcome is unknown, and the request is on its way.
    CommitLate(Who),
    Abort(Who),
    TimeOutEarly(Who),
    CommitAsOther(u8),
    ForgetOffset,
    Delete(u8),
}

impl Step {
    /// Whether it happens sooner or later.
    pub fn is_progress(self) -> bool {
        !matches!(self, Self::Fault(_) | Self::Arrive(_) | Self::Copy(_) | Self::Resolve(..))
    }

    pub fn sentence(self, before: &State) -> String {
        match self {
            Self::Post => format!("Somebody posts the command at offset {}.", before.kafka.end),
            Self::Start(who) => format!("{who} starts, and joins the group."),
            Self::Warm(who) => format!("{who} starts, and stays outside of the group."),
            Self::Assign(who) => format!("The group assigns the partition to {who}."),
            Self::Expire(who) => format!("The session of {who} times out: it is no member any more."),
            Self::TimeOut(who) => format!("The open transaction of {who} times out, and is aborted."),
            Self::Learn(who) => format!(
                "{who} learns where to start: the group's offset is {}, and its log goes to {}.",
                committed(before),
                logged(before, who)
            ),
            Self::Hold(who) => match before.session(who).and_then(|session| session.planned) {
                Some(planned) => format!(
                    "{who} starts the partition at offset {}, with logged {} and published {}.",
                    planned.offset, planned.logged, planned.published
                ),
                None => unreachable!("it has planned where to start"),
            },
            Self::Decide(who, next) => format!("{who} reads up to offset {next}."),
            Self::Append(who) => format!("{who} takes {} through its log.", chunk(before, who, false)),
            Self::DropDecided(who) => format!("{who} drops {}.", chunk(before, who, false)),
            Self::DropAppended(who) => {
                format!("{who} publishes nothing of {}.", chunk(before, who, true))
            }
            Self::Send(who) => format!("{who} begins to publish {}.", chunk(before, who, true)),
            Self::AddOffset(who) => format!(
                "{who} adds its offset to the transaction, with {} membership.",
                match before.session(who).and_then(|session| session.attempt) {
                    Some(Membership::Current) => "its current",
                    Some(Membership::Old) | None => "an old",
                }
            ),
            Self::Commit(who) => format!("{who} commits the transaction, and moves published."),
            Self::Recover(who) => format!("{who} makes a new producer, and drops what is in flight."),
            Self::Refresh(who) => format!("{who} learns the membership of the present generation."),
            Self::Release(who) => format!("{who} releases the partition."),
            Self::Lose(who) => format!("{who} notices that it lost the partition, and joins again."),
            Self::Halt(who) => format!("{who} finds that the next command was deleted, and starts over."),
            Self::Join(who) => {
                format!("{who} joins the group, with a log that goes to {}.", logged(before, who))
            }
            Self::Follow(who) => {
                format!("{who} follows the partition, with a log that goes to {}.", logged(before, who))
            }
            Self::ReadFollowed(who, next) => format!("The follower of {who} reads up to offset {next}."),
            Self::AppendFollowed(who) => format!("The follower of {who} appends what it has read."),
            Self::Note(who) => {
                format!("The follower of {who} notes that the group has committed {}.", committed(before))
            }
            Self::StopFollowing(who) => {
                format!("The follower of {who} finds that the next command was deleted, and starts over.")
            }
            Self::Fault(fault) => fault.sentence(before),
            Self::Arrive(who) => format!("The late commit of {who} arrives."),
            Self::Copy(who) => {
                format!("Somebody copies the log of {who}, which goes to {}.", logged(before, who))
            }
            Self::Resolve(who, Accepted::Nothing) => format!("A person starts {who} again."),
            Self::Resolve(who, accepted) => format!("A person starts {who} and accepts {accepted:?}."),
        }
    }
}

impl Fault {
    fn sentence(self, before: &State) -> String {
        match self {
            Self::HandOver(who) => format!("The group revokes the partition of {who}."),
            Self::Evict(who) => format!("The group removes {who}, which does not know it yet."),
            Self::Crash(who) => format!("{who} is killed."),
            Self::PowerLoss(who) => format!("The power of {who} fails, and its log loses the last write."),
            Self::Stop(who) => format!("{who} is stopped, and leaves the group."),
            Self::Restore(who) => format!("Somebody replaces the log of {who} by an earlier copy."),
            Self::CommitUnnoticed(who) => format!("{who} commits the transaction, and gets no answer."),
            Self::CommitLate(who) => format!("{who} gets no answer: its commit is still on its way."),
            Self::Abort(who) => format!("The broker refuses the transaction of {who}, and aborts it."),
            Self::TimeOutEarly(who) => format!("The transaction of {who} takes too long, and is aborted."),
            Self::CommitAsOther(offset) => {
                format!("Another program commits offset {offset}, in place of {}.", committed(before))
            }
            Self::ForgetOffset => format!("Kafka loses the group's offset, which was {}.", committed(before)),
            Self::Delete(start) => format!("The commands below offset {start} are deleted."),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["A", "B"][self.index()])
    }
}

fn logged(state: &State, who: Who) -> u8 {
    state.instances[who.index()].log.logged
}

fn committed(state: &State) -> String {
    match state.kafka.committed {
        None => "absent".to_owned(),
        Some(found) if found.clock.is_none() => format!("{} without a mark", found.offset),
        Some(found) => found.offset.to_string(),
    }
}

/// The batch that the next stage takes.
fn chunk(state: &State, who: Who, is_appended: bool) -> String {
    let session = state.session(who).expect("it runs");
    let chunk = if is_appended { session.appended.or(session.decided) } else { session.decided };
    let chunk = chunk.expect("a batch");
    let old = if chunk.is_current { "" } else { ", of an ended epoch" };
    format!("its batch of offsets {} to {}{old}", chunk.first, chunk.next - 1)
}
