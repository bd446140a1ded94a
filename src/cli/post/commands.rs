//! From the input to the record to post, and whether the processor would reject it.

use std::{collections::VecDeque, io, path::PathBuf};

use anyhow::bail;
use bytes::Bytes;
use contract::{Coordinates, Decider, Header, Problem, Problems, Reading, Record, ReplyTopics, object_key};
use jiff::Timestamp;
use serde::Serialize;

use super::Args;
use crate::{
    cli::{
        input::{Input, Inputs, Place},
        json::write_json,
        outcome::print_rejection,
        output::{self, Output, Unread},
        settings,
    },
    config::Config,
};

pub(super) type Source = Box<dyn Iterator<Item = anyhow::Result<Input>> + Send>;

/// A line of `--json` for a command that would be rejected.
#[derive(Debug, Serialize)]
struct Refused<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    problems: &'a [Problem],
}

/// What is added to each command, and how it is checked.
#[derive(Debug)]
pub(super) struct Commands {
    key: Option<Bytes>,
    headers: Vec<Header>,
    decider: Option<Decider>,
}

impl Commands {
    pub(super) fn new(args: &Args, config: &Config) -> Self {
        let mut headers: Vec<Header> =
            args.headers.iter().map(|(name, value)| Header::new(name.as_str(), value.as_str())).collect();
        headers.extend(args.idempotency_key.as_deref().map(|key| Header::new("idempotency-key", key)));
        let decider = (!args.no_check).then(|| {
            let decider = settings::decider(config);
            // A producer need not know which reply topics the processor allows.
            let unknown = config.topics.replies.is_empty();
            if unknown { decider.with_reply_topics(ReplyTopics::any()) } else { decider }
        });
        Self { key: args.key.clone().map(Bytes::from), headers, decider }
    }

    /// The command's record, with the current time.
    pub(super) fn record(&self, value: Vec<u8>) -> Record {
        let key = self.key.clone().or_else(|| object_key(&value).map(Bytes::from));
        let timestamp = Timestamp::now().as_millisecond();
        // Partition and offset do not matter for its problems.
        let coordinates = Coordinates { partition: 0, offset: 0, timestamp };
        Record { coordinates, key, value: Some(value.into()), headers: self.headers.clone() }
    }

    /// Why the processor would reject it. Nothing with `--no-check`.
    pub(super) fn problems(&self, record: &Record) -> Option<Problems> {
        match self.decider.as_ref()?.read(record).reading {
            Reading::Valid { .. } => None,
            Reading::Rejected(problems) => Some(problems),
        }
    }

    /// Checks the input in advance: files, and with `--check` also what can be read only once. One idempotency key is for one
    /// command.
    pub(super) fn checked(&self, args: &Args, inputs: Inputs) -> anyhow::Result<Source> {
        let mut source: Source = Box::new(inputs);
        if args.check {
            // It can be read only once, so it stays in memory.
            let inputs = source.collect::<anyhow::Result<Vec<_>>>()?;
            self.refuse_invalid(inputs.iter().cloned().map(Ok), args.json)?;
            source = Box::new(inputs.into_iter().map(Ok));
        } else if self.decider.is_some() {
            let is_file = |path: &&PathBuf| path.as_os_str() != "-" && path.is_file();
            let files: Vec<PathBuf> = args.files.iter().filter(is_file).cloned().collect();
            self.refuse_invalid(Inputs::open(&files)?, args.json)?;
        }
        if args.idempotency_key.is_some() {
            let first: VecDeque<_> = source.by_ref().take(2).collect::<anyhow::Result<_>>()?;
            if let Some(second) = first.get(1) {
                bail!(
                    "--idempotency-key is for one command, and {} is a second one, so none was posted. Post each by \
                     itself",
                    second.place
                );
            }
            source = Box::new(first.into_iter().map(Ok));
        }
        Ok(source)
    }

    /// Prints the invalid commands, and fails if there are any.
    fn refuse_invalid(
        &self,
        inputs: impl Iterator<Item = anyhow::Result<Input>>,
        json: bool,
    ) -> anyhow::Result<()> {
        let mut out = output::stdout(Unread::Stop);
        let (mut all, mut wrong) = (0, 0_u64);
        for input in inputs {
            let Input { place, value } = input?;
            all += 1;
            if let Some(problems) = self.problems(&self.record(value)) {
                wrong += 1;
                print_refused(&place, &problems, json, &mut out)?;
            }
        }
        io::Write::flush(&mut out)?;
        if wrong > 0 {
            bail!(
                "{wrong} of {} would be rejected, so none was posted. Correct what is wrong, or post all as they are \
                 with --no-check",
                output::count(all, "command")
            );
        }
        Ok(())
    }
}

/// Prints an invalid command with all its problems.
pub(super) fn print_refused(
    place: &Place,
    problems: &Problems,
    json: bool,
    out: &mut Output,
) -> io::Result<()> {
    if json {
        write_json(&Refused { file: &place.file, line: place.line, problems: &problems.0 }, out)
    } else {
        print_rejection(place, problems, out)
    }
}
