//! The program `activity-stream`: parse, run, and turn an error into an exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use activity_stream::{
    cli::{
        self,
        output::{StdoutError, sentence, with_causes},
    },
    config::ConfigError,
    telemetry,
};
use clap::Parser;

/// Records and events are freed on another thread than made them, librdkafka's among them, and glibc's allocator is slow at
/// that. Takes the place of `malloc` for the libraries in C too, which it does by itself on Linux only.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the last log lines may take to be written where nobody seems to read them: short at a stop, which may take
/// 5 s in all, and longer where they are the reason of a failure.
const LAST_LINES: Duration = Duration::from_millis(400);
const LAST_REASON: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    cli::stop::survive_file_size_limit();
    let args = match cli::args::Args::try_parse() {
        Ok(args) => args,
        Err(answer) => return print(&answer),
    };
    match cli::run(&args) {
        Ok(code) => {
            telemetry::flush(LAST_LINES);
            code
        }
        // Whoever read the output has seen enough of it, as `head` does.
        Err(error) if StdoutError::is_unread(&error) => {
            telemetry::flush(LAST_LINES);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Help, the version, or what is wrong with the command line.
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
