//! What librdkafka's callbacks note for the thread that polls.
//!
//! A callback only notes a rebalance; the polling thread acts on it. An assignment needs offsets that may take seconds, a
//! revocation waits for the pipeline to drain, and a blocked callback would delay a stop. librdkafka stays in its join
//! state until the partitions are assigned or unassigned.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    types::RDKafkaRespErr,
};

use super::{
    Polled,
    context::{Context, Group, client_error},
    native,
    reader::is_group_denied,
    topic_id::TopicId,
};

/// What the callbacks record for the polling thread.
#[derive(Debug)]
pub(crate) struct Notes {
    rebalances: Mutex<VecDeque<Polled>>,
    assigned: Mutex<Assigned>,
    pub closing: AtomicBool,
    /// The brokers said that this user may not use the group.
    pub is_denied: AtomicBool,
    pub topic_id: TopicId,
    /// The last error.
    error: Mutex<Option<String>>,
}

/// What is assigned, and to which id. A close waits until all is unassigned: one call ends that, and a second one would never
/// return if the close has ended in between. A static member's close ends at once: it asks the group nothing.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    /// By the group.
    partitions: BTreeSet<i32>,
    /// The id of the member that was last assigned partitions, be it none.
    pub member_id: Option<String>,
    /// librdkafka waits for the answer to a revocation.
    pub is_revoking: bool,
    /// By the close.
    is_unassigned: bool,
}

impl Assigned {
    fn lose(&mut self, partitions: Vec<i32>) -> Vec<Polled> {
        self.partitions.retain(|partition| !partitions.contains(partition));
        // It may come back under the same id.
        self.member_id = None;
        vec![Polled::Lost(partitions)]
    }

    fn assign(&mut self, mut partitions: Vec<i32>, member_id: Option<String>) -> Vec<Polled> {
        let lost = self.come_back_as(member_id);
        partitions.extend(&lost);
        self.partitions.extend(&partitions);
        let lost = (!lost.is_empty()).then_some(Polled::Lost(lost));
        lost.into_iter().chain([Polled::Assigned(partitions)]).collect()
    }

    fn revoke(&mut self, partitions: Vec<i32>, member_id: Option<String>) -> Vec<Polled> {
        let lost = self.come_back_as(member_id);
        if lost.is_empty() {
            self.partitions.retain(|partition| !partitions.contains(partition));
            return vec![Polled::Revoked(partitions)];
        }
        let kept: Vec<i32> =
            lost.iter().copied().filter(|partition| !partitions.contains(partition)).collect();
        self.partitions.extend(&kept);
        vec![Polled::Lost(lost), Polled::Assigned(kept)]
    }

    /// What was assigned to another id. A static member whose session ended while it joined again comes back under a new one,
    /// and librdkafka keeps its partitions without a word (`rd_kafka_cgrp_handle_JoinGroup`), but others may have owned them in
    /// between.
    fn come_back_as(&mut self, member_id: Option<String>) -> Vec<i32> {
        // Without one, it is about to get another.
        if member_id.is_none() || member_id == self.member_id {
            return Vec::new();
        }
        self.member_id = member_id;
        mem::take(&mut self.partitions).into_iter().collect()
    }
}

impl Notes {
    pub fn of(topic: &str) -> Arc<Self> {
        Arc::new(Self {
            rebalances: Mutex::default(),
            assigned: Mutex::default(),
            closing: AtomicBool::new(false),
            is_denied: AtomicBool::new(false),
            topic_id: TopicId::of(topic),
            error: Mutex::default(),
        })
    }

    pub fn context(self: &Arc<Self>, is_member: bool) -> Context {
        let (log, errors) = (Arc::clone(self), Arc::clone(self));
        let context = Context::default().on_log(move |_, line| log.topic_id.hear(line));
        let context = context.on_error(move |error, reason| {
            errors.hear(reason.to_owned());
            if is_group_denied(error) {
                errors.is_denied.store(true, Ordering::SeqCst);
            }
            // Outside the group, the caller reports the error.
            if is_member {
                client_error(error, reason);
            }
        });
        context.member(self.clone())
    }

    pub fn hear(&self, error: String) {
        *self.error.lock().expect("never poisoned") = Some(error);
    }

    /// The last error, once.
    pub fn take_error(&self) -> Option<String> {
        self.error.lock().expect("never poisoned").take()
    }

    pub fn rebalances(&self) -> MutexGuard<'_, VecDeque<Polled>> {
        self.rebalances.lock().expect("never poisoned")
    }

    pub fn assigned(&self) -> MutexGuard<'_, Assigned> {
        self.assigned.lock().expect("never poisoned")
    }

    /// While closing, librdkafka takes any call for "unassign all"; once closed, it would never answer one.
    fn unassign_all(&self, consumer: &BaseConsumer<Context>) {
        if !mem::replace(&mut self.assigned().is_unassigned, true)
            && !consumer.closed()
            && let Err(error) = consumer.unassign()
        {
            tracing::debug!(%error, "unassign while closing");
        }
    }
}

impl Group for Notes {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Context>,
        event: RDKafkaRespErr,
        partitions: &TopicPartitionList,
    ) {
        if self.closing.load(Ordering::SeqCst) {
            self.unassign_all(consumer);
            return;
        }
        let numbers: Vec<i32> = partitions.elements().iter().map(|element| element.partition()).collect();
        let member_id = native::generation(consumer.client()).map(|(_, member_id)| member_id);
        let polled = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // Completes librdkafka's join; the partitions start when their offsets are known.
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                tracing::warn!(%error, "could not acknowledge an assignment");
            }
            self.assigned().assign(numbers, member_id)
        } else {
            let mut assigned = self.assigned();
            assigned.is_revoking = true;
            // The loss is forgotten if other partitions are started before this call; one without an id has lost all.
            if consumer.assignment_lost() || member_id.is_none() {
                assigned.lose(numbers)
            } else {
                assigned.revoke(numbers, member_id)
            }
        };
        self.rebalances().extend(polled);
    }

    fn leaving(&self, consumer: &BaseConsumer<Context>) {
        // If there is more to unassign, the close calls back.
        let is_waited_for = {
            let assigned = self.assigned();
            assigned.is_revoking || !assigned.partitions.is_empty()
        };
        if is_waited_for {
            self.unassign_all(consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_assigned_to_another_id_was_lost() {
        let mut assigned = Assigned::default();
        let as_id = |id: &str| Some(id.to_owned());
        let said = |polled: Vec<Polled>| format!("{polled:?}");
        assert_eq!(said(assigned.assign(vec![0, 1, 2], as_id("a"))), "[Assigned([0, 1, 2])]");
        assert_eq!(said(assigned.revoke(vec![2], as_id("a"))), "[Revoked([2])]");
        assert_eq!(said(assigned.assign(vec![], None)), "[Assigned([])]");
        assert_eq!(said(assigned.revoke(vec![1], as_id("b"))), "[Lost([0, 1]), Assigned([0])]");
        assert_eq!(said(assigned.assign(vec![3], as_id("c"))), "[Lost([0]), Assigned([3, 0])]");
        assert_eq!(said(assigned.lose(vec![0, 3])), "[Lost([0, 3])]");
        assert_eq!(said(assigned.assign(vec![0], as_id("c"))), "[Assigned([0])]");
    }
}
