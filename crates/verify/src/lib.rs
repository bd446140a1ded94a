//! Decides every command again, and compares the result with topics and logs.
//!
//! What should exist is computed again from the commands. What exists is read from the logs and from the topics of the
//! output. The two come in different orders and are larger than memory, so both are staged in a temporary file, sorted by
//! command, and compared in one pass.
//!
//! - `facts`: the cursors and bounds, which are read first. `segments`: which commands can be decided again.
//! - `commands`, `expected`: what should exist, from the commands or, if the topic no longer has them, from a log.
//! - `found`: what exists. `content`, `problems`: the parts of it that are compared.
//! - `staging`, `scratch`: the temporary file.
//! - `judge`: names each deviation. `outputs`: what may be missing without being lost.
//! - `source`: the topics. `report`, `findings`: the results.

mod commands;
mod content;
mod expected;
mod facts;
mod findings;
mod found;
mod judge;
mod outputs;
mod problems;
mod report;
mod scratch;
mod segments;
mod source;
mod staging;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use contract::Decider;
use event_log::{LogError, LogReader};
use kafka::{SourceError, mark::RulesHash};
use thiserror::Error;

use content::Digester;
use facts::{CommittedBy, Facts};
use findings::Findings;
use scratch::Scratch;
use segments::Coverage;
use staging::{Collection, Staging};

pub use report::{At, Deviation, Kind, Place, Reason, Report, Summary, Unchecked, What};
pub use source::{Each, OnBrokers, Topic, Topics};

/// The rules by which the processor decides and publishes.
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

/// Limits of memory, which does not grow with topics or logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Records and rows that are sorted in memory at once, about 100 bytes each.
    pub records: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { records: 100_000 }
    }
}

/// Why `verify` ended without an answer.
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
    #[error("writing what was found failed: {0}")]
    Output(#[from] io::Error),
    #[error(
        "the group '{group}' has no committed offsets on '{topic}', so nothing is known to be published: no processor \
         of that group has run yet, or Kafka forgot the offsets. Check kafka.group and topics.commands"
    )]
    NoOffsets { group: String, topic: String },
    #[error(
        "partition {partition}: the group '{group}' has committed offset {published}, beyond the topic's end at {end}. \
         The topic was created again, or lost records"
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
}

/// What all steps read and none changes.
struct Context<'a> {
    logs: &'a [LogReader],
    rules: &'a Rules,
    facts: Facts,
    digester: Digester,
}

/// Checks everything before the group's committed offsets.
pub fn verify(
    topics: &mut dyn Topics,
    logs: &[LogReader],
    rules: &Rules,
    sizes: Sizes,
    report: &mut dyn Report,
) -> Result<Summary, VerifyError> {
    let facts = Facts::gather(topics, logs, rules)?;
    let context = Context { logs, rules, facts, digester: Digester::default() };
    let mut findings = Findings::new(report);
    let scratch = Scratch::new(rules.decider.topic_bits())?;
    let mut staging = Staging::new(&scratch, sizes.records);
    context.warn_of_other_rules();
    context.announce(&mut findings);

    let clocks = expected::stage_from_logs(&context, &scratch, &mut staging, &mut findings)?;
    for (_, partition) in context.facts.partitions.iter().zip(0..) {
        commands::decide_partition(
            &context,
            topics,
            &scratch,
            (partition, &clocks),
            &mut staging,
            &mut findings,
        )?;
    }
    for log in 0..logs.len() {
        found::stage_log(&context, log, &mut staging, &mut findings)?;
    }
    let mut seen = |collection| found::stage_topic(&context, topics, collection, &mut staging, &mut findings);
    let seen = judge::SeenTopics {
        notifications: seen(Collection::Notifications)?,
        rejections: seen(Collection::Rejections)?,
    };
    judge::compare(&context, &scratch, staging.merge()?, &seen, &mut findings)?;
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

    /// With other rules than the processor's, commands get other decisions, and everything seems to deviate.
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

    /// Reports how much there is to read, and which parts can't be checked in any case.
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
                    // If no log has seen anything published, even the first offset proves nothing.
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
