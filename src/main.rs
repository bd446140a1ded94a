//! The program `activity-stream`.

use std::process::ExitCode;

/// Records and events, librdkafka's among them, are freed on another thread than the one that allocated them, and glibc's
/// allocator is slow at that. On Linux, mimalloc also replaces `malloc` for the C libraries.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    activity_stream::cli::main()
}
