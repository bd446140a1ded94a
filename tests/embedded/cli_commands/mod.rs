//! post, tail, log, rejections, schema and check as people and scripts run them: processes, output, exit codes.

mod check;
mod failures;
mod foreign;
mod log;
mod post;
mod rejections;
mod samples;
mod schema;
mod tail;
mod unread;

/// Takes out of a snapshot what differs from run to run: folders, ports and, unless they are `fixed`, times.
macro_rules! assert_output {
    (fixed $name:expr, $output:expr) => {
        assert_output!(@ $name, $output, vec![])
    };
    ($name:expr, $output:expr) => {
        assert_output!(@ $name, $output, vec![
            (r"[0-9a-f]{8}-[0-9a-f]{4}-89d1-", "[time]-89d1-"),
            (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,}Z", "[date-time]"),
        ])
    };
    (@ $name:expr, $output:expr, $times:expr) => {{
        let mut filters: Vec<(&str, &str)> = $times;
        filters.extend([
            (r#"/[^\s"']*/\.tmp\w+"#, "[folder]"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
            (r"os error \d+", "os error [number]"),
            // Where a column begins depends on what is taken out.
            (r" {2,}# ", "  # "),
        ]);
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, filters => filters }, {
            insta::assert_snapshot!($name, $output);
        });
    }};
}
use assert_output;
