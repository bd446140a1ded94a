//! From what is read to the record that is posted, and whether the processor would reject it.

use std::{collections::VecDeque, io, path::PathBuf};

use anyhow::bail;
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

/// What each command is posted with, and held against.
#[derive(Debug)]
pub(super) struct Commands {
    key: Option<Vec<u8>>,
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
            // Whoever posts need not know which topics the processor allows.
            let unknown = config.topics.replies.is_empty();
            if unknown { decider.with_reply_topics(ReplyTopics::any()) } else { decider }
        });
        Self { key: args.key.clone().map(String::into_bytes), headers, decider }
    }

    /// The command's record as it is posted now.
    pub(super) fn record(&self, value: Vec<u8>) -> Record {
        let key = self.key.clone().or_else(|| object_key(&value).map(String::into_bytes));
        let timestamp = Timestamp::now().as_millisecond();
        // Where it will lie changes nothing of what is wrong with it.
        let coordinates = Coordinates { partition: 0, offset: 0, timestamp };
        Record { coordinates, key, value: Some(value), headers: self.headers.clone() }
    }

    /// Why the processor would reject it. Nothing where that is not to be checked.
    pub(super) fn problems(&self, record: &Record) -> Option<Problems> {
        match self.decider.as_ref()?.read(record).reading {
            Reading::Valid { .. } => None,
            Reading::Rejected(problems) => Some(problems),
        }
    }

    /// The input, once everything of it that can be known is checked: files before anything is posted, and with
    /// `--check` what is read only once too. One idempotency key is for one command.
    pub(super) fn checked(&self, args: &Args, inputs: Inputs) -> anyhow::Result<Source> {
        let mut source: Source = Box::new(inputs);
        if args.check {
            // What is read only once stays in memory.
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

    /// Prints what the processor would reject, and fails if there is any.
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

/// A command that would be rejected, with all that is wrong.
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
