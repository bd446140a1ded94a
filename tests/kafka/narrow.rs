//! Topics that accept little more than the largest command: records must not be refused because they share a batch.

use std::{io::Write as _, process::Stdio, thread};

use super::{
    broker,
    process::{PATIENCE, Setup},
    progress::Progress,
    reading, say, topics,
};

/// `limits.value_bytes`, and what the commands topic takes. The others take the least that `run` accepts of them.
const VALUE: usize = 4 * 1024;
const COMMANDS_TAKE: usize = 128 * 1024;
const OVERHEAD: usize = 128 * 1024;
/// Of which every tenth is rejected.
const COMMANDS: usize = 5_000;

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_burst_goes_through_topics_that_take_small_records() {
    let setup = Setup::without_topics("narrow", &broker::shared(), 1);
    let names = &setup.names;
    for (topic, bytes) in [
        (&names.commands, COMMANDS_TAKE),
        (&names.notifications, VALUE + OVERHEAD),
        (&names.rejections, COMMANDS_TAKE + OVERHEAD),
    ] {
        topics::create(&setup.servers, topic, 1, &[("max.message.bytes", &bytes.to_string())]);
        topics::await_known(&setup.servers, topic, 1);
    }
    let text = "x".repeat(1_000);
    let input: String = (0..COMMANDS)
        .map(|number| {
            let notify = if number % 10 == 9 { "1" } else { "true" };
            format!(
                r#"{{"objectType":"case","objectId":"7","content":"{text}","targets":[{{"targetId":"anna","notify":{notify}}}]}}"#
            ) + "\n"
        })
        .collect();
    let mut post = setup.program(&["post", "--json", "--no-check"]);
    let mut post =
        post.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("post");
    let mut stdin = post.stdin.take().expect("piped");
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()).expect("read"));
    let posted = post.wait_with_output().expect("its end");
    writer.join().expect("all was read");
    let lines = String::from_utf8_lossy(&posted.stdout);
    assert!(posted.status.success(), "{:?}", lines.lines().find(|line| line.contains("error")));

    let mut instance = setup.start("only", &["--set", &format!("limits.value_bytes={VALUE}")]);
    Progress::of(&setup).await_published(COMMANDS as u64, PATIENCE, || instance.assert_running());
    let said = instance.stop();
    assert!(!said.contains("aborted"), "{said}");
    let count = |topic: &str, wanted: usize| {
        assert_eq!(reading::read_all(&setup.servers, topic, wanted).len(), wanted, "{topic}");
    };
    count(&names.notifications, COMMANDS / 10 * 9);
    count(&names.rejections, COMMANDS / 10);
    say!("narrow: {COMMANDS} commands");
}
