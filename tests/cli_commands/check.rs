use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    thread,
};

use crate::{
    assert_output,
    samples::{fill_log, open_log},
    support::{broker, deaf_address, folder, program, run},
};

#[test]
fn all_is_well() {
    let (broker, folder) = (broker(6), folder());
    let address = broker.bootstrap_servers();
    let path = folder.path().join("activity.db");
    drop(open_log(path.clone()));
    let check = |json: &[&str]| {
        let secret = "sasl.password=s3cret";
        let mut command = program(&["check", "-b", &address, "-X", secret, "--log-file"]);
        command.arg(&path).args(json);
        run(command, b"").transcript()
    };
    let output = check(&[]);
    assert!(!output.contains("s3cret"), "{output}");
    assert_output!("check", output);
    assert_output!("check-json", check(&["--json"]));
    let _writer = open_log(path.clone());
    assert!(check(&[]).contains("in use by a running processor"));
}

/// As `run` does, which is held against a real Kafka in `tests/kafka/preflight.rs`.
#[test]
fn a_log_of_another_topic_is_refused() {
    let (broker, folder) = (broker(6), folder());
    let path = fill_log(folder.path());
    let mut command = program(&["check", "-b", &broker.bootstrap_servers(), "--log-file"]);
    command.arg(&path);
    assert_output!("check-other-topic", findings(&run(command, b"").transcript()));
}

/// The lines after what is in force.
fn findings(output: &str) -> String {
    let kinds = ["exit", "ok ", "warning ", "problem ", "---", "activity-stream"];
    let mut kept = String::new();
    for line in output.lines().filter(|line| kinds.iter().any(|kind| line.starts_with(kind))) {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

#[test]
fn every_problem_is_said() {
    let (broker, folder) = (broker(1), folder());
    let address = broker.bootstrap_servers();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("foreign.db"), "not a database, and longer than the header of one is. ".repeat(4))
        .unwrap();
    fill_log(folder.path());
    let check = |arguments: &[&str]| {
        let mut command = program(&["check"]);
        command.args(arguments);
        findings(&run(command, b"").transcript())
    };
    assert_output!("check-no-log", check(&["-b", &address, "--log-file", &path("none.db")]));
    assert_output!("check-no-folder", check(&["-b", &address, "--log-file", &path("none/none.db")]));
    assert_output!("check-foreign-log", check(&["-b", &address, "--log-file", &path("foreign.db")]));
    let replies = ["-b", &address, "--set", "topics.replies=activity.commands.answers"];
    assert_output!(
        "check-no-reply-topic",
        check(&[&replies[..], &["--log-file", &path("none.db")]].concat())
    );
    let topics = ["-b", &address, "--commands-topic", "no.such", "--rejections-topic", "no.such.either"];
    let log = ["--log-file", &path("activity.db")];
    assert_output!("check-no-topics", check(&[&topics[..], &log].concat()));
    let create = ["--set", "topics.create=true", "--log-file", &path("none.db")];
    assert_output!("check-topics-to-create", check(&[&topics[..], &create].concat()));
    assert_output!("check-no-broker", check(&["-b", &deaf_address(), "--log-file", &path("activity.db")]));
    let together = ["-X", "max.in.flight=10", "--log-file", &path("none.db")];
    assert_output!("check-properties-together", check(&[&["-b", &address][..], &together].concat()));
    assert_output!("check-bad-key", check(&["--set", "topics.partitons=3"]));
}

fn answer_once(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // All of it, or the end of the connection would take the answer with it.
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn readiness() {
    let ready = |address: &str, json: &[&str]| {
        let setting = format!("admin.listen={address}");
        let mut command = program(&["check", "--ready", "--set", &setting]);
        command.args(json);
        run(command, b"").transcript()
    };
    let good = answer_once("HTTP/1.1 200 OK\r\n\r\nready\n");
    let bad = answer_once("HTTP/1.1 503 Service Unavailable\r\n\r\ntaking up partitions\n");
    assert_output!("check-ready", ready(&good, &[]));
    assert_output!("check-ready-json", ready(&good, &["--json"]));
    assert_output!("check-not-ready", ready(&bad, &[]));
    assert_output!("check-not-ready-json", ready(&bad, &["--json"]));
    assert_output!("check-ready-nobody", ready(&deaf_address(), &[]));
    assert_output!("check-ready-not-set", run(program(&["check", "--ready"]), b"").transcript());
}
