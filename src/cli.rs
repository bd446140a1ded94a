//! The command line: one file a subcommand.

pub mod args;
pub mod check;
mod client;
pub mod demo;
pub mod input;
pub mod json;
pub mod log;
pub mod outcome;
pub mod output;
pub mod post;
pub mod rejections;
pub mod run;
pub mod schema;
pub mod settings;
pub mod stop;
pub mod tail;
pub mod time;
pub mod verify;
pub mod when;

use std::process::ExitCode;

use anyhow::anyhow;

use crate::{config::Config, telemetry};
use args::{Args, Command};

/// For commands whose output is for reading: only what goes wrong is logged beside it.
const QUIET: &str = "warn,librdkafka=off";

/// Does what the command line says.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // What is wrong with the rest of it is said in the format that it asks for.
    let config = Config::load(args.sources()).inspect_err(|error| telemetry::set_format(error.log_format))?;
    let filter = if matches!(args.command, Command::Run(_)) { &config.telemetry.filter } else { QUIET };
    telemetry::init(config.telemetry.format, filter).map_err(|error| anyhow!(error))?;
    match &args.command {
        Command::Run(args) => return run::run(args, config),
        Command::Demo(args) => return demo::demo(args, config),
        Command::Post(args) => return post::post(args, &config),
        Command::Tail(args) => tail::tail(args, &config)?,
        Command::Rejections(args) => return rejections::rejections(args, &config),
        Command::Log(args) => return log::log(args, &config),
        Command::Schema(args) => schema::schema(args, &config)?,
        Command::Check(args) => return check::check(args, &config),
        Command::Verify(args) => return verify::verify(args, &config),
    }
    Ok(ExitCode::SUCCESS)
}
