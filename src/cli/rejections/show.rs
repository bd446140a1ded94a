//! `rejections show`: one, with its command.

use std::{io::Write, ops::ControlFlow, process::ExitCode};

use anyhow::bail;
use contract::CommandRef;
use kafka::Settings;

use crate::cli::{
    json::write_json,
    output::{self, FAINT, Unread, plain},
    tail::line::Line,
};

use super::list::print;

/// Shows the rejection of one command: problems, headers and value
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream rejections show 3:12345
  activity-stream rejections show 01a20ada-2c7b-89d1-8003-000000003039")]
pub(super) struct Args {
    /// Where the command is
    #[arg(value_name = "PARTITION:OFFSET|ID")]
    at: CommandRef,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints problems, headers and value of the rejection of one command.
pub(super) fn show(args: &Args, kafka: &Settings) -> anyhow::Result<ExitCode> {
    let mut out = output::stdout(Unread::Stop);
    let at = args.at.on(&kafka.topics.commands)?;
    let mut found = false;
    let passed = super::read(kafka, |record, letter| {
        if letter.at != at {
            return Ok(ControlFlow::Continue(()));
        }
        found = true;
        if args.json {
            write_json(&Line::new(record), &mut out)?;
            return Ok(ControlFlow::Break(()));
        }
        print(record, letter, false, &mut out)?;
        for header in &record.headers {
            let name = plain(&String::from_utf8_lossy(&header.name));
            let value = header.value.as_deref().map(String::from_utf8_lossy);
            writeln!(
                out,
                "{FAINT}{name}:{FAINT:#} {}",
                value.map_or("null".to_owned(), |value| plain(&value))
            )?;
        }
        match record.value.as_deref() {
            None => writeln!(out, "(no value)")?,
            Some(value) => writeln!(out, "{}", plain(&String::from_utf8_lossy(value)))?,
        }
        Ok(ControlFlow::Break(()))
    })?;
    if !found {
        passed.whole(kafka, &format!("look for the command at {at} again then"))?;
        bail!(
            "no rejection of the command at {} is on '{}': it was not rejected, or the rejection is no longer \
             retained. 'activity-stream log show' says what became of a command",
            at,
            kafka.topics.rejections
        );
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
