use clap::CommandFactory;

use super::*;
use crate::config::Config;

fn overrides(line: &str) -> Vec<(String, String, String)> {
    let args = Args::try_parse_from(line.split(' ')).expect("a command line");
    args.overrides().into_iter().map(|set| (set.flag, set.key, set.value)).collect()
}

fn set(flag: &str, key: &str, value: &str) -> (String, String, String) {
    (flag.to_owned(), key.to_owned(), value.to_owned())
}

#[test]
fn is_well_formed() {
    Args::command().debug_assert();
}

#[test]
fn help() {
    let lines = [
        "",
        "demo",
        "run",
        "post",
        "tail",
        "log",
        "log list",
        "log show",
        "log stats",
        "log backup",
        "log rebuild",
        "rejections",
        "rejections list",
        "rejections show",
        "rejections replay",
        "schema",
        "check",
        "verify",
    ];
    for line in lines {
        let words = std::iter::once("activity-stream").chain(line.split_whitespace()).chain(["--help"]);
        let help = Args::command().term_width(100).try_get_matches_from(words).expect_err("help");
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
        let help = help.to_string();
        assert!(help.contains("Example"), "{line}: no example");
        insta::with_settings!({ prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("help {line}").trim_end().replace(' ', "-"), help);
        });
    }
}

/// Everything after `$ `-like examples in the help is a command line that parses.
#[test]
fn examples_parse() {
    let all = [
        examples::TOP,
        examples::DEMO,
        examples::RUN,
        examples::POST,
        examples::TAIL,
        examples::LOG,
        examples::LOG_LIST,
        examples::LOG_SHOW,
        examples::LOG_STATS,
        examples::LOG_CHECK,
        examples::LOG_BACKUP,
        examples::LOG_REBUILD,
        examples::REJECTIONS,
        examples::REJECTIONS_LIST,
        examples::REJECTIONS_SHOW,
        examples::REJECTIONS_REPLAY,
        examples::SCHEMA,
        examples::CHECK,
        examples::VERIFY,
    ];
    let mut parsed = 0;
    for line in all.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("  ")) {
        let start = line.find("activity-stream ").expect("an example of the program");
        let command = line[start..].split("  ").next().expect("a command");
        if let Err(error) = Args::try_parse_from(command.split(' ')) {
            panic!("{line}: {error}");
        }
        parsed += 1;
    }
    assert!(parsed > 15);
}

#[test]
fn options_count_on_both_sides_of_the_subcommand() {
    let found = overrides(
        "activity-stream -X a=1 --set x.y=1 --group one run -X b=2=3 -b host:1 --group two --set log.cache=1MiB",
    );
    let expected = [
        set("--set", "x.y", "1"),
        set("-X", "kafka.properties.a", "1"),
        set("--group", "kafka.group", "one"),
        set("--set", "log.cache", "1MiB"),
        set("-X", "kafka.properties.b", "2=3"),
        set("--bootstrap-servers", "kafka.bootstrap_servers", "host:1"),
        set("--group", "kafka.group", "two"),
    ];
    assert_eq!(found, expected);
    let found = overrides("activity-stream log stats --log-file a.db --guarantee at-least-once");
    assert_eq!(
        found,
        [set("--log-file", "log.path", "a.db"), set("--guarantee", "processor.guarantee", "at-least-once")]
    );
}

#[test]
fn the_later_configuration_file_wins() {
    let file = |line: &str| Args::try_parse_from(line.split(' ')).expect("a command line").config_file();
    assert_eq!(file("activity-stream --config a check --config b"), Some("b".into()));
    assert_eq!(file("activity-stream --config a check"), Some("a".into()));
    assert_eq!(file("activity-stream check"), None);
}

/// Every flag that sets a key sets one that there is.
#[test]
fn flags_set_keys_of_the_configuration() {
    let line = "activity-stream run -b host:1 --group g --log-file l --commands-topic c --notifications-topic n \
                --rejections-topic r --guarantee at-least-once -X client.id=x --set admin.listen=127.0.0.1:1";
    let args = Args::try_parse_from(line.split_whitespace()).expect("a command line");
    let sources = Sources { overrides: args.overrides(), ..Default::default() };
    let config = Config::load(sources).expect("a configuration");
    assert_eq!(config.origins.len(), 9);
    assert_eq!(config.topics.rejections, "r");
}

#[test]
fn refuses_what_makes_no_sense() {
    let lines = [
        "activity-stream",
        "activity-stream run -X linger.ms",
        "activity-stream run --set =1",
        "activity-stream run --accept everything",
        "activity-stream tail commands",
        "activity-stream log list --object customer",
        "activity-stream log list --since soon",
        "activity-stream log show 42",
    ];
    for line in lines {
        assert!(Args::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

#[test]
fn types_and_ids_may_hold_slashes() {
    assert_eq!(object("case/2026/7"), Ok("case/2026/7".to_owned()));
    for wrong in ["case", "case/", "/7", ""] {
        assert!(object(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn accepts_several_losses() {
    let line = "activity-stream run --accept lost-commands --accept republish";
    let args = Args::try_parse_from(line.split(' ')).expect("a command line");
    let Command::Run(run) = args.command else { panic!("run") };
    let wanted = Accept { lost_commands: true, republish: true, ..Accept::default() };
    assert_eq!(run.accept(), wanted);
}
