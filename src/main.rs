//! The program `activity-stream`: parse, run, and turn an error into an exit code.

use std::{io, process::ExitCode};

use activity_stream::cli;
use clap::Parser;

fn main() -> ExitCode {
    match cli::run(&cli::args::Args::parse()) {
        Ok(code) => code,
        // Whoever read the output has seen enough of it, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("activity-stream: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
