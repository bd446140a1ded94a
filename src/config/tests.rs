use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use contract::Limits;

use super::*;
use crate::telemetry::LogFormat;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("activity.toml");
    std::fs::write(&path, text).expect("configuration file");
    (directory, path)
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

fn flag(flag: &str, key: &str, value: &str) -> Override {
    Override { key: key.to_owned(), value: value.to_owned(), flag: flag.to_owned() }
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let (_directory, path) = file(text);
    Config::load(Sources { file: Some(path), ..Sources::default() })
}

fn from_variables(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(Sources { environment: variables(pairs), ..Sources::default() })
}

/// The problems, without the folder that the file happens to lie in.
fn problems(result: Result<Config, ConfigError>) -> String {
    let text = result.expect_err("a configuration error").to_string();
    let lines = text.lines().map(|line| match line.find("activity.toml:") {
        Some(start) => &line[start..],
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

const DEFAULT_FILE: &str = include_str!("../../config/default.toml");

#[test]
fn the_default_file_is_the_default() {
    let mut config = from_file(DEFAULT_FILE).expect("config/default.toml");
    config.origins.clear();
    assert_eq!(config, Config::default());
}

#[test]
fn the_default_file_has_every_key_and_its_variable() {
    let mut section = "";
    let mut found = Vec::new();
    for line in DEFAULT_FILE.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            found.push(format!("{section}.{key}"));
        }
    }
    for key in keys::KEYS {
        assert!(found.iter().any(|name| name == key.name), "config/default.toml lacks `{}`", key.name);
        let variable = format!("{ENVIRONMENT_PREFIX}{}", key.name.to_uppercase().replace('.', "_"));
        let named = DEFAULT_FILE.lines().any(|line| {
            line.starts_with('#') && line.split([' ', ',']).any(|word| word.trim_end_matches('.') == variable)
        });
        assert!(named, "config/default.toml does not say that {variable} sets `{}`", key.name);
    }
    let ours = found.iter().filter(|name| !name.starts_with("kafka.properties"));
    assert_eq!(ours.count(), keys::KEYS.len(), "a key that there is not: {found:?}");
}

/// Every shown value can be read again, so the reader and the writer of each key agree.
#[test]
fn the_description_reads_back() {
    let original = Config {
        kafka: Kafka {
            bootstrap_servers: "b1:9092,b2:9092".to_owned(),
            group: "a \"quoted\" group".to_owned(),
            properties: BTreeMap::from([("client.id".to_owned(), "#1".to_owned())]),
        },
        topics: Topics { create: true, partitions: 16_384, replication_factor: 3, ..Topics::default() },
        processor: Processor {
            guarantee: Guarantee::AtLeastOnce,
            batch_bytes: 10_000,
            ..Processor::default()
        },
        idempotency: Idempotency { window: Duration::from_millis(90_061_500) },
        limits: Limits { nesting: 127, value_bytes: 3 * 1024, ..Limits::default() },
        log: Log {
            path: "/var/lib/log ü.db".into(),
            synchronous: Synchronous::Normal,
            cache: 5 << 30,
            read_model: false,
            partitions: LogPartitions::Owned,
        },
        takeover: Takeover { max_lag_records: 0 },
        admin: Admin { listen: Some("[::1]:9464".parse().expect("address")) },
        telemetry: Telemetry { format: LogFormat::Json, filter: "warn,librdkafka=debug".to_owned() },
        origins: Origins::new(),
    };
    let mut config = from_file(&original.describe()).expect("the description is a configuration");
    config.origins.clear();
    assert_eq!(config, original);
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let (_directory, path) =
        file("[kafka]\ngroup = 'file'\nbootstrap_servers = 'file:1'\n[topics]\ncreate = true");
    let sources = Sources {
        file: Some(path),
        environment: variables(&[
            ("ACTIVITY_STREAM_KAFKA_GROUP", "variable"),
            ("ACTIVITY_STREAM_KAFKA_BOOTSTRAP_SERVERS", "variable:1"),
            ("HOME", "/somewhere"),
        ]),
        overrides: vec![flag("--set", "kafka.group", "first"), flag("--group", "kafka.group", "second")],
    };
    let config = Config::load(sources).expect("configuration");
    assert_eq!(config.kafka.group, "second");
    assert_eq!(config.kafka.bootstrap_servers, "variable:1");
    assert!(config.topics.create);
    assert_eq!(config.log, Log::default());
    assert_eq!(config.origins["kafka.group"], Origin::Flag("--group".to_owned()));
    assert!(matches!(&config.origins["topics.create"], Origin::File { line: 5, column: 10, .. }));
}

#[test]
fn a_variable_names_the_file_and_a_flag_another() {
    let (_a, by_variable) = file("kafka.group = 'by-variable'");
    let (_b, by_flag) = file("kafka.group = 'by-flag'");
    let environment = vec![("ACTIVITY_STREAM_CONFIG".into(), by_variable.into_os_string())];
    let sources = Sources { environment, ..Sources::default() };
    assert_eq!(Config::load(sources.clone()).expect("configuration").kafka.group, "by-variable");
    let config = Config::load(Sources { file: Some(by_flag), ..sources }).expect("configuration");
    assert_eq!(config.kafka.group, "by-flag");
}

#[test]
fn a_text_is_not_read_as_another_type() {
    let config = from_variables(&[("ACTIVITY_STREAM_KAFKA_GROUP", "123")]).expect("configuration");
    assert_eq!(config.kafka.group, "123");
    let config = from_variables(&[("ACTIVITY_STREAM_ADMIN_LISTEN", "")]).expect("configuration");
    assert_eq!(config.admin.listen, None);
}

#[test]
fn problems_of_a_file_say_where_and_what() {
    let text = r#"
[kafka]
bootstrap-servers = "localhost:9092"
group = ""
batch_records = 5
properties = { sasl.password = ["hunter2"], "auto.offset.reset" = "earliest" }

[topics]
partitions = 20000
replication_factor = 0
commands = "activity commands"
create = "yes"

[processor]
guarantee = "exactly once"
batch_records = 0
batch_bytes = "8 spoons"
wibble = 1

[limits]
problem_bytes = "1MiB"
nesting = 128

[idempotency]
window = "0s"

[log]
path = 7
cache = -1

[admin]
listen = "localhost"

[telemetry]
filter = "activity_stream=verbose"
format = 2026-11-23

[topic]
x = 1
"#;
    insta::assert_snapshot!(problems(from_file(text)));
}

#[test]
fn problems_of_variables_and_flags_say_where_and_what() {
    let sources = Sources {
        environment: variables(&[
            ("ACTIVITY_STREAM_KAFKA_BOOTSTRAP_SERVER", "localhost:9092"),
            ("ACTIVITY_STREAM_LOG_CACHE", "lots"),
            ("ACTIVITY_STREAM_XYZZY", "1"),
            ("ACTIVITY_STREAM_KAFKA_PROPERTIES_ISOLATION_LEVEL", "read_uncommitted"),
            ("ACTIVITY_STREAM_KAFKA_PROPERTIES_SASL_PASSWROD", "hunter2"),
        ]),
        overrides: vec![
            flag("--set", "topics.command", "x"),
            flag("--notifications-topic", "topics.notifications", "activity.commands"),
            flag("-X", "kafka.properties.linger.ms", "soon"),
            flag("-b", "kafka.bootstrap_servers", "localhost:http"),
        ],
        ..Sources::default()
    };
    insta::assert_snapshot!(problems(Config::load(sources)));
}

/// If a topic is set to the default of another, the set key is to blame, whichever comes first.
#[test]
fn the_value_that_was_set_is_blamed_not_the_default() {
    for (key, taken) in
        [("topics.commands", "activity.rejections"), ("topics.rejections", "activity.notifications")]
    {
        let overrides = vec![flag("--the-flag", key, taken)];
        let message = problems(Config::load(Sources { overrides, ..Sources::default() }));
        assert!(message.starts_with("--the-flag: ") && message.ends_with("they must differ"), "{message}");
    }
}

#[test]
fn topics_for_replies_are_an_array_or_names_between_commas() {
    let names = |config: &Config| config.topics.replies.names().map(str::to_owned).collect::<Vec<_>>();
    let by_file = from_file("[topics]\nreplies = ['b.answers', 'a']").expect("configuration");
    assert_eq!(names(&by_file), ["a", "b.answers"]);
    assert!(by_file.describe().contains(r#"replies = ["a", "b.answers"]"#), "{}", by_file.describe());
    let variable = |value| from_variables(&[("ACTIVITY_STREAM_TOPICS_REPLIES", value)]);
    assert_eq!(names(&variable("b.answers, a").expect("configuration")), ["a", "b.answers"]);
    assert_eq!(names(&variable("").expect("configuration")), [""; 0]);
    let problems = [
        from_file("[topics]\nreplies = ['a b']"),
        from_file("[topics]\nreplies = 'a'"),
        variable("a,activity.notifications"),
    ]
    .map(problems);
    insta::assert_snapshot!(problems.join("\n"));
}

#[test]
fn a_file_that_is_not_toml_or_not_there() {
    insta::assert_snapshot!(problems(from_file("[kafka]\ngroup = \n")), @"activity.toml:2:9: not TOML: string values must be quoted, expected literal string");
    let missing = Sources { file: Some("/nowhere/activity.toml".into()), ..Sources::default() };
    insta::assert_snapshot!(
        Config::load(missing).expect_err("no file"),
        @"--config: cannot read the configuration file /nowhere/activity.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn protected_properties_are_refused_by_every_name() {
    let names = [
        "isolation.level",
        "enable.auto.commit",
        "auto.commit.enable",
        "topic.auto.commit.enable",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "topic.auto.offset.reset",
        "topic.topic.acks",
        "transactional.id",
        "enable.idempotence",
        "acks",
        "request.required.acks",
        "group.id",
        "bootstrap.servers",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "group.remote.assignor",
        "enable.partition.eof",
        "transaction.timeout.ms",
        "delivery.timeout.ms",
        "topic.message.timeout.ms",
    ];
    for name in names {
        let overrides = vec![flag("-X", &format!("kafka.properties.{name}"), "1")];
        let message = problems(Config::load(Sources { overrides, ..Sources::default() }));
        assert!(message.contains(&format!("`{name}` cannot be set")), "{name}: {message}");
    }
}

#[test]
fn two_names_of_a_property_are_one() {
    let text = "[kafka.properties]\nqueue.buffering.max.ms = 7\ntopic.metadata.refresh.interval.ms = 1000";
    let mut config = from_file(text).expect("configuration");
    assert_eq!(config.kafka.properties["linger.ms"], "7");
    assert_eq!(config.kafka.properties["topic.metadata.refresh.interval.ms"], "1000");
    config = from_variables(&[("ACTIVITY_STREAM_KAFKA_PROPERTIES_LOG_LEVEL", "7")]).expect("configuration");
    assert_eq!(config.kafka.properties["log_level"], "7");
}

/// It depends on the build, so the message says which build is needed.
#[test]
#[cfg(not(feature = "ssl"))]
fn a_build_without_tls_says_so() {
    let text = "[kafka.properties]\nsecurity.protocol = 'SASL_SSL'\nssl.key.password = 'hunter2'\n";
    let message = problems(from_file(text));
    assert_eq!(message.matches("built without TLS; build it with `--features ssl`").count(), 2, "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

/// Kubernetes puts these beside a Service of the program's name.
#[test]
fn service_links_are_not_mistakes() {
    let links = [
        ("ACTIVITY_STREAM_SERVICE_HOST", "10.0.0.1"),
        ("ACTIVITY_STREAM_SERVICE_PORT_METRICS", "9464"),
        ("ACTIVITY_STREAM_PORT", "tcp://10.0.0.1:9464"),
        ("ACTIVITY_STREAM_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
    ];
    assert_eq!(from_variables(&links), Ok(Config::default()));
}

#[test]
fn secrets_are_hidden() {
    let variables = [
        ("ACTIVITY_STREAM_KAFKA_PROPERTIES_SASL_PASSWORD", "hunter2"),
        ("ACTIVITY_STREAM_KAFKA_PROPERTIES_CLIENT_ID", "https://user:hunter2@host/,http://a:hunter2@b"),
    ];
    let mut config = from_variables(&variables).expect("configuration");
    assert_eq!(config.kafka.properties["sasl.password"], "hunter2");
    // librdkafka accepts these only if it was built with TLS.
    for name in ["ssl.key.password", "sasl.oauthbearer.client.secret", "ssl.keystore.password", "ssl.key.pem"]
    {
        config.kafka.properties.insert(name.to_owned(), "hunter2".to_owned());
    }
    let shown = config.describe();
    insta::assert_snapshot!(shown);
    assert!(!shown.contains("hunter2") && !format!("{config:?}").contains("hunter2"));
}

#[test]
fn credentials_in_addresses_are_hidden() {
    let cases = [
        ("http://u:p@h/x", "http://********@h/x"),
        ("no url", "no url"),
        ("a@b", "a@b"),
        ("http://h/x@y", "http://h/x@y"),
        ("http://u:p@w@h", "http://********@h"),
    ];
    for (text, shown) in cases {
        assert_eq!(properties::without_credentials(text), shown);
    }
}
