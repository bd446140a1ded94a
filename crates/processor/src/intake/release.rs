//! Releases partitions: revoked ones when they are drained, lost ones at once. Halts all of them for a restart from the
//! cursors.

use std::time::Instant;

use kafka::Source;

use super::{Intake, Role, assignments::Revoking, source_error};
use crate::ProcessorError;

impl<S: Source> Intake<S> {
    pub(super) fn revoke(&mut self, partitions: Vec<i32>) -> Result<(), ProcessorError> {
        tracing::info!(?partitions, "partitions revoked; draining the batches in flight");
        // A second revocation while one drains: the first has waited long enough.
        if let Some(Revoking { partitions: earlier, .. }) = self.assignments.revoking.take() {
            self.release(&earlier)?;
        }
        partitions.iter().for_each(|&partition| self.gathered.drop_partition(partition));
        // The group is already in its next generation, and these partitions still belong to this member.
        self.owner.set_membership(self.source.membership());
        let deadline = Instant::now() + self.timing.drain;
        self.assignments.revoking = Some(Revoking { partitions, deadline });
        self.finish_revocation()
    }

    pub(super) fn finish_revocation(&mut self) -> Result<(), ProcessorError> {
        let Some(revoking) = self.assignments.revoking.take() else { return Ok(()) };
        let is_drained = self.drained(&revoking.partitions);
        if !is_drained && Instant::now() < revoking.deadline {
            self.assignments.revoking = Some(revoking);
            return Ok(());
        }
        let partitions = revoking.partitions;
        if !is_drained {
            tracing::warn!(?partitions, "not drained in time; the next owner publishes what is in flight");
        }
        self.release(&partitions)?;
        // A revoked partition, unlike a lost one, certainly belongs to another member from now on. A follower needs its keys
        // all the same.
        if matches!(self.role, Role::Member(None)) {
            self.log.lock().expect("no holder panics").forget_claims(&partitions);
        }
        self.forget_others();
        Ok(())
    }

    /// Ends the epochs first, so that nothing in flight can still be published, then releases the partitions. Records in the
    /// log how far they are published, since no later append of theirs will do so.
    pub fn release(&mut self, partitions: &[i32]) -> Result<(), ProcessorError> {
        let mut published = self.owner.published();
        // What a follower has appended says nothing about what is published.
        published.retain(|(partition, _)| self.is_member() && partitions.contains(partition));
        self.owner.release(partitions);
        partitions.iter().for_each(|&partition| self.gathered.drop_partition(partition));
        self.assignments.remove(partitions);
        let noted = self.log.lock().expect("no holder panics").record_published(&published);
        if let Role::Member(Some(handover)) = &self.role {
            handover.give(partitions);
        }
        self.source.release(partitions).map_err(source_error)?;
        self.owner.set_membership(self.source.membership());
        Ok(noted?)
    }

    /// Restarts all partitions from their cursors: everything in flight is stale.
    pub(super) fn restart(&mut self) -> Result<(), ProcessorError> {
        let partitions = self.assignments.all_running();
        tracing::warn!(?partitions, "restarting from the committed cursors");
        self.owner.release(&partitions);
        for &partition in &partitions {
            self.gathered.drop_partition(partition);
            self.assignments.halt(partition);
        }
        self.source.halt(&partitions).map_err(source_error)?;
        self.assignments.retry_now();
        Ok(())
    }
}
