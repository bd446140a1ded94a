//! A broker that checks access: with the rights in docs/operations.md everything works, and if one is missing, the program
//! names exactly that one.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
    sync::LazyLock,
    thread,
};

use super::{
    broker::{Cluster, Further},
    distribution,
    load::Load,
    process::{PATIENCE, Setup},
    progress::Progress,
    seed, topics, wait_until,
};

const LISTENER: &str = "GUARDED";
const PARTITIONS: i32 = 2;
/// Of which some are rejected and some notify.
const COMMANDS: u32 = 200;

/// Users are `u0`, `u1`, … and `all`, with their names for passwords.
const USERS: usize = 28;
const COMMAND: &str = "{\"objectType\": \"case\", \"objectId\": \"7\"}\n";

fn cluster() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
        let users: String = (0..USERS).map(|user| format!(" user_u{user}=\"u{user}\"")).collect();
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let jaas = format!("{module} required user_all=\"all\"{users};");
        let settings = [
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            // Of the open listener, which the tests' own clients use.
            ("super.users", "User:ANONYMOUS"),
            ("listener.name.guarded.sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.guarded.plain.sasl.jaas.config", &jaas),
        ];
        let further = Further { listeners: &[(LISTENER, "SASL_PLAINTEXT")], ..Further::default() };
        Cluster::guarded(&settings, &further)
    });
    &CLUSTER
}

/// A right on something of a setup's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Right {
    operation: &'static str,
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Commands,
    Notifications,
    Rejections,
    Replies,
    Group,
    TransactionalIds,
}

const fn right(operation: &'static str, on: On) -> Right {
    Right { operation, on }
}

impl Right {
    /// Resource type, name and pattern.
    fn resource(self, setup: &Setup) -> (&'static str, String, &'static str) {
        let names = &setup.names;
        match self.on {
            On::Commands => ("topic", names.commands.clone(), "literal"),
            On::Notifications => ("topic", names.notifications.clone(), "literal"),
            On::Rejections => ("topic", names.rejections.clone(), "literal"),
            On::Replies => ("topic", replies(setup), "literal"),
            On::Group => ("group", names.group.clone(), "literal"),
            On::TransactionalIds => {
                ("transactional_id", format!("activity-stream-{}-", names.group), "prefixed")
            }
        }
    }

    /// A line of `Acls.java`.
    fn granted(self, setup: &Setup, user: &str) -> String {
        let (kind, name, pattern) = self.resource(setup);
        format!("{user} {} {kind} {pattern} {name}\n", self.operation)
    }

    /// What the program says of it.
    fn lacking(self, setup: &Setup, user: &str) -> String {
        let (kind, name, _) = self.resource(setup);
        let on = match kind {
            "transactional_id" => format!("the transactional ids that begin with '{name}'"),
            kind => format!("the {kind} '{name}'"),
        };
        format!("user '{user}' lacks {} on {on}. Grant it: kafka-acls.sh", self.operation)
    }
}

/// The table in docs/operations.md: what `run` needs.
const RUN: [Right; 10] = [
    right("Read", On::Commands),
    right("DescribeConfigs", On::Commands),
    right("Write", On::Notifications),
    right("DescribeConfigs", On::Notifications),
    right("Write", On::Rejections),
    right("DescribeConfigs", On::Rejections),
    right("Write", On::Replies),
    right("DescribeConfigs", On::Replies),
    right("Read", On::Group),
    right("Write", On::TransactionalIds),
];
/// What the others need.
const TAIL: [Right; 1] = [right("Read", On::Notifications)];
const TAIL_REJECTIONS: [Right; 1] = [right("Read", On::Rejections)];
const POST: [Right; 1] = [right("Write", On::Commands)];
const POST_AND_WAIT: [Right; 2] = [right("Write", On::Commands), right("Read", On::Replies)];
const LIST: [Right; 1] = [right("Read", On::Rejections)];
const REPLAY: [Right; 2] = [right("Read", On::Rejections), right("Write", On::Commands)];
const VERIFY: [Right; 5] = [
    right("Read", On::Commands),
    right("Read", On::Notifications),
    right("Read", On::Rejections),
    right("DescribeConfigs", On::Rejections),
    right("Describe", On::Group),
];

fn replies(setup: &Setup) -> String {
    format!("{}.replies", setup.names.group)
}

/// Topics with commands that nobody has decided.
fn setup(test: &str) -> Setup {
    let servers = cluster().servers();
    let setup = Setup::new(test, &servers, PARTITIONS);
    topics::create(&servers, &replies(&setup), 1, &[]);
    topics::await_known(&servers, &replies(&setup), 1);
    Load { seed: seed(test), commands: COMMANDS }.post(&servers, &setup.names.commands, 0..COMMANDS).finish();
    setup
}

fn grant(lines: &str) {
    let mut java = distribution::java(128);
    java.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/Acls.java")).arg(cluster().servers());
    let mut java = java.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("java starts");
    java.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("read");
    let output = java.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What makes the program this user.
fn login(setup: &Setup, user: &str) -> Vec<String> {
    let mut arguments = vec!["-b".to_owned(), cluster().address(LISTENER)];
    let name = format!("sasl.username={user}");
    let password = format!("sasl.password={user}");
    for property in ["security.protocol=sasl_plaintext", "sasl.mechanism=PLAIN", &name, &password] {
        arguments.extend(["-X".to_owned(), property.to_owned()]);
    }
    arguments.extend(["--set".to_owned(), format!("topics.replies={}", replies(setup))]);
    arguments
}

fn command(setup: &Setup, user: &str, arguments: &[&str]) -> Command {
    let mut command = setup.program(arguments);
    command.args(login(setup, user)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(setup: &Setup, user: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = command(setup, user, arguments).spawn().expect("the program starts");
    // It may end before it reads.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("its end")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The arguments after `run`'s own, as [`Setup::start`] takes them.
fn arguments(login: &[String]) -> Vec<&str> {
    login.iter().map(String::as_str).collect()
}

/// Whether a user without a right may at least describe what it is on, so that only its use fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Blind,
    Describes,
}

/// The lines of `Acls.java` for a user with all of these but one.
fn granted(setup: &Setup, user: &str, rights: &[Right], missing: Option<Right>, sight: Sight) -> String {
    let granted = rights.iter().filter(|right| Some(**right) != missing);
    let mut lines: String = granted.map(|right| right.granted(setup, user)).collect();
    if let (Some(missing), Sight::Describes) = (missing, sight) {
        lines.push_str(&Right { operation: "Describe", on: missing.on }.granted(setup, user));
    }
    lines
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn with_the_rights_of_the_table_everything_works() {
    let setup = setup("rights");
    let all = [&RUN[..], &POST_AND_WAIT, &TAIL, &TAIL_REJECTIONS].concat();
    let purposes = [("run", &RUN[..]), ("tail", &TAIL), ("tail", &TAIL_REJECTIONS), ("post", &POST)];
    let more =
        [("rejections", &LIST[..]), ("rejections", &REPLAY), ("verify", &VERIFY), ("post", &POST_AND_WAIT)];
    let users: Vec<_> = purposes.into_iter().chain(more).zip(0..).collect();
    let mut lines = granted(&setup, "all", &all, None, Sight::Blind);
    for ((_, rights), user) in &users {
        lines.push_str(&granted(&setup, &format!("u{user}"), rights, None, Sight::Blind));
    }
    grant(&lines);

    let checked = output(&setup, "u0", &["check"], "");
    let text = said(&checked);
    assert!(checked.status.success(), "{text}");
    let login_all = login(&setup, "u0");
    let mut instance = setup.start("only", &arguments(&login_all));
    Progress::of(&setup).await_published(COMMANDS.into(), PATIENCE, || instance.assert_running());
    let waited = output(&setup, "u7", &["post", "--wait=120s"], COMMAND);
    assert!(waited.status.success(), "{}", said(&waited));
    let text = instance.stop();
    assert!(!text.contains(" lacks "), "{text}");

    let log = setup.log("only").display().to_string();
    let works = |user: &str, arguments: &[&str], input: &str| {
        let ended = output(&setup, user, arguments, input);
        assert!(ended.status.success(), "{arguments:?}: {}", said(&ended));
    };
    works("u6", &["verify", "--log", &log], "");
    works("u1", &["tail", "notifications", "--from", "beginning", "--limit", "1"], "");
    works("u2", &["tail", "rejections", "--from", "beginning", "--limit", "1"], "");
    works("u3", &["post"], COMMAND);
    works("u4", &["rejections", "list"], "");
    works("u5", &["rejections", "replay", "--all", "--no-check"], "");
    let every = ["check", "--for", "tail", "--for", "post", "--for", "verify", "--for", "rejections"];
    let checked = output(&setup, "all", &every, "");
    let text = said(&checked);
    assert!(checked.status.success() && !text.contains(" lacks "), "{text}");
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_each_missing_right_of_run() {
    each_right_of_run(Sight::Blind, &RUN, EXACTLY_ONCE);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_each_missing_right_of_run_on_a_describable_resource() {
    // Of settings and replies it makes no difference.
    let used =
        RUN.into_iter().filter(|right| right.operation != "DescribeConfigs" && right.on != On::Replies);
    each_right_of_run(Sight::Describes, &used.collect::<Vec<_>>(), EXACTLY_ONCE);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_each_missing_right_of_run_with_at_least_once() {
    let rights =
        [right("Write", On::Notifications), right("Write", On::Rejections), right("Read", On::Group)];
    each_right_of_run(Sight::Describes, &rights, "at-least-once");
}

const EXACTLY_ONCE: &str = "exactly-once";

/// One after the other of these is missing.
fn each_right_of_run(sight: Sight, missing: &[Right], guarantee: &'static str) {
    let cases: Vec<_> = missing
        .iter()
        .copied()
        .zip(0..)
        .map(|(right, user)| {
            (setup(&format!("{guarantee}-{sight:?}-{user}").to_lowercase()), format!("u{user}"), right)
        })
        .collect();
    let lines = cases.iter().map(|(setup, user, right)| granted(setup, user, &RUN, Some(*right), sight));
    grant(&lines.collect::<String>());
    // Few at a time: a start is what costs.
    thread::scope(|scope| {
        for worker in 0..3 {
            let mine: Vec<_> = cases.iter().skip(worker).step_by(3).collect();
            scope.spawn(move || {
                for (setup, user, right) in mine {
                    run_without(setup, user, *right, guarantee);
                }
            });
        }
    });
}

fn run_without(setup: &Setup, user: &str, right: Right, guarantee: &str) {
    let lacking = right.lacking(setup, user);
    // Settings are not checked, and replies left out.
    let is_stopped = right.operation != "DescribeConfigs" && right.on != On::Replies;
    let checked = output(setup, user, &["check"], "");
    let text = said(&checked);
    // Rights of other commands are missing too, and keep this one from nothing.
    let status = if is_stopped { "problem  " } else { "warning  " };
    let named = text.lines().filter(|line| line.contains(&lacking)).collect::<Vec<_>>();
    let is_named = !named.is_empty() && named.iter().all(|line| line.starts_with(status));
    assert!(is_named, "{right:?}: {text}");
    let problems = text.lines().filter(|line| line.starts_with("problem  ")).count();
    assert_eq!(problems, usize::from(is_stopped), "{right:?}: {text}");
    assert_eq!(checked.status.code(), Some(i32::from(is_stopped)), "{right:?}: {text}");

    let mut login = login(setup, user);
    login.extend(["--guarantee".to_owned(), guarantee.to_owned()]);
    let mut instance = setup.start("only", &arguments(&login));
    if right != right_on_replies() {
        wait_until(&format!("{right:?} to be named"), || {
            // In this order: what it ends with it says before.
            let is_running = instance.is_running();
            let is_named = instance.stderr().contains(&lacking);
            assert!(is_named || is_running, "{right:?}: {}", instance.stderr());
            is_named
        });
    }
    let text = instance.stderr();
    assert!(text.lines().all(|line| !line.contains(" lacks ") || line.contains(&lacking)), "{text}");
    assert!(!text.contains("PurgeQueue"), "{text}");
    if !is_stopped {
        Progress::of(setup).await_published(COMMANDS.into(), PATIENCE, || instance.assert_running());
        instance.stop();
    }
}

/// Nobody asks for replies here; that they are left out has a test of its own.
const fn right_on_replies() -> Right {
    right("Write", On::Replies)
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_each_topic_that_may_not_be_created() {
    let setup = Setup::without_topics("create", &cluster().servers(), PARTITIONS);
    grant(&granted(&setup, "u0", &RUN, None, Sight::Blind));
    let lacking = [On::Commands, On::Notifications, On::Rejections]
        .map(|topic| right("Create", topic).lacking(&setup, "u0"));
    let create = ["--set", "topics.create=true"];
    let checked = output(&setup, "u0", &[&["check"], &create[..]].concat(), "");
    let text = said(&checked);
    let problems: Vec<_> = text.lines().filter(|line| line.starts_with("problem  ")).collect();
    assert_eq!((checked.status.code(), problems.len()), (Some(1), lacking.len()), "{text}");
    for (problem, lacking) in problems.iter().zip(&lacking) {
        assert!(problem.contains(lacking), "{text}");
    }
    let login = login(&setup, "u0");
    let refusal = setup.refusal("only", &[&arguments(&login)[..], &create].concat());
    assert!(lacking.iter().all(|lacking| refusal.contains(lacking)), "{refusal}");
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_each_missing_right_of_every_other_command() {
    let setup = setup("others");
    // By somebody who may do all.
    let mut instance = setup.start("only", &[]);
    Progress::of(&setup).await_published(COMMANDS.into(), PATIENCE, || instance.assert_running());
    instance.stop();
    let log = setup.log("only").display().to_string();
    let commands: [(&[&str], &[Right]); 7] = [
        (&["verify", "--log", &log], &VERIFY),
        (&["tail", "notifications", "--from", "beginning", "--limit", "1"], &TAIL),
        (&["tail", "rejections", "--from", "beginning", "--limit", "1"], &TAIL_REJECTIONS),
        (&["rejections", "list"], &LIST),
        // Unchecked: where all of them would be rejected again, nothing would be written (KAFKA_TEST_SEED=1074751270).
        (&["rejections", "replay", "--all", "--no-check"], &REPLAY),
        (&["post"], &POST),
        (&["post", "--wait=120s"], &POST_AND_WAIT),
    ];
    let every: Vec<(&[&str], &[Right], Right, Sight)> = commands
        .into_iter()
        .flat_map(|(command, rights)| rights.iter().map(move |right| (command, rights, *right)))
        .flat_map(|(command, rights, right)| {
            [Sight::Blind, Sight::Describes].map(|sight| (command, rights, right, sight))
        })
        .filter(|(.., right, sight)| right.operation != "Describe" || *sight == Sight::Blind)
        .collect();
    assert!(every.len() <= USERS);
    let user = |index: usize| format!("u{index}");
    let lines = every.iter().enumerate().map(|(index, (_, rights, right, sight))| {
        granted(&setup, &user(index), rights, Some(*right), *sight)
    });
    grant(&lines.collect::<String>());
    let try_one = |index: usize| {
        let (arguments, _, right, sight) = every[index];
        let (user, purpose) = (user(index), arguments[0]);
        let lacking = right.lacking(&setup, &user);
        let ended = output(&setup, &user, arguments, COMMAND);
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?} {right:?} {sight:?}: {text}");
        assert!(text.contains(&lacking), "{arguments:?} {right:?} {sight:?}: {text}");
        let checked = output(&setup, &user, &["check", "--for", purpose], "");
        let text = said(&checked);
        let line = text.lines().find(|line| line.contains(&lacking)).unwrap_or_default();
        assert!(line.starts_with("problem") && line.contains(purpose), "{right:?} {sight:?}: {text}");
    };
    thread::scope(|scope| {
        for worker in 0..3 {
            let (count, try_one) = (every.len(), &try_one);
            scope.spawn(move || (worker..count).step_by(3).for_each(try_one));
        }
    });
}
