//! The program `activity-stream`: parse, run, and turn an error into an exit code.

use std::{io, process::ExitCode};

use activity_stream::{cli, telemetry};
use clap::Parser;

/// Records and events are freed on another thread than made them, librdkafka's among them, and glibc's allocator is slow at
/// that. Takes the place of `malloc` for the libraries in C too, which it does by itself on Linux only.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(&cli::args::Args::parse()) {
        Ok(code) => code,
        // Whoever read the output has seen enough of it, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::report_failure(&cli::output::sentence(&sentence(&error)));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, but for those that an error's own sentence has told already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.push_str(colon);
            text.push_str(&cause);
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
