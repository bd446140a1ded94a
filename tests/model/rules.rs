//! The production code that the model calls by a name that can be replaced, and the ways to break the rest on purpose.

use contract::{Claim, Decision, Event, IdempotencyKey};
use processor::{Accept, Facts, Refusal, Start};

pub type Plan = fn(&Facts, Accept) -> Result<Start, Refusal>;
pub type Settle = fn(Event, Option<IdempotencyKey>, Option<&Claim>, i64, i64) -> Decision;

/// What the program decides by.
#[derive(Clone, Copy)]
pub struct Rules {
    pub plan: Plan,
    pub plan_following: Plan,
    pub settle: Settle,
    pub broken: Option<Break>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            plan: processor::plan,
            plan_following: processor::plan_following,
            settle: contract::settle,
            broken: None,
        }
    }
}

/// A break of what surrounds these functions: of a step that the model does as the processor does it, or of what it asks the
/// processor's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The append and the move of `logged` are not one transaction: a crash comes between.
    CursorApart,
    /// The claims of keys and `logged` are not moved by one transaction: a crash comes between.
    ClaimsApart,
    /// A record below `logged` is decided again instead of read from the log.
    DecideAgain,
    /// Output is published before the log has it.
    PublishFirst,
    /// Output that is published already is published too.
    PublishAll,
    /// Output of a partition that was released is published with that of another one that is still held.
    OutliveAssignment,
    /// A batch of an earlier epoch is published if its partition is held again.
    PublishAnyEpoch,
    /// A batch of an earlier epoch is appended if its partition is held again.
    AppendAnyEpoch,
    /// A transaction whose outcome is unknown is retried, without reading `published` again.
    RetryUnknown,
    /// The offsets are committed without the group's membership.
    AnyMembership,
    /// A member that was removed joins again before it ends its epochs.
    MembershipFirst,
    /// The group's offset is read while a transaction that moves it is open.
    UnstableOffset,
    /// The offset at which a partition starts is not committed with a mark before anything is published.
    FirstOffsetLeft,
    /// Whoever takes a partition over leaves the mark of the instance before it at the offset.
    MarkLeft,
    /// A member keeps the membership that it joined with.
    NeverRefresh,
    /// A transaction that was refused for its membership is retried with the same one.
    RetryAtOnce,
    /// An append records what it appends as published.
    SeenEarly,
    /// The mark of a clean stop outlives the next start and the next append.
    CleanForEver,
    /// The mark of a clean stop counts in the log that another instance begins with.
    CleanTravels,
    /// A stop that abandons work in flight is recorded as clean.
    CleanInFlight,
    /// What is followed is published too.
    PublishFollowed,
    /// The follower appends what it has read of a partition that the session has taken.
    AppendTaken,
    /// The session takes the partition from the follower after it has read the log's cursor.
    TakeLate,
    /// A process joins a group that has members, whatever its log lacks.
    JoinCold,
    /// The follower records what it appends as published.
    SeeFollowed,
}
