//! Giving partitions back: revoked ones when they are drained, lost ones at once, and all of them where the
//! work goes back to the cursors.

use std::time::Instant;

use kafka::Source;

use super::{Intake, source_error};
use crate::ProcessorError;

impl<S: Source> Intake<S> {
    pub(super) fn revoke(&mut self, partitions: Vec<i32>) -> Result<(), ProcessorError> {
        tracing::info!(?partitions, "partitions revoked; finishing what is in flight");
        // A second revocation while one drains: the first has waited long enough to be told so.
        if let Some((earlier, _)) = self.revoking.take() {
            self.release(&earlier)?;
        }
        for partition in &partitions {
            self.drop_pending(*partition);
        }
        // The group is in its next generation already, and these partitions are still this member's.
        self.owner.set_membership(self.source.membership());
        self.revoking = Some((partitions, Instant::now() + self.timing.drain));
        self.finish_revocation()
    }

    pub(super) fn finish_revocation(&mut self) -> Result<(), ProcessorError> {
        let Some((partitions, deadline)) = self.revoking.take() else { return Ok(()) };
        if !self.drained(partitions.iter()) {
            if Instant::now() < deadline {
                self.revoking = Some((partitions, deadline));
                return Ok(());
            }
            tracing::warn!(?partitions, "not drained in time; what is in flight is left to the next owner");
        }
        self.release(&partitions)?;
        // Revoked is not lost: the brokers gave it to somebody else.
        self.forget_others();
        Ok(())
    }

    /// Ends the epochs first, so that nothing in flight can be published any more, then gives them back. What is
    /// known to be published of them is noted: no append of theirs comes that would do it.
    pub(super) fn release(&mut self, partitions: &[i32]) -> Result<(), ProcessorError> {
        let mut published = self.owner.published();
        published.retain(|(partition, _)| partitions.contains(partition));
        self.owner.release(partitions);
        // Lost while it drained: were it still taken for revoked, its next assignment would be given back.
        let is_over = |partition: &i32| partitions.contains(partition);
        if let Some((revoked, _)) = &mut self.revoking {
            revoked.retain(|partition| !is_over(partition));
        }
        self.revoking.take_if(|(revoked, _)| revoked.is_empty());
        for &partition in partitions {
            self.drop_pending(partition);
            self.partitions.remove(&partition);
        }
        let noted = self.log.lock().expect("no holder panics").note_published(&published);
        self.source.release(partitions).map_err(source_error)?;
        self.owner.set_membership(self.source.membership());
        Ok(noted?)
    }

    fn drop_pending(&mut self, partition: i32) {
        for record in self.pending.remove(&partition).unwrap_or_default() {
            self.pending_records -= 1;
            self.pending_bytes -= record.bytes();
        }
    }

    /// Back to the cursors, with everything: what was in flight is void.
    pub(super) fn restart(&mut self) -> Result<(), ProcessorError> {
        let partitions: Vec<_> = self
            .partitions
            .iter_mut()
            .filter_map(|(&number, partition)| partition.running.take().map(|_| number))
            .collect();
        tracing::warn!(?partitions, "going back to the cursors");
        self.owner.release(&partitions);
        for &partition in &partitions {
            self.drop_pending(partition);
        }
        self.source.halt(&partitions).map_err(source_error)?;
        self.retry_now();
        Ok(())
    }
}
