//! post, tail, log and check as people and scripts run them: processes, their output and their exit codes.

mod support;

#[path = "cli_commands/check.rs"]
mod check;
#[path = "cli_commands/log.rs"]
mod log;
#[path = "cli_commands/post.rs"]
mod post;
#[path = "cli_commands/samples.rs"]
mod samples;
#[path = "cli_commands/tail.rs"]
mod tail;

/// Takes out of a snapshot what differs from run to run: folders, ports, times.
macro_rules! assert_output {
    ($name:expr, $output:expr) => {
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            filters => vec![
                (r"/\S*/\.tmp\w+", "[folder]"),
                (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
                (r"[0-9a-f]{8}-[0-9a-f]{4}-89d1-", "[time]-89d1-"),
                (r#""timestamp":\d+"#, r#""timestamp":"[time]""#),
                (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,}Z", "[date-time]"),
                (r"os error \d+", "os error [number]"),
            ],
        }, {
            insta::assert_snapshot!($name, $output);
        });
    };
}
use assert_output;
