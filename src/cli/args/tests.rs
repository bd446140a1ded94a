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

/// Every command with its full name, without the program's: `log list`.
fn commands() -> Vec<(String, clap::Command)> {
    fn add(name: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
        all.push((name.trim().to_owned(), command.clone()));
        for command in command.get_subcommands() {
            add(&format!("{name} {}", command.get_name()), command, all);
        }
    }
    let mut all = Vec::new();
    add("", &Args::command(), &mut all);
    all
}

#[test]
fn help() {
    for (name, _) in commands() {
        let words = iter::once("activity-stream").chain(name.split_whitespace()).chain(["--help"]);
        let help = Args::command().term_width(100).try_get_matches_from(words).expect_err("help");
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
        let help = help.to_string();
        assert!(help.contains("Example"), "{name}: no example");
        insta::with_settings!({ prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("help {name}").trim_end().replace(' ', "-"), help);
        });
    }
}

/// Each example in the help is a command line that parses.
#[test]
fn examples_parse() {
    let mut parsed = 0;
    for (_, command) in commands() {
        let text = command.get_after_help().expect("examples").to_string();
        for line in text.lines().filter(|line| line.starts_with("  ")) {
            let start = line.find("activity-stream ").expect("an example of the program");
            let command = line[start..].split("  ").next().expect("a command");
            let command = command.split([' ', '|', '>']).take_while(|word| !word.is_empty());
            if let Err(error) = Args::try_parse_from(command) {
                panic!("{line}: {error}");
            }
            parsed += 1;
        }
    }
    assert!(parsed > 40, "{parsed}");
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
