//! Whether topics and logs are what deciding every command again says that they must be.
//!
//! What should exist is made anew from the commands; what exists is read from the logs and from the topics of the
//! output. The two come in different orders and are larger than memory, so they are first compared as sums that do
//! not depend on order, by partition and range of commands, and record by record only where sums differ.
//!
//! - `facts`, `segments`: what is asked first, and which commands can be decided again.
//! - `expected`, `decide`, `scratch`: what should exist, from the commands or, where they are gone, from a log.
//! - `found`: what exists. `content`: what is compared of it. `ledger`: the sums.
//! - `detail`: the second reading, which names each deviation. `outputs`: what may be missing without being lost.
//! - `source`, `report`, `findings`: what is read, and who is told.

mod content;
mod decide;
mod detail;
mod expected;
mod facts;
mod findings;
mod found;
mod ledger;
mod outputs;
pub mod report;
mod scratch;
mod segments;
pub mod source;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use contract::Decider;
use event_log::{LogError, LogReader};
use kafka::{SourceError, mark::RulesHash};
use thiserror::Error;

use content::Digester;
use expected::{Expecting as _, Ledgers};
use facts::{CommittedBy, Facts};
use findings::Findings;
use ledger::Grid;
use report::{Reason, Report, Summary};
use scratch::Scratch;
use segments::Coverage;
use source::Topics;

/// By which rules commands become what they become: the same as the processor's.
#[derive(Debug)]
pub struct Rules {
    pub decider: Decider,
    pub window_ms: i64,
    /// The notifications' `ce_source`.
    pub source: String,
    /// Bytes of one record that the rejections topic takes.
    pub rejection_bytes: usize,
    pub group: String,
    pub notifications_topic: String,
    pub rejections_topic: String,
}

/// How much memory is used; none of it grows with topics or logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Ranges of commands, of all partitions together, that are summed up apart. 32 bytes each, for each log and each
    /// topic of the output.
    pub ranges: usize,
    /// Records that a second reading keeps at once, about 100 bytes each.
    pub records: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { ranges: 65_536, records: 200_000 }
    }
}

/// Why nothing could be said.
#[derive(Debug, Error)]
pub enum VerifyError {
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("{0}")]
    Log(#[from] LogError),
    #[error(
        "the temporary database failed: {0}. It lies in the folder for temporary files (TMPDIR): look for room there"
    )]
    Scratch(#[from] rusqlite::Error),
    #[error("writing what was found: {0}")]
    Output(#[from] io::Error),
    #[error(
        "the group '{group}' has no committed offsets on '{topic}', so nothing is known to be published: no processor \
         of that group has run yet, or Kafka forgot the offsets. Check kafka.group and topics.commands"
    )]
    NoOffsets { group: String, topic: String },
    #[error(
        "partition {partition}: the group '{group}' has committed offset {published}, beyond the topic's end at {end}. \
         The topic was made again, or lost records"
    )]
    BeyondEnd { group: String, partition: i32, published: i64, end: i64 },
    #[error(
        "{path}: partition {partition}: this is not the topic that the log was made from: {found}. The topic was made \
         again, belongs to another cluster, or lost records. Name the right cluster and topic, or another log"
    )]
    OtherTopic { path: PathBuf, partition: i32, found: String },
    #[error(
        "partition {partition} of '{topic}' can't be read beyond offset {offset}, while the group is at {published}: \
         the brokers do not answer, or hold the records back. Try again"
    )]
    CommandsHeldBack { topic: String, partition: i32, offset: i64, published: i64 },
    #[error(
        "partition {partition} of '{topic}': something deviates in offsets {} to {}, and before these commands could be \
         read a second time to tell what, the topic's retention deleted those below offset {start}. Try again",
        .offsets.start,
        .offsets.end - 1
    )]
    CommandsDeleted { topic: String, partition: i32, offsets: std::ops::Range<i64>, start: i64 },
}

/// What everything here needs to know, and nothing changes.
struct Context<'a> {
    logs: &'a [LogReader],
    rules: &'a Rules,
    sizes: Sizes,
    facts: Facts,
    digester: Digester,
}

/// Checks everything that lies below the group's committed offsets.
pub fn verify(
    topics: &mut dyn Topics,
    logs: &[LogReader],
    rules: &Rules,
    sizes: Sizes,
    report: &mut dyn Report,
) -> Result<Summary, VerifyError> {
    let facts = Facts::gather(topics, logs, rules)?;
    let context = Context { logs, rules, sizes, facts, digester: Digester::default() };
    let mut findings = Findings::new(report);
    let mut scratch = Scratch::new(rules.decider.topic_bits(), rules.window_ms)?;
    context.warn_of_other_rules();
    context.announce(&mut findings);

    let grid = Grid::new(&context.facts.published(), sizes.ranges);
    let mut ledgers = Ledgers::new(&grid, logs.len());
    let clocks = expected::by_logs(&context, &scratch, &mut ledgers, Some(&mut findings))?;
    for partition in 0..context.facts.partitions.len() {
        decide::partition(&context, topics, &mut scratch, (partition, &clocks), &mut ledgers, &mut findings)?;
    }
    for collection in ledgers.collections() {
        let seen = found::sum_up(&context, topics, collection, ledgers.of(collection), &mut findings)?;
        detail::compare(
            &context,
            topics,
            &scratch,
            (collection, &seen),
            ledgers.of(collection),
            &mut findings,
        )?;
    }
    findings.finish()
}

impl Context<'_> {
    fn commands_topic(&self) -> &str {
        self.rules.decider.topic()
    }

    /// Whether the log knew the partition from its beginning.
    fn is_whole(&self, log: usize, partition: i32) -> bool {
        self.facts.logs[log].coverage.get(&partition).is_some_and(Coverage::is_whole)
    }

    /// By other rules than the processor's, commands are decided otherwise than it did, and everything seems to deviate.
    fn warn_of_other_rules(&self) {
        let own = RulesHash::of(&self.rules.decider, self.rules.window_ms);
        let other = self
            .facts
            .partitions
            .iter()
            .zip(0..)
            .filter(|(partition, _)| partition.decided_by.is_some_and(|it| it != own));
        let partitions: Vec<i32> = other.map(|(_, number)| number).collect();
        if !partitions.is_empty() {
            tracing::warn!(
                ?partitions,
                own_rules = %own,
                "the group's offsets were committed under other limits, topics for replies or another idempotency window \
                 than 'verify' has: where commands are decided otherwise, it reports deviations that are none. Give it \
                 the processors' configuration"
            );
        }
    }

    /// Says how much there is to read, and what of it can't be checked whatever is read.
    fn announce(&self, findings: &mut Findings<'_>) {
        let topic = self.commands_topic();
        for (partition, number) in self.facts.partitions.iter().zip(0..) {
            let (bounds, published) = (partition.bounds, partition.published);
            findings.ahead((published - bounds.start).max(0) as u64);
            match partition.committed {
                CommittedBy::Nobody if bounds.start < bounds.end => {
                    findings.stretch(topic, number, bounds.start..bounds.end, None, Reason::NoOffset);
                }
                CommittedBy::Other(offset) => {
                    // Where no log has seen anything published, even the first offset says nothing.
                    let end = if offset == published { offset + 1 } else { published.max(offset) };
                    let doubtful = published.min(offset)..end;
                    findings.stretch(topic, number, doubtful, None, Reason::ForeignOffset);
                }
                CommittedBy::Processor if published < bounds.start => {
                    findings.stretch(topic, number, published..bounds.start, None, Reason::Undecided);
                }
                CommittedBy::Nobody | CommittedBy::Processor => {}
            }
            for segment in &partition.segments {
                if !segment.retained && segment.logs.is_empty() {
                    findings.stretch(topic, number, segment.offsets.clone(), None, Reason::NoWitness);
                }
            }
        }
        for bounds in self.facts.notifications.iter().chain(&self.facts.rejections) {
            findings.ahead((bounds.end - bounds.start).max(0) as u64);
        }
        for counts in self.facts.logs.iter().flat_map(|log| log.counts.values()) {
            findings.ahead(counts.events + counts.duplicates + counts.rejections);
        }
    }
}
