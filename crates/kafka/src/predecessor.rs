//! Aborts the transactions that former owners of partitions have left open.
//!
//! An instance that is killed or frozen in the middle of a transaction leaves the offsets of its partitions pending. Their
//! next owner has to know them (KIP-447), and the brokers abort the transaction only after its time-out, for which they look
//! every ten seconds. The next owner need not wait: it fences the transactional ids of the instance that committed last,
//! which the offset's mark names, and the brokers abort what those have open before they answer.
//!
//! Nothing is lost by it. The new owner is in a generation of the group in which the former one can add no offsets to a
//! transaction any more, so this one either takes place as a whole before, or not at all. But an instance that is fenced for
//! nothing has to make new producers, so it takes more than a late answer: see `Predecessors::is_pending`.

use std::{collections::BTreeMap, thread, time::Duration};

use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};
use uuid::Uuid;

use super::{
    Settings, client,
    context::Context,
    mark::Committed,
    member::Member,
    native,
    offsets::{self, is_late},
    repeats::{self, Origin},
    transactional,
};

/// How long the offset of a partition stays pending before its transaction is aborted: many times as long as a transaction
/// takes, and short beside a member's session. One that another instance has aborted is older than this.
pub const PENDING: Duration = Duration::from_millis(500);
/// For the first answer to a new client.
const CONNECT: Duration = Duration::from_secs(5);

/// A member's generation and id.
pub(crate) type Generation = (i32, String);
/// By partition, what the group has committed, whether more is pending or not.
pub(crate) type Found = BTreeMap<i32, Committed>;

/// Fences former owners of partitions whose offsets stay pending.
#[derive(Debug, Clone)]
pub(crate) struct Predecessors {
    settings: Settings,
    transactional_id_prefix: String,
    own: Uuid,
    /// After these offsets a transaction was aborted.
    aborted: Found,
}

impl Predecessors {
    pub fn new(settings: &Settings, transactional_id_prefix: &str, own: Uuid) -> Self {
        let (settings, transactional_id_prefix) = (settings.clone(), transactional_id_prefix.to_owned());
        Self { settings, transactional_id_prefix, own, aborted: BTreeMap::new() }
    }

    /// Aborts what keeps the offsets of these partitions pending, while the member is in that generation. Blocks for as long
    /// as the brokers take, and logs the outcome. Returns after which offsets something was aborted.
    pub fn abort(
        &self,
        member: &BaseConsumer<Context>,
        generation: &Generation,
        partitions: &[i32],
    ) -> Found {
        let (askers, found) = match self.connect(partitions) {
            Ok(connected) => connected,
            Err(error) => {
                let text = format!(
                    "can't find out whether a former owner left a transaction open; waiting: {error}"
                );
                repeats::warn(Origin::Program, &text);
                return Found::new();
            }
        };
        let is_current = || native::generation(member.client()).as_ref() == Some(generation);
        // At the same time: each takes about a second.
        thread::scope(|scope| {
            let aborting: Vec<_> = owners(found, self.own)
                .into_iter()
                .map(|(instance, of_instance)| {
                    let (askers, is_current) = (&askers, &is_current);
                    scope.spawn(move || {
                        let is_aborted = self.abort_of(instance, &of_instance, askers, is_current);
                        if is_aborted { of_instance } else { Found::new() }
                    })
                })
                .collect();
            aborting.into_iter().flat_map(|aborting| aborting.join().expect("no panic")).collect()
        })
    }

    /// Aborts what this instance has open, of which there is at most one transaction, and returns whether it did.
    fn abort_of(
        &self,
        instance: Uuid,
        of_instance: &Found,
        askers: &Askers,
        is_current: impl Fn() -> bool,
    ) -> bool {
        let mut new = of_instance.iter().filter(|(partition, found)| self.is_new(**partition, found));
        let pending = new.find(|(partition, found)| self.is_pending(askers, **partition, found));
        let Some((partition, Committed { offset, .. })) = pending.filter(|_| is_current()) else {
            return false;
        };
        let id = transactional::id(&self.transactional_id_prefix, &self.settings.group, instance);
        match transactional::fence(&self.settings, &id) {
            Ok(()) => {
                tracing::warn!(
                    kafka.partition = partition,
                    kafka.offset = offset,
                    %instance,
                    "fenced the former owner of this partition, to abort the transaction that it had left open"
                );
                true
            }
            Err(error) => {
                let text =
                    format!("a transaction that a former owner left open can't be aborted; waiting: {error}");
                repeats::warn(Origin::Program, &text);
                false
            }
        }
    }

    /// The brokers can lose the end of a transaction, and no fencing helps against that: it is tried once after each offset.
    pub fn set_aborted(&mut self, aborted: Found) {
        self.aborted.extend(aborted);
    }

    /// The offsets of these partitions are known: what was aborted has ended.
    pub fn forget(&mut self, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            self.aborted.remove(&partition);
        }
    }

    fn is_new(&self, partition: i32, found: &Committed) -> bool {
        self.aborted.get(&partition) != Some(found)
    }

    /// Whether a transaction that stays open keeps the offset from being known. `found` was found before; that it is found
    /// again afterwards shows that the brokers do answer, and that nobody publishes the partition.
    fn is_pending(&self, askers: &Askers, partition: i32, found: &Committed) -> bool {
        let ask = |asker| self.ask(asker, &[partition], PENDING);
        ask(&askers.waiting).is_err_and(|error| is_late(&error))
            && ask(&askers.prompt).is_ok_and(|now| now.get(&partition) == Some(found))
    }

    /// Clients that have a coordinator, and what is found without waiting for what is pending.
    fn connect(&self, partitions: &[i32]) -> KafkaResult<(Askers, Found)> {
        let client = |isolation: &str| -> KafkaResult<Member> {
            let mut properties = client::outside(&self.settings);
            properties.set("isolation.level", isolation);
            Ok(Member::new(properties.create_with_context(Context::quiet())?))
        };
        let askers = Askers { waiting: client("read_committed")?, prompt: client("read_uncommitted")? };
        let found = self.ask(&askers.prompt, partitions, CONNECT)?;
        // Of a partition that does not exist, nothing can be pending: any answer will do.
        match self.ask(&askers.waiting, &[i32::MAX], CONNECT) {
            Err(error) if is_late(&error) => Err(error),
            _ => Ok((askers, found)),
        }
    }

    fn ask(&self, asker: &Member, partitions: &[i32], within: Duration) -> KafkaResult<Found> {
        let committed = offsets::committed(asker, &self.settings.topics.commands, partitions, within)?;
        Ok(committed.into_iter().filter_map(|(partition, found)| Some((partition, found?))).collect())
    }
}

/// Outside of the group: on a member's connection to the coordinator, a rebalance holds all answers back.
#[derive(Debug)]
struct Askers {
    /// Waits for the end of a transaction that may change the offset.
    waiting: Member,
    prompt: Member,
}

/// What other instances have committed last, by instance.
fn owners(found: Found, own: Uuid) -> BTreeMap<Uuid, Found> {
    let mut owners: BTreeMap<Uuid, Found> = BTreeMap::new();
    for (partition, found) in found {
        if let Some(instance) = found.former_owner(own) {
            owners.entry(instance).or_default().insert(partition, found);
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Source as _,
        consumer::tests::joined,
        embedded::EmbeddedBroker,
        mark::{Mark, NextOffset, RulesHash},
    };

    const OWN: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn marked(instance: Uuid) -> Mark {
        Mark { instance, clock: 0, rules: RulesHash(0) }
    }

    #[test]
    fn an_offset_is_of_the_instance_that_its_mark_names() {
        let committed = |mark| Committed { offset: 5, mark };
        let found = [(0, None), (1, Some(marked(OWN))), (2, Some(marked(OTHER))), (3, Some(marked(OTHER)))];
        let found: Found = found.into_iter().map(|(partition, mark)| (partition, committed(mark))).collect();
        let others = owners(found, OWN);
        assert_eq!(others.keys().collect::<Vec<_>>(), [&OTHER]);
        assert_eq!(others[&OTHER].keys().collect::<Vec<_>>(), [&2, &3]);
    }

    #[test]
    fn what_was_aborted_after_an_offset_is_not_aborted_again() {
        let mut predecessors = Predecessors::new(&Settings::for_test("", &[]), "p", OWN);
        let committed = |offset, instance| Committed { offset, mark: Some(marked(instance)) };
        predecessors.set_aborted([(1, committed(5, OTHER))].into());
        let is_new =
            |partition, offset, instance| predecessors.is_new(partition, &committed(offset, instance));
        assert!(!is_new(1, 5, OTHER));
        assert!(is_new(1, 6, OTHER) && is_new(2, 5, OTHER) && is_new(1, 5, Uuid::from_u128(3)));
        // Once it is known, another transaction may be open after the same offset.
        predecessors.forget([1]);
        assert!(predecessors.is_new(1, &committed(5, OTHER)));
    }

    /// A late answer is no sign of a transaction.
    #[test]
    fn slow_brokers_fence_nobody() {
        let mut settings = Settings::for_test("", &[("fetch.wait.max.ms", "10")]);
        let broker = EmbeddedBroker::start(&settings.topics).expect("a broker");
        settings.bootstrap_servers = broker.bootstrap_servers();
        let (mut member, membership) = joined(&settings);
        member
            .commit_first(&[NextOffset { partition: 0, offset: 1, mark: marked(OTHER) }])
            .expect("committed");
        let generation = (membership.generation, membership.member_id);
        // Longer than what counts as pending, for every question.
        broker.cluster().broker_round_trip_time(1, PENDING * 6 / 5).expect("slow");
        let predecessors = Predecessors::new(&settings, "p", OWN);
        assert_eq!(predecessors.abort(member.client(), &generation, &[0]), Found::new());
    }
}
