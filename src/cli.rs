//! The command line: one file per subcommand, which has its arguments and what it does.

pub mod args;
mod check;
mod client;
mod completions;
mod demo;
mod input;
mod json;
mod log;
mod man;
mod outcome;
mod output;
mod parsers;
mod post;
mod rejections;
mod run;
pub mod schema;
pub mod settings;
mod stop;
mod tail;
mod time;
mod verify;
mod when;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::anyhow;
use clap::{CommandFactory as _, Parser as _};

use crate::{
    config::{Config, ConfigError},
    telemetry,
};
use args::{Args, Command};
use output::{StdoutError, sentence, with_causes};

/// For commands whose output people read: beside it, only problems are logged.
const QUIET: &str = "warn,librdkafka=off";
/// How long to wait for the last log lines to be written, which nobody may be reading: short at a stop, which may take
/// 5 s in all, and longer if they give the reason of a failure.
const LAST_LINES: Duration = Duration::from_millis(400);
const LAST_REASON: Duration = Duration::from_secs(3);

/// The program: parses the command line, runs the command, and turns an error into an exit code.
#[must_use]
pub fn main() -> ExitCode {
    stop::survive_file_size_limit();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(answer) => return print(&answer),
    };
    match run(&args) {
        Ok(code) => {
            telemetry::flush(LAST_LINES);
            code
        }
        // The reader has seen enough of the output, as `head` has.
        Err(error) if StdoutError::is_unread(&error) => {
            telemetry::flush(LAST_LINES);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Demo(demo) => return demo::demo(demo, configure(args)?),
        Command::Run(run) => return run::run(run, configure(args)?),
        Command::Post(post) => return post::post(post, &configure(args)?),
        Command::Tail(tail) => tail::tail(tail, &configure(args)?)?,
        Command::Log(log) => return log::log(log, &configure(args)?),
        Command::Rejections(rejections) => return rejections::rejections(rejections, &configure(args)?),
        Command::Schema(schema) => schema::schema(schema, &configure(args)?)?,
        Command::Check(check) => return check::check(check, &configure(args)?),
        Command::Verify(verify) => return verify::verify(verify, &configure(args)?),
        Command::Completions(completions) => completions::completions(completions, Args::command())?,
        Command::Man(man) => man::man(man, Args::command())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads the configuration, and starts logging as it says.
fn configure(args: &Args) -> anyhow::Result<Config> {
    // Problems of the configuration are printed in the log format that it asks for.
    let config = Config::load(args.sources()).inspect_err(|error| telemetry::set_format(error.log_format))?;
    let filter = if matches!(args.command, Command::Run(_)) { &config.telemetry.filter } else { QUIET };
    telemetry::init(config.telemetry.format, filter).map_err(|error| anyhow!(error))?;
    Ok(config)
}

/// Prints help, the version, or an error of the command line.
fn print(answer: &clap::Error) -> ExitCode {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    match printed.map_err(|error| anyhow::Error::from(StdoutError::mark(error))) {
        Err(error) if !answer.use_stderr() && !StdoutError::is_unread(&error) => fail(&error),
        _ => ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(1)),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<ConfigError>() {
        // Each problem is an error by itself.
        Some(error) => {
            for problem in &error.problems {
                telemetry::report_failure(&sentence(&problem.to_string()));
            }
        }
        None => telemetry::report_failure(&sentence(&with_causes(error))),
    }
    telemetry::flush(LAST_REASON);
    ExitCode::FAILURE
}
