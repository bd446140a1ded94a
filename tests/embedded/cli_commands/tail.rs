use nix::sys::signal::Signal;

use super::{
    assert_output,
    samples::{SHARE, UPDATE, WRONG, publish, record},
};
use crate::support::{PATIENCE, Running, broker, deaf_address, program, run, wait_until};

fn commands() -> Vec<contract::Record> {
    let mut binary = record(0, 4, Some(b"\xffno"), None);
    binary.key = Some(b"k\xfe"[..].into());
    let pretty = b"{\n  \"objectType\": \"case\",\n  \"n\": 1.10\n}";
    vec![
        record(0, 1, Some(UPDATE.as_bytes()), None),
        record(0, 2, Some(SHARE.as_bytes()), None),
        record(0, 3, Some(WRONG.as_bytes()), None),
        binary,
        record(0, 5, None, Some("a-key")),
        record(0, 6, Some(pretty), None),
    ]
}

#[test]
fn prints_what_is_there_and_ends_at_the_limit() {
    let broker = broker(1);
    let address = broker.bootstrap_servers();
    publish(&broker, &commands());
    let tail = |topic: &str, limit: &str, json: &[&str]| {
        let mut command = program(&["tail", topic, "-b", &address, "--from", "beginning", "--limit", limit]);
        command.args(json);
        run(command, b"").transcript()
    };
    assert_output!("tail-notifications", tail("notifications", "1", &[]));
    assert_output!("tail-notifications-json", tail("notifications", "1", &["--json"]));
    assert_output!("tail-rejections", tail("rejections", "4", &[]));
    assert_output!("tail-rejections-json", tail("rejections", "4", &["--json"]));
    assert_output!("tail-limit-0", tail("rejections", "0", &[]));
}

/// The limit is not reached; one partition is empty, and two are not.
#[test]
fn until_the_end_it_prints_what_is_there_and_ends() {
    let broker = broker(3);
    let address = broker.bootstrap_servers();
    let tail = |arguments: &[&str]| {
        let mut command = program(&["tail", "rejections", "-b", &address, "--until-end", "--json"]);
        command.args(arguments);
        run(command, b"").success().lines().count()
    };
    assert_eq!(tail(&["--limit", "10"]), 0);
    let mut commands = commands();
    commands.iter_mut().zip(0_u8..).for_each(|(command, number)| command.key = Some(vec![number].into()));
    publish(&broker, &commands);
    let all = tail(&["--from", "beginning"]);
    assert_eq!(all, 4);
    // Where to start need not be said, but counts where it is.
    assert_eq!(tail(&["--limit", "10"]), all);
    assert_eq!(tail(&["--limit", "2"]), 2);
    assert_eq!(tail(&["--from", "end"]), 0);
    let mut readable = program(&["tail", "notifications", "-b", &address, "--until-end"]);
    readable.args(["--limit", "10"]);
    assert_output!("tail-until-end", run(readable, b"").transcript());
}

#[test]
fn follows_from_the_end_until_it_is_interrupted() {
    let broker = broker(3);
    publish(&broker, &commands());
    let mut tail = Running::start(program(&["tail", "notifications", "-b", &broker.bootstrap_servers()]));
    wait_until("its start", || tail.stderr().contains("following"));
    assert_eq!(tail.stdout(), "");
    let mut later = record(0, 9, Some(UPDATE.as_bytes()), None);
    publish(&broker, std::slice::from_ref(&later));
    assert!(tail.lines(1)[0].contains("000000000009/0"), "{}", tail.stdout());
    later.coordinates.offset = 10;
    publish(&broker, &[later]);
    assert!(tail.lines(2)[1].contains("00000000000a/0"), "{}", tail.stdout());
    tail.signal(Signal::SIGINT);
    assert!(tail.wait(PATIENCE).status.success());
}

/// librdkafka says it every second.
#[test]
fn a_broker_that_goes_away_is_waited_for_and_named_once() {
    let broker = broker(1);
    let mut tail = Running::start(program(&["tail", "notifications", "-b", &broker.bootstrap_servers()]));
    wait_until("its start", || tail.stderr().contains("following"));
    drop(broker);
    let said = |stderr: String| stderr.matches("no broker answers any more").count();
    wait_until("the warning", || said(tail.stderr()) > 0);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(tail.is_running());
    tail.signal(Signal::SIGTERM);
    let finished = tail.wait(PATIENCE);
    assert!(finished.status.success());
    assert_eq!(said(finished.stderr), 1);
}

#[test]
fn errors_name_topic_and_broker() {
    let broker = broker(1);
    let address = broker.bootstrap_servers();
    let error = |arguments: &[&str]| run(program(arguments), b"").transcript();
    assert_output!(
        "tail-no-topic",
        error(&["tail", "rejections", "-b", &address, "--rejections-topic", "no.such.topic"])
    );
    assert_output!("tail-no-broker", error(&["tail", "notifications", "-b", &deaf_address()]));
}
