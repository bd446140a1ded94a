use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use kafka::{Topics, context::Context, embedded::EmbeddedBroker};
use nix::{sys::stat::Mode, unistd::mkfifo};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as LOADING},
};

use super::{
    assert_output,
    samples::{fill_log, open_log},
};
use crate::support::{broker, deaf_address, folder, program, run, topics};

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
fn reports_every_problem() {
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

/// `run` would make the topic empty, and then refuse the log.
#[test]
fn a_log_that_a_topic_yet_to_be_made_lacks_is_refused() {
    let folder = folder();
    let path = fill_log(folder.path());
    let others = Topics { commands: "activity.others".into(), ..topics(1) };
    let broker = EmbeddedBroker::start(&others).expect("the embedded broker starts");
    let address = broker.bootstrap_servers();
    let starts = |partitions: &str| {
        let partitions = format!("topics.partitions={partitions}");
        let mut command = program(&["check", "-b", &address, "--set", "topics.create=true", "--log-file"]);
        command.arg(&path).args(["--set", &partitions]);
        let output = run(command, b"").transcript();
        let starts: Vec<_> =
            output.lines().filter(|line| line.contains("  start  ")).map(str::to_owned).collect();
        starts
    };
    let beyond = |partition: i32| {
        format!(
            "problem  start    partition {partition}: the logged cursor is at 6, beyond the topic's end (it holds 0 to 0)"
        )
    };
    for (partitions, refused) in [("6", &[0, 3][..]), ("1", &[0])] {
        let starts = starts(partitions);
        assert_eq!(starts.len(), refused.len(), "{starts:?}");
        for (start, partition) in starts.iter().zip(refused) {
            assert!(start.starts_with(&beyond(*partition)), "{start}");
        }
    }
}

/// As `run` does: the log may be a copy of another one.
#[test]
fn the_clean_stop_of_a_log_without_its_instance_file_does_not_count() {
    let (broker, folder) = (broker(6), folder());
    let path = folder.path().join("activity.db");
    open_log(path.clone()).record_clean_stop(&[(0, 0)]).unwrap();
    let check = || {
        let mut command = program(&["check", "-b", &broker.bootstrap_servers(), "--log-file"]);
        command.arg(&path);
        run(command, b"").transcript()
    };
    let output = check();
    assert!(output.contains("'run' would start 6 partitions"), "{output}");
    fs::remove_file(instance(folder.path())).unwrap();
    let output = check();
    assert!(output.contains("partition 0: the group's committed offset is absent"), "{output}");
}

/// All that lies in a folder, with its bytes where it is a regular file.
fn files(folder: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let is_file = fs::symlink_metadata(&path).unwrap().is_file();
            (path.display().to_string(), is_file.then(|| fs::read(&path).unwrap()))
        })
        .collect()
}

/// A log that is not used, changed by `change`, is a problem, of which `run` says the same; and nothing is touched.
fn refused_by_both(wanted: &str, change: Change) {
    let (broker, folder) = (broker(6), folder());
    let path = folder.path().join("activity.db");
    drop(open_log(path.clone()));
    change(folder.path(), &path);
    let before = files(folder.path());
    let mut check = program(&["check", "-b", &broker.bootstrap_servers(), "--log-file"]);
    check.arg(&path);
    let output = findings(&run(bound_by_permissions(check, folder.path()), b"").transcript());
    assert!(output.starts_with("exit 1\n"), "{wanted}: {output}");
    let problems: Vec<_> =
        output.lines().filter_map(|line| line.strip_prefix("problem  log      ")).collect();
    assert!(problems.len() == 1 && problems[0].contains(wanted), "{wanted}: {output}");
    assert_eq!(files(folder.path()), before, "{wanted}: something was made or changed");
    let mut start = program(&["run", "--embedded", "--log-file"]);
    start.arg(&path);
    let refusal = run(bound_by_permissions(start, folder.path()), b"");
    assert!(!refusal.status.success() && refusal.stderr.contains(problems[0]), "{}", refusal.transcript());
    assert_eq!(files(folder.path()), before, "{wanted}: 'run' made or changed something");
}

/// The same command, for which permissions count where this user is root too.
fn bound_by_permissions(command: Command, folder: &Path) -> Command {
    if fs::metadata(folder).unwrap().uid() != 0 {
        return command;
    }
    let mut bound = Command::new("setpriv");
    bound.arg("--bounding-set=-dac_override").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    bound
}

/// What is done to a folder and the log in it.
type Change = fn(&Path, &Path);

/// Each with what is said of it.
fn each_refused_by_both(cases: &[(&str, Change)]) {
    // An embedded broker lets every question about rights and settings wait.
    thread::scope(|scope| {
        for &(wanted, change) in cases {
            scope.spawn(move || refused_by_both(wanted, change));
        }
    });
}

fn instance(folder: &Path) -> PathBuf {
    folder.join("activity.db-instance")
}

#[test]
fn files_that_run_refuses_are_problems() {
    each_refused_by_both(&[
        ("has 2 names (hard links)", |folder, path| fs::hard_link(path, folder.join("other.db")).unwrap()),
        ("not an instance id", |folder, _| fs::write(instance(folder), "someone's\n").unwrap()),
        ("is a symbolic link", |folder, _| {
            fs::rename(instance(folder), folder.join("elsewhere")).unwrap();
            symlink(folder.join("elsewhere"), instance(folder)).unwrap();
        }),
        ("is a FIFO", |folder, _| {
            fs::remove_file(instance(folder)).unwrap();
            mkfifo(&instance(folder), Mode::S_IRWXU).unwrap();
        }),
        // Of a log that is still to be made, too.
        ("not an instance id", |folder, path| {
            fs::remove_file(path).unwrap();
            fs::write(instance(folder), "someone's\n").unwrap();
        }),
    ]);
}

#[test]
fn files_that_cannot_be_written_are_problems() {
    fn protect(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let denied = "can't write to it: Permission denied";
    each_refused_by_both(&[
        (denied, |folder, _| protect(folder, 0o555)),
        (denied, |folder, path| {
            fs::remove_file(path).unwrap();
            protect(folder, 0o555);
        }),
        (denied, |_, path| protect(path, 0o444)),
        (denied, |folder, _| protect(&instance(folder), 0o444)),
    ]);
}

#[test]
fn the_log_of_a_running_processor_is_sound_and_stays_as_it_is() {
    let (broker, folder) = (broker(1), folder());
    let path = folder.path().join("activity.db");
    let _writer = open_log(path.clone());
    // Not what they hold: reading a file here would end the writer's locks on it.
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    let before = names();
    let mut check = program(&["check", "-b", &broker.bootstrap_servers(), "--log-file"]);
    check.arg(&path);
    let output = run(check, b"").success();
    assert!(output.contains("in use by a running processor"), "{output}");
    assert_eq!(names(), before);
}

/// `run` would wait for as long as that lasts.
#[test]
fn a_start_that_would_wait_is_a_problem() {
    let start = |fault: fn(&MockCluster<'_, Context>)| {
        let (broker, folder) = (broker(3), folder());
        fault(&broker.cluster());
        let mut check = program(&["check", "-b", &broker.bootstrap_servers(), "--log-file"]);
        check.arg(folder.path().join("activity.db"));
        let output = findings(&run(check, b"").transcript());
        assert!(output.starts_with("exit 1\n"), "{output}");
        let starts =
            output.lines().filter_map(|line| line.strip_prefix("problem  start    'run' would not start "));
        let starts: Vec<_> = starts.collect();
        assert_eq!(starts.len(), 1, "{output}");
        (starts[0].to_owned(), output.contains("ok       start    'run' would start 2 partitions"))
    };
    let (without_leader, others_start) =
        start(|cluster| cluster.partition_leader("activity.commands", 1, None).unwrap());
    let named = "the first and last offsets of partition 1 of 'activity.commands'";
    assert!(
        without_leader.starts_with("partition 1, ") && without_leader.contains(named),
        "{without_leader}"
    );
    assert!(others_start);
    let (hung, others_start) =
        start(|cluster| cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[LOADING; 1_000]));
    assert!(hung.starts_with("any partition, "), "{hung}");
    assert!(hung.contains("the committed offsets of the group 'activity-stream'") && !others_start, "{hung}");
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
    let bad = answer_once("HTTP/1.1 503 Service Unavailable\r\n\r\nstarting partitions\n");
    assert_output!("check-ready", ready(&good, &[]));
    assert_output!("check-ready-json", ready(&good, &["--json"]));
    assert_output!("check-not-ready", ready(&bad, &[]));
    assert_output!("check-not-ready-json", ready(&bad, &["--json"]));
    assert_output!("check-ready-nobody", ready(&deaf_address(), &[]));
    assert_output!("check-ready-not-set", run(program(&["check", "--ready"]), b"").transcript());
}
