use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use kafka::{Topics, embedded::EmbeddedBroker};
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use serde_json::Value;

use super::{
    assert_output,
    samples::{SHARE, UPDATE, WRONG},
};
use crate::support::{
    PATIENCE, Running, broker, deaf_address, folder, program, run, spawn, topics, wait_until,
};

fn lines() -> Vec<u8> {
    [UPDATE.as_bytes(), b"\xff", SHARE.as_bytes(), WRONG.as_bytes(), b""].join(&b'\n')
}

#[test]
fn prints_each_id_in_the_order_of_the_input() {
    let (broker, folder) = (broker(1), folder());
    fs::write(folder.path().join("commands.ndjson"), lines()).unwrap();
    fs::write(folder.path().join("one.json"), "{\n  \"objectType\": \"case\"\n}\n").unwrap();
    let address = broker.bootstrap_servers();
    let post = |extra: &[&str]| {
        let mut command = program(&["post", "--no-check", "-b", &address, "commands.ndjson", "one.json"]);
        command.args(extra).current_dir(folder.path());
        run(command, b"")
    };
    assert_output!("post", post(&[]).transcript());
    assert_output!("post-json", post(&["--json"]).transcript());
}

#[test]
fn reads_standard_input_and_answers_while_it_is_open() {
    let broker = broker(3);
    let mut command = program(&["post", "-b", &broker.bootstrap_servers(), "--json"]);
    let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (sender, answers) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        sender.send(line).unwrap();
    });
    writeln!(input, "{SHARE}").unwrap();
    let answer = answers.recv_timeout(PATIENCE);
    drop(input);
    assert!(answer.unwrap().starts_with(r#"{"file":"standard input","line":1,"id":"#));
    reader.join().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn blank_lines_are_no_commands() {
    let (broker, folder) = (broker(1), folder());
    let text = format!("\n{SHARE}\n\n \t\r\n{UPDATE}\n\n");
    fs::write(folder.path().join("commands.ndjson"), &text).unwrap();
    fs::write(folder.path().join("blank.ndjson"), "\n \n").unwrap();
    let address = broker.bootstrap_servers();
    let mut offset = 0;
    for arguments in [&["commands.ndjson", "blank.ndjson"][..], &["--no-check", "commands.ndjson"], &["-"]] {
        let mut command = program(&["post", "--json", "-b", &address]);
        command.args(arguments).current_dir(folder.path());
        let posted = run(command, text.as_bytes()).success();
        let posted: Vec<Value> = posted.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let places: Vec<_> = posted.iter().map(|line| (&line["line"], &line["offset"])).collect();
        let (first, second) = (Value::from(offset), Value::from(offset + 1));
        assert_eq!(places, [(&Value::from(2), &first), (&Value::from(5), &second)], "{arguments:?}");
        offset += 2;
    }
}

/// Of files nothing is posted where one command is bad; of standard input, which may go on for ever, the others are.
#[test]
fn commands_that_would_be_rejected_are_not_posted() {
    let (broker, folder) = (broker(1), folder());
    let address = broker.bootstrap_servers();
    fs::write(folder.path().join("good.json"), SHARE).unwrap();
    fs::write(folder.path().join("bad.ndjson"), [SHARE, WRONG].join("\n")).unwrap();
    let post = |arguments: &[&str], input: &str| {
        let mut command = program(&["post", "-b", &address]);
        command.args(arguments).current_dir(folder.path());
        run(command, input.as_bytes())
    };
    let files = ["good.json", "bad.ndjson"];
    assert_output!("post-invalid-file", post(&files, "").transcript());
    assert_output!("post-invalid-file-json", post(&[&files[..], &["--json"]].concat(), "").transcript());
    // Standard input is not read where a file is bad.
    assert!(!post(&["bad.ndjson", "-"], SHARE).status.success());
    let input = [SHARE, WRONG, SHARE].join("\n");
    assert_output!("post-invalid-input", post(&[], &input).transcript());
    assert_output!("post-invalid-input-json", post(&["--json"], &input).transcript());
    // Offset 4: the good ones of standard input were posted twice, and nothing else.
    let unchecked = post(&["--json", "--no-check", "bad.ndjson"], "").success();
    assert!(unchecked.contains(r#""offset":4,"#) && unchecked.contains(r#""offset":5,"#), "{unchecked}");
    // Limits and record key count too.
    assert!(!post(&["--set", "limits.value_bytes=10", "good.json"], "").status.success());
    let keyless = post(&["--idempotency-key", "", "good.json"], "");
    assert!(keyless.stdout.contains("bad_idempotency_key"), "{}", keyless.transcript());
}

#[test]
fn key_and_headers_are_those_of_the_flags() {
    let broker = broker(1);
    let address = broker.bootstrap_servers();
    let post = |arguments: &[&str], input: &str| {
        let mut command = program(&["post", "-b", &address]);
        command.args(arguments);
        run(command, input.as_bytes())
    };
    let flags = ["--key", "k", "--idempotency-key", "once", "--header", "traceparent=a=b", "--header", "x="];
    post(&flags, SHARE).success();
    post(&[], SHARE).success();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &address)
        .set("group.id", "looking")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["activity.commands"]).unwrap();
    let read = || {
        // It gives none where something else happened, such as an assignment.
        let polled = (0..PATIENCE.as_secs()).find_map(|_| consumer.poll(Duration::from_secs(1)));
        let message = polled.expect("in time").unwrap();
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|h| format!("{}={}", h.key, String::from_utf8_lossy(h.value.unwrap())))
                .collect()
        });
        (String::from_utf8_lossy(message.key().unwrap()).into_owned(), headers.unwrap_or_else(Vec::new))
    };
    let wanted = ["traceparent=a=b", "x=", "idempotency-key=once"].map(str::to_owned).to_vec();
    assert_eq!(read(), ("k".to_owned(), wanted));
    assert_eq!(read(), ("case/7".to_owned(), Vec::new()));

    // All of them would have one key, and all but the first would be lost as duplicates or rejected.
    let two = post(&flags, &[SHARE, UPDATE].join("\n"));
    assert_output!("post-one-key-for-two", two.transcript());
    assert_output!("post-wait-without-topic", post(&["--wait"], SHARE).transcript());
}

/// The verdict is in the lines and in the exit code.
#[test]
fn waits_for_the_verdict() {
    let broker =
        EmbeddedBroker::start(&Topics { replies: ["answers".to_owned()].into_iter().collect(), ..topics(2) })
            .unwrap();
    let (address, folder) = (broker.bootstrap_servers(), folder());
    let mut command = program(&["run", "-b", &address, "--guarantee", "at-least-once", "--log-file"]);
    command.arg(folder.path().join("activity.db")).args(["--set", "topics.replies=answers"]);
    let mut processor = Running::start(command);
    let wait = |arguments: &[&str], input: &str| {
        let mut command = program(&["post", "-b", &address, "--wait=3m", "--reply-topic", "answers"]);
        command.args(arguments);
        run(command, input.as_bytes())
    };
    let once = ["--idempotency-key", "once"];
    assert_output!("post-wait-event", wait(&once, SHARE).transcript());
    assert_output!("post-wait-duplicate", wait(&once, SHARE).transcript());
    let other = SHARE.replace("}", r#","content":"other"}"#);
    assert_output!("post-wait-key-reused", wait(&once, &other).transcript());
    assert_output!(
        "post-wait-json",
        wait(&["--no-check", "--json"], &[SHARE, WRONG].join("\n")).transcript()
    );
    assert_output!("post-wait-invalid", wait(&[], &[SHARE, WRONG].join("\n")).transcript());
    // Its reply would go past whoever waits.
    let own = ["--header", "kafka_replyTopic=answers"];
    assert_output!("post-wait-own-reply", wait(&own, SHARE).transcript());
    processor.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(processor.wait(PATIENCE).status.success());
    // The topic from the configuration.
    let mut late = program(&["post", "-b", &address, "--wait=100ms", "--set", "topics.replies=answers"]);
    late.arg("--json");
    let late = run(late, SHARE.as_bytes());
    assert_eq!(late.status.code(), Some(1), "{}", late.transcript());
    assert!(late.stdout.contains(r#""outcome":"unknown","error":"no"#), "{}", late.transcript());
}

#[test]
fn check_sends_nothing_where_anything_is_wrong() {
    let broker = broker(1);
    let address = broker.bootstrap_servers();
    let input = lines();
    assert_output!("post-check", run(program(&["post", "--check", "-b", &address]), &input).transcript());
    let json = run(program(&["post", "--check", "--json", "-b", &address, "-"]), &input);
    assert_output!("post-check-json", json.transcript());
    // The limits are the configured ones.
    let strict = program(&["post", "--check", "-b", &address, "--set", "limits.value_bytes=10"]);
    assert_output!("post-check-limits", run(strict, SHARE.as_bytes()).transcript());
    // Offset 0: nothing was posted before.
    let good = run(program(&["post", "--check", "--json", "-b", &address]), SHARE.as_bytes()).success();
    let line: Value = serde_json::from_str(&good).unwrap();
    assert_eq!((&line["offset"], &line["line"]), (&Value::from(0), &Value::from(1)));
}

#[test]
fn reports_a_record_that_the_client_refuses_and_posts_the_rest() {
    let broker = broker(1);
    let address = broker.bootstrap_servers();
    let large = format!(r#"{{"objectType":"case","objectId":"7","content":"{}"}}"#, "x".repeat(2000));
    let input = [SHARE, &large, SHARE].join("\n");
    let post = |extra: &[&str]| {
        let mut command = program(&["post", "-b", &address, "-X", "message.max.bytes=1000"]);
        command.args(extra);
        run(command, input.as_bytes()).transcript()
    };
    assert_output!("post-too-large", post(&[]));
    assert_output!("post-too-large-json", post(&["--json"]));
}

/// No success, which a script would take to mean that all were posted.
#[test]
fn output_that_nobody_reads_is_an_error() {
    let broker = broker(1);
    let mut command = program(&["post", "-b", &broker.bootstrap_servers()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command);
    drop(child.stdout.take());
    writeln!(child.stdin.take().unwrap(), "{SHARE}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output was closed"), "{output:?}");
}

/// As with `post FILE | head -n 1`: what was sent by then is waited for, and the rest stays unsent.
#[test]
fn output_that_is_closed_midway_says_how_many_were_posted() {
    const COMMANDS: usize = 50_000;
    let (broker, folder) = (broker(1), folder());
    let file = folder.path().join("commands.ndjson");
    fs::write(&file, format!("{SHARE}\n").repeat(COMMANDS)).unwrap();
    let mut command = program(&["post", "-b", &broker.bootstrap_servers()]);
    command.arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command);
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("posted "), "{line}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).create().unwrap();
    let (_, posted) = reader.fetch_watermarks("activity.commands", 0, PATIENCE).unwrap();
    assert!(usize::try_from(posted).unwrap() < COMMANDS, "all were posted");
    let said = String::from_utf8_lossy(&output.stderr);
    let wanted =
        format!("not all commands were posted: {posted} commands posted, 0 not, and the rest was not read");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn errors_name_what_is_wrong_before_anything_is_posted() {
    let broker = broker(1);
    let address = broker.bootstrap_servers();
    let error = |arguments: &[&str]| run(program(arguments), SHARE.as_bytes()).transcript();
    assert_output!("post-no-file", error(&["post", "-b", &address, "no-such-file.json"]));
    assert_output!("post-no-topic", error(&["post", "-b", &address, "--commands-topic", "no.such.topic"]));
    assert_output!("post-no-broker", error(&["post", "-b", &deaf_address()]));
    // Asking for it did not make it.
    assert_output!("post-no-topic", error(&["post", "-b", &address, "--commands-topic", "no.such.topic"]));
}

#[test]
fn many_commands_arrive_in_order_and_once() {
    let broker = broker(3);
    let address = broker.bootstrap_servers();
    let commands: Vec<_> =
        (0..15_000).map(|n| format!(r#"{{"objectType":"case","objectId":"{n}"}}"#)).collect();
    let output = run(program(&["post", "--json", "-b", &address]), commands.join("\n").as_bytes()).success();
    let mut next = [0; 3];
    for (index, line) in output.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["line"], index + 1);
        let partition = usize::try_from(line["partition"].as_i64().unwrap()).unwrap();
        assert_eq!(line["offset"], next[partition]);
        next[partition] += 1;
    }
    assert_eq!(next.iter().sum::<i64>(), 15_000);
}

/// The ids are those that the processor gives.
#[test]
fn posted_ids_are_found_in_the_log() {
    let (broker, folder) = (broker(2), folder());
    let address = broker.bootstrap_servers();
    let log = folder.path().join("activity.db");
    let log = log.to_str().unwrap();
    let input = [UPDATE, WRONG, SHARE].join("\n");
    let posted = run(program(&["post", "--no-check", "--json", "-b", &address]), input.as_bytes()).success();
    let guarantee = ["--guarantee", "at-least-once", "-X", "session.timeout.ms=6000"];
    let mut command = program(&["run", "-b", &address, "--log-file", log]);
    command.args(guarantee);
    let mut processor = Running::start(command);
    let outcomes = ["event", "rejection", "event"];
    for (line, outcome) in posted.lines().zip(outcomes) {
        let id = serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        let show = || run(program(&["log", "show", &id, "--json", "--log-file", log]), b"");
        wait_until(&format!("{id} in the log"), || show().status.success());
        let shown: Value = serde_json::from_str(&show().success()).unwrap();
        assert_eq!((&shown["outcome"], &shown["id"]), (&Value::from(outcome), &Value::from(id)));
    }
    let check = run(program(&["check", "-b", &address, "--log-file", log]), b"");
    assert!(check.stdout.contains("in use by a running processor"), "{}", check.transcript());
    processor.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(processor.wait(PATIENCE).status.success());
}
