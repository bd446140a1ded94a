//! The steps, and what each does, as a sentence.

use std::fmt;

use super::{
    broker::GroupOffset,
    process::Ends,
    starting::{Accepted, Planned},
    state::{Batch, Chunk, ENDED, Membership, Partition, State, Who},
    world::World,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    // What others do, sooner or later.
    Post(Partition),
    Start(Who),
    Warm(Who),
    Assign(Who, Partition),
    Expire(Who),
    TimeOut(Who),
    // What a process does.
    /// The first one, for that partition, fences the second one.
    Fence(Who, Partition, Who),
    Learn(Who),
    Hold(Who),
    Decide(Who, Ends),
    Append(Who),
    DropDecided(Who),
    DropAppended(Who),
    Send(Who),
    AddOffsets(Who),
    Commit(Who),
    Recover(Who),
    Refresh(Who),
    Release(Who, Partition),
    Lose(Who),
    Halt(Who),
    // What it does while another one may publish.
    Join(Who),
    Know(Who),
    Change(Who),
    Follow(Who, Partition),
    ReadFollowed(Who, Partition, u8),
    AppendFollowed(Who, Partition),
    Note(Who, Partition),
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
    HandOver(Who, Partition),
    Evict(Who),
    Crash(Who),
    /// For good.
    Kill(Who),
    PowerLoss(Who),
    Stop(Who),
    /// The log of the first one, by the copy of the second one.
    Restore(Who, Who),
    /// The outcome is unknown, and it was committed.
    CommitUnnoticed(Who),
    /// The outcome is unknown, and the request is on its way.
    CommitLate(Who),
    Abort(Who),
    /// For nothing: it runs.
    Fence(Who),
    CommitAsOther(Partition, u8),
    ForgetOffset(Partition),
    Delete(Partition, u8),
}

impl Step {
    /// Whether it happens sooner or later.
    pub fn is_progress(self) -> bool {
        !matches!(self, Self::Fault(_) | Self::Arrive(_) | Self::Copy(_) | Self::Resolve(..))
    }

    pub fn sentence(self, before: &State) -> String {
        match self {
            Self::Post(partition) => {
                let offset = before.kafka.partition(partition).end;
                format!("Somebody posts the command at offset {offset} of partition {partition}.")
            }
            Self::Start(who) => format!("{who} starts, and joins the group."),
            Self::Warm(who) => format!("{who} starts, and stays outside of the group."),
            Self::Assign(who, partition) => format!("The group assigns partition {partition} to {who}."),
            Self::Expire(who) => format!("The session of {who} times out: it is no member any more."),
            Self::TimeOut(who) => format!("The open transaction of {who} times out, and is aborted."),
            Self::Fence(who, partition, former) => {
                format!("{who} fences {former}, which keeps the offset of partition {partition} pending.")
            }
            Self::Learn(who) => {
                let facts = each(World::waiting(before, who), |partition| {
                    let (committed, logged) = (committed(before, partition), logged(before, who, partition));
                    format!(
                        "the offset of partition {partition} is {committed}, and its log goes to {logged}"
                    )
                });
                format!("{who} learns where to start: {facts}.")
            }
            Self::Hold(who) => format!("{who} starts: {}.", planned(before, who)),
            Self::Decide(who, ends) => {
                let ends =
                    (0..).zip(ends).filter_map(|(partition, end): (Partition, _)| Some((partition, end?)));
                let ends = each(ends, |(partition, end)| format!("offset {end} of partition {partition}"));
                format!("{who} reads up to {ends}.")
            }
            Self::Append(who) => format!("{who} takes {} through its log.", batch(before, who, false)),
            Self::DropDecided(who) => format!("{who} drops {}.", batch(before, who, false)),
            Self::DropAppended(who) => format!("{who} publishes nothing of {}.", batch(before, who, true)),
            Self::Send(who) => format!("{who} begins to publish {}.", batch(before, who, true)),
            Self::AddOffsets(who) => format!(
                "{who} adds the offsets to the transaction, with {} membership.",
                match before.session(who).and_then(|session| session.attempt) {
                    Some(Membership::Current) => "its current",
                    Some(Membership::Old) | None => "an old",
                }
            ),
            Self::Commit(who) => format!("{who} commits the transaction, and moves published."),
            Self::Recover(who) => format!("{who} makes a new producer, and drops what is in flight."),
            Self::Refresh(who) => format!("{who} learns the membership of the present generation."),
            Self::Release(who, partition) => format!("{who} releases partition {partition}."),
            Self::Lose(who) => format!("{who} notices that it lost its partitions, and joins again."),
            Self::Halt(who) => format!("{who} finds that the next command was deleted, and starts over."),
            Self::Join(who) => {
                format!("{who} joins the group, with a log that goes to {}.", logs(before, who))
            }
            Self::Know(who) => format!("{who} hears which partitions others have."),
            Self::Change(who) => format!("The follower of {who} hears of the next change of its partitions."),
            Self::Follow(who, partition) => format!(
                "{who} follows partition {partition}, with a log that goes to {}.",
                logged(before, who, partition)
            ),
            Self::ReadFollowed(who, partition, next) => {
                format!("The follower of {who} reads up to offset {next} of partition {partition}.")
            }
            Self::AppendFollowed(who, partition) => {
                format!("The follower of {who} appends what it has read of partition {partition}.")
            }
            Self::Note(who, partition) => format!(
                "The follower of {who} notes that the group has committed {} of partition {partition}.",
                committed(before, partition)
            ),
            Self::StopFollowing(who) => {
                format!("The follower of {who} finds that the next command was deleted, and starts over.")
            }
            Self::Fault(fault) => fault.sentence(before),
            Self::Arrive(who) => format!("The late commit of {who} arrives."),
            Self::Copy(who) => {
                format!("Somebody copies the log of {who}, which goes to {}.", logs(before, who))
            }
            Self::Resolve(who, Accepted::Nothing) => format!("A person starts {who} again."),
            Self::Resolve(who, accepted) => format!("A person starts {who} and accepts {accepted:?}."),
        }
    }
}

impl Fault {
    fn sentence(self, before: &State) -> String {
        match self {
            Self::HandOver(who, partition) => format!("The group revokes partition {partition} of {who}."),
            Self::Evict(who) => format!("The group removes {who}, which does not know it yet."),
            Self::Crash(who) => format!("{who} is killed."),
            Self::Kill(who) => format!("{who} is killed, and never starts again."),
            Self::PowerLoss(who) => format!("The power of {who} fails, and its log loses the last write."),
            Self::Stop(who) => format!("{who} is stopped, and leaves the group."),
            Self::Restore(who, of) => {
                format!("Somebody replaces the log of {who} by an earlier copy of that of {of}.")
            }
            Self::CommitUnnoticed(who) => format!("{who} commits the transaction, and gets no answer."),
            Self::CommitLate(who) => format!("{who} gets no answer: its commit is still on its way."),
            Self::Abort(who) => format!("The broker refuses the transaction of {who}, and aborts it."),
            Self::Fence(who) => format!("{who} is fenced for nothing, and what it has open is aborted."),
            Self::CommitAsOther(partition, offset) => format!(
                "Another program commits offset {offset} of partition {partition}, in place of {}.",
                committed(before, partition)
            ),
            Self::ForgetOffset(partition) => format!(
                "Kafka loses the group's offset of partition {partition}, which was {}.",
                committed(before, partition)
            ),
            Self::Delete(partition, start) => {
                format!("The commands below offset {start} of partition {partition} are deleted.")
            }
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["A", "B", "C"][self.index()])
    }
}

fn each<T>(all: impl IntoIterator<Item = T>, sentence: impl FnMut(T) -> String) -> String {
    all.into_iter().map(sentence).collect::<Vec<_>>().join(", and ")
}

fn logged(state: &State, who: Who, partition: Partition) -> u8 {
    state.log(who, partition).logged
}

fn logs(state: &State, who: Who) -> String {
    each(state.partitions(), |partition| {
        format!("{} in partition {partition}", logged(state, who, partition))
    })
}

fn planned(state: &State, who: Who) -> String {
    let session = state.session(who).expect("it runs");
    each(session.assigned(|assignment| assignment.planned.is_some()), |partition| {
        let planned = session.assignment(partition).planned.expect("only these");
        let Planned { offset, logged, published, .. } = planned;
        format!("partition {partition} at offset {offset}, with logged {logged} and published {published}")
    })
}

fn committed(state: &State, partition: Partition) -> String {
    match state.kafka.partition(partition).committed {
        None => "absent".to_owned(),
        Some(GroupOffset { offset, mark: None }) => format!("{offset} without a mark"),
        Some(GroupOffset { offset, mark: Some(mark) }) => {
            format!("{offset} with the mark of {}", mark.instance)
        }
    }
}

/// The batch that the next stage takes.
fn batch(state: &State, who: Who, is_appended: bool) -> String {
    let session = state.session(who).expect("it runs");
    let is_there = is_appended && !session.appended.is_empty();
    let batch: &Batch = if is_there { &session.appended } else { &session.decided };
    let chunks = each(batch, |Chunk { partition, epoch, first, next, .. }| {
        let old = if *epoch == ENDED { ", of an ended epoch" } else { "" };
        format!("offsets {first} to {} of partition {partition}{old}", next - 1)
    });
    format!("its batch of {chunks}")
}
