//! The Rust programs in `examples/` that other languages do not have. `languages` runs the others.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::LazyLock,
};

use super::{
    broker,
    languages::bounded,
    process::{PATIENCE, Setup},
    progress::Progress,
    say, topics,
};

/// Where cargo puts the examples. They are built as this test was, since `cargo test --test kafka` does not build them.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("this program's file");
    let folder = test.ancestors().nth(2).expect("target, profile and 'deps'");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let features = [("zstd", cfg!(feature = "zstd")), ("ssl", cfg!(feature = "ssl"))];
    let features: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--examples", "--profile", profile]);
    cargo.args(["--no-default-features", "--features", &features.join(",")]);
    cargo.arg("--target-dir").arg(folder.parent().expect("target"));
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&output.stderr));
    folder.join("examples")
});

/// The example of this name, which the arguments are to follow.
pub fn program(name: &str) -> Command {
    bounded(FOLDER.join(name))
}

/// What it prints.
#[track_caller]
fn printed(name: &str, arguments: &[&str]) -> String {
    let output = program(name).args(arguments).output().expect("it runs");
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{name}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn the_examples_in_rust_wait_for_verdicts_and_post_many() {
    let setup = Setup::new("examples", &broker::shared(), 3);
    let (servers, commands) = (setup.servers.as_str(), setup.names.commands.as_str());
    let answers = format!("{}.answers", setup.names.group);
    topics::create(servers, &answers, 2, &[]);
    topics::await_known(servers, &answers, 2);
    let mut instance = setup.start("only", &["--set", &format!("topics.replies={answers}")]);
    let wait = || printed("post_and_wait", &[servers, commands, &answers]);
    let first = wait();
    let id = first.strip_prefix("accepted: ").unwrap_or_else(|| panic!("{first}"));
    assert_eq!(wait(), format!("came before: {id}"));

    assert_eq!(
        printed("post_many", &[servers, commands]),
        "100 commands posted, 100 ids\n\
         not posted: /Targets: an entry has no property \"Targets\"; did you mean \"targets\"? (misspelt_targets)\n"
    );
    Progress::of(&setup).await_published(102, PATIENCE, || instance.assert_running());
    instance.stop();
    let group = format!("{}-readers", setup.names.group);
    let output = printed("follow_notifications", &[servers, &setup.names.notifications, &group, "100"]);
    assert!(output.lines().all(|line| line.contains(" Identity:nordlys/accounting customer/")), "{output}");
    say!("examples: {} notifications", output.lines().count());
}
