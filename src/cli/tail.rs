//! `tail`: follows notifications or rejections, or prints the current ones.

pub(super) mod line;
mod readable;

use std::{io::Write, time::Duration};

use clap::builder::ArgPredicate;

use super::{
    json::write_json,
    output::{self, Unread},
    parsers::one_of,
    settings, stop,
};
use crate::{config::Config, telemetry};
use kafka::{
    OutputTopic,
    access::Operation,
    follow::{Follower, Start},
    topics,
};
use line::RecordLine;

/// Follows a topic, reading only what is committed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream tail notifications
  activity-stream tail rejections --until-end --json
  activity-stream tail notifications --until-end --limit 10

Ends on Ctrl-C, at the limit, or with --until-end; without that, it follows added partitions too.
With --json, bytes that are not UTF-8 are also in the field base16.")]
pub struct Args {
    /// Which topic
    #[arg(value_parser = one_of([
        ("notifications", OutputTopic::Notifications),
        ("rejections", OutputTopic::Rejections),
    ]))]
    topic: OutputTopic,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Where to start in each partition; with --until-end: beginning, unless given
    #[arg(
        long,
        value_parser = one_of([("beginning", Start::Beginning), ("end", Start::End)]),
        default_value = "end",
        default_value_if("until_end", ArgPredicate::IsPresent, "beginning")
    )]
    from: Start,
    /// Stop at the present end of each partition instead of waiting for more. Records that an open transaction holds back
    /// are beyond that end
    #[arg(long)]
    until_end: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// The longest delay until a signal is noticed.
const POLL: Duration = Duration::from_millis(100);

/// Prints records as they become visible, until the limit, the end (`--until-end`), or a signal.
pub fn tail(args: &Args, config: &Config) -> anyhow::Result<()> {
    let stop = stop::on_signal(Some(stop::LONGEST))?;
    let kafka = settings::kafka(config);
    let topic = kafka.topics.output(args.topic);
    let partitions = topics::require(&kafka, topic, Operation::Read)?;
    let mut follower = Follower::start(&kafka, topic, partitions, args.from)?;
    if args.until_end {
        follower.stop_at_ends()?;
    }
    if !args.json {
        let place = match args.from {
            Start::Beginning => "beginning",
            Start::End => "end",
        };
        let partitions = output::count(partitions as u64, "partition");
        let verb = if args.until_end { "reading" } else { "following" };
        let to_end = if args.until_end { " to the end as of now" } else { "" };
        telemetry::remark(&format!("{verb} '{topic}', {partitions}, from the {place}{to_end}"));
    }
    let mut out = output::stdout(Unread::Stop);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 && !follower.is_done() && !stop.is_made() {
        // Available records are printed in one go, later ones at once.
        let mut next = follower.next(Duration::ZERO)?;
        if next.is_none() {
            out.flush()?;
            next = follower.next(POLL)?;
        }
        let Some(record) = next else { continue };
        if args.json {
            write_json(&RecordLine::new(&record), &mut out)?;
        } else {
            match args.topic {
                OutputTopic::Notifications => readable::notification(&record, &mut out)?,
                OutputTopic::Rejections => readable::rejection(&record, &mut out)?,
            }
        }
        left -= 1;
    }
    Ok(out.flush()?)
}
