//! `tail`: follows notifications or rejections, or prints the current ones.

pub(super) mod line;
mod readable;

use std::{io::Write, time::Duration};

use super::{
    args,
    json::write_json,
    output::{self, Unread},
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

/// The longest delay until a signal is noticed.
const POLL: Duration = Duration::from_millis(100);

/// Prints records as they become visible, until the limit, the end (`--until-end`), or a signal.
pub fn tail(args: &args::Tail, config: &Config) -> anyhow::Result<()> {
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
    while left > 0 && !follower.is_done() && !stop.is_told() {
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
