//! The command line: one file a subcommand.

pub mod args;
pub mod demo;
pub mod input;
pub mod json;
pub mod outcome;
pub mod output;
pub mod poster;
pub mod run;
pub mod settings;
pub mod when;

use std::process::ExitCode;

use anyhow::anyhow;

use crate::{config::Config, telemetry};
use args::{Args, Command};

/// For commands whose output is for reading: only what goes wrong is logged beside it.
const QUIET: &str = "warn,librdkafka=off";

/// Does what the command line says.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.sources())?;
    let filter = if matches!(args.command, Command::Run(_)) { &config.telemetry.filter } else { QUIET };
    telemetry::init(config.telemetry.format, filter).map_err(|error| anyhow!(error))?;
    match &args.command {
        Command::Run(args) => return run::run(args, config),
        Command::Demo(args) => demo::demo(args, config)?,
        _ => todo!(),
    }
    Ok(ExitCode::SUCCESS)
}
