//! `rejections`: what was refused and why, and putting it back after the reason is gone.

mod list;
mod replay;
mod show;

use std::{ops::ControlFlow, process::ExitCode};

use super::{
    args::{self, RejectionsCommand, Selection},
    settings,
};
use crate::{
    activity::{DeadLetter, Record},
    config::Config,
    kafka::{Settings, SourceError, scan::Scanner, topics},
};

/// Lists, shows or replays.
pub fn rejections(args: &args::Rejections, config: &Config) -> anyhow::Result<ExitCode> {
    let kafka = settings::kafka(config);
    match &args.command {
        RejectionsCommand::List(args) => list::list(args, &kafka),
        RejectionsCommand::Show(args) => show::show(args, &kafka),
        RejectionsCommand::Replay(args) => replay::replay(args, &kafka),
    }
}

/// What lies on the rejections topic beside the wanted rejections.
#[derive(Debug, Default, Clone, Copy)]
struct Passed {
    /// Records that are no rejections of this commands topic.
    foreign: u64,
    /// An open transaction held some back.
    unread: bool,
}

/// What `each` or the reading ended with.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Gives each rejection of the configured commands topic that is there now to `each`, until that breaks off.
/// Within a partition of the rejections topic they come in its order.
fn read(
    kafka: &Settings,
    mut each: impl FnMut(&Record, &DeadLetter<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<Passed> {
    let topic = &kafka.topics.rejections;
    let partitions = topics::require(kafka, topic)?;
    let scanner = Scanner::new(kafka)?;
    let bounds = scanner.bounds(topic, partitions)?;
    let wanted: Vec<_> = (0..).zip(bounds).map(|(partition, at)| (partition, at.start..at.end)).collect();
    let mut passed = Passed::default();
    let unread = scanner.read(topic, &wanted, |record| -> Result<_, Ended> {
        match DeadLetter::of(&record).filter(|letter| letter.topic == kafka.topics.commands) {
            Some(letter) => Ok(each(&record, &letter)?),
            None => {
                passed.foreign += 1;
                Ok(ControlFlow::Continue(()))
            }
        }
    });
    passed.unread = match unread {
        Ok(unread) => !unread.is_empty(),
        // As it was: what it is says whether it is one, as where nobody reads the output on.
        Err(Ended::Other(error)) => return Err(error),
        Err(Ended::Source(error)) => return Err(error.into()),
    };
    if passed.unread {
        tracing::warn!("an open transaction holds back the newest rejections; try again in a few seconds");
    }
    Ok(passed)
}

impl Selection {
    /// Whether the rejection was chosen; with no choice at all, each is.
    fn takes(&self, letter: &DeadLetter<'_>) -> bool {
        let by_code = || letter.problems.0.iter().any(|problem| self.codes.contains(&problem.code));
        (self.codes.is_empty() || by_code()) && (self.at.is_empty() || self.at.contains(&letter.place))
    }
}
