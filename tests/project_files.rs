//! The files beside the program agree with it: variables, flags, paths, licences.
//!
//! Docker may not be available where this runs, so the test reads the files instead, and passes everything in them that
//! concerns the program to the program.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use activity_stream::cli::args::{Args, Command};
use activity_stream::config::{Config, ENVIRONMENT_PREFIX, Sources};
use clap::Parser as _;
use serde::Deserialize;
use serde_json::Value;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[derive(Debug, Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    volumes: BTreeMap<String, Option<Value>>,
}

/// Closed, so that a misspelt key is found here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    image: Option<String>,
    build: Option<String>,
    command: Option<Vec<String>>,
    #[serde(default)]
    depends_on: BTreeMap<String, BTreeMap<String, String>>,
    environment: BTreeMap<String, String>,
    ports: Vec<String>,
    volumes: Vec<String>,
    healthcheck: HealthCheck,
    restart: Option<String>,
    stop_grace_period: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthCheck {
    test: Vec<String>,
    interval: String,
    timeout: String,
    retries: u32,
    start_period: String,
}

fn compose() -> Compose {
    serde_saphyr::from_str(&read("docker-compose.yml")).expect("docker-compose.yml")
}

fn service(compose: &Compose) -> &Service {
    &compose.services["activity-stream"]
}

/// The Dockerfile's instructions, continued lines joined, comments left out.
fn dockerfile() -> Vec<(String, String)> {
    let text = read("Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let instructions = joined.lines().filter_map(|line| line.trim().split_once(' '));
    instructions.map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).collect()
}

/// All that follows an instruction's name, for the last stage.
fn last_stage(name: &str) -> Vec<String> {
    let all = dockerfile();
    let start = all.iter().rposition(|(name, _)| name == "FROM").expect("FROM");
    all[start..].iter().filter(|(found, _)| found == name).map(|(_, rest)| rest.clone()).collect()
}

fn image_environment() -> BTreeMap<String, String> {
    let all = last_stage("ENV").join(" ");
    let pairs = all.split_whitespace().map(|pair| pair.split_once('=').expect("NAME=value"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn load(environment: &BTreeMap<String, String>) -> Config {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let sources = Sources { environment: environment.collect(), ..Sources::default() };
    Config::load(sources).unwrap_or_else(|error| panic!("{error}"))
}

/// As Docker joins them: entry point, then command.
fn parse(words: &[String]) -> Args {
    Args::try_parse_from(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn exec_form(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("not the exec form: {text}: {error}"))
}

#[test]
fn compose_configures_the_service() {
    let compose = compose();
    let mut environment = image_environment();
    environment.extend(service(&compose).environment.clone());
    assert!(environment.keys().all(|name| name.starts_with(ENVIRONMENT_PREFIX)), "{environment:?}");
    let config = load(&environment);
    assert_eq!(config.origins.len(), environment.len(), "every variable sets a key");
    assert!(config.topics.create);
    assert_eq!(config.topics.replication_factor, 1);
    // The topic of docs/producing.md, which the file's head makes.
    assert!(config.topics.replies.names().eq(["my.answers"]));
    assert!(read("docker-compose.yml").contains("--create --topic my.answers"));

    // The service reaches the broker where the broker says that containers do.
    let advertised = &compose.services["kafka"].environment["KAFKA_ADVERTISED_LISTENERS"];
    let internal = format!("INTERNAL://{}", config.kafka.bootstrap_servers);
    assert!(advertised.split(',').any(|listener| listener == internal), "{advertised}");
    assert!(advertised.contains(&format!("HOST://{}", Config::default().kafka.bootstrap_servers)));

    // What is published is what it listens on, and the image says so too.
    let listen = config.admin.listen.expect("a health check needs admin.listen");
    assert!(listen.ip().is_unspecified(), "{listen} cannot be reached from outside of the container");
    assert!(service(&compose).ports.iter().any(|port| port.ends_with(&format!(":{}", listen.port()))));
    assert_eq!(last_stage("EXPOSE"), [listen.port().to_string()]);
}

#[test]
fn the_log_lies_in_the_volume() {
    let compose = compose();
    let log = load(&service(&compose).environment).log.path;
    let directory = log.parent().expect("a folder");
    let mounts: Vec<_> = service(&compose).volumes.iter().filter_map(|mount| mount.split_once(':')).collect();
    let mount = mounts.iter().find(|(_, target)| Path::new(target) == directory);
    let (volume, _) = mount.unwrap_or_else(|| panic!("{} is in none of {mounts:?}", log.display()));
    assert!(compose.volumes.contains_key(*volume));

    let image = load(&image_environment());
    assert_eq!(image.log.path, log);
    assert_eq!(last_stage("VOLUME"), [directory.to_str().expect("UTF-8")]);
    assert_eq!(last_stage("WORKDIR"), [directory.to_str().expect("UTF-8")]);
    let owned =
        format!("--owner=activity-stream --group=activity-stream --mode=0750 {}", directory.display());
    assert!(
        last_stage("RUN").iter().any(|run| run.contains(&owned)),
        "nobody may write {}",
        directory.display()
    );
}

#[test]
fn commands_and_health_checks_parse() {
    let compose = compose();
    let [entry] = &last_stage("ENTRYPOINT")[..] else { panic!("one ENTRYPOINT") };
    let [command] = &last_stage("CMD")[..] else { panic!("one CMD") };
    let entry = exec_form(entry);
    for command in [&exec_form(command), service(&compose).command.as_ref().expect("command")] {
        let args = parse(&[entry.clone(), command.clone()].concat());
        assert!(matches!(args.command, Command::Run(_)));
    }

    let [check] = &last_stage("HEALTHCHECK")[..] else { panic!("one HEALTHCHECK") };
    let (options, check) = check.split_once("CMD ").expect("CMD");
    let of_image = exec_form(check);
    let of_compose = &service(&compose).healthcheck;
    assert_eq!(of_compose.test[0], "CMD");
    assert_eq!(of_compose.test[1..], of_image);
    let args = parse(&of_image);
    assert!(matches!(args.command, Command::Check(check) if check.ready));
    for option in [
        format!("--interval={}", of_compose.interval),
        format!("--timeout={}", of_compose.timeout),
        format!("--start-period={}", of_compose.start_period),
        format!("--retries={}", of_compose.retries),
    ] {
        assert!(options.contains(&option), "{option} in compose, {options} in the image");
    }
}

/// The examples in the file's head are command lines too.
#[test]
fn commands_in_the_comments_parse() {
    let text = read("docker-compose.yml");
    let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let programs: Vec<Vec<String>> = lines
        .filter_map(|line| line.split_once(" activity-stream ").map(|(_, rest)| rest))
        .map(|rest| {
            rest.trim_start_matches("activity-stream ").split_whitespace().map(str::to_owned).collect()
        })
        .collect();
    assert_eq!(programs.len(), 2);
    for words in programs {
        parse(&[vec!["activity-stream".to_owned()], words].concat());
    }
}

#[test]
fn the_image_is_built_and_run_as_it_should_be() {
    let compose = compose();
    assert_eq!(service(&compose).build.as_deref(), Some("."));
    assert_eq!(service(&compose).depends_on["kafka"]["condition"], "service_healthy");
    assert_eq!(service(&compose).restart.as_deref(), Some("on-failure"));
    let grace = service(&compose).stop_grace_period.as_deref().expect("stop_grace_period");
    assert!(grace.trim_end_matches('s').parse::<u32>().expect("seconds") > 5);
    let kafka = &compose.services["kafka"];
    assert!(
        kafka.image.as_ref().is_some_and(|image| image.starts_with("apache/kafka:4.")),
        "{:?}",
        kafka.image
    );

    assert_eq!(last_stage("USER"), ["activity-stream"]);
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml");
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().expect("rust-version");
    let from: Vec<String> =
        dockerfile().into_iter().filter(|(name, _)| name == "FROM").map(|(_, rest)| rest).collect();
    assert!(from[0].starts_with(&format!("rust:{rust}-")), "{from:?}");
    let suite = |image: &str| image.contains("bookworm");
    assert!(from.iter().all(|image| suite(image)), "what is built on one Debian runs on the same: {from:?}");

    // The build asks for features and a profile that there are.
    let build =
        dockerfile().into_iter().find(|(_, rest)| rest.contains("cargo build")).expect("cargo build").1;
    let features =
        build.split("--features ").nth(1).and_then(|rest| rest.split(' ').next()).expect("features");
    assert!(features.split(',').all(|feature| manifest["features"].get(feature).is_some()), "{features}");
    let profile =
        build.split("--profile ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a profile");
    assert!(manifest["profile"].get(profile).is_some(), "{profile}");
    assert!(build.contains(&format!("cp target/{profile}/activity-stream ")), "{build}");
}

/// What the build copies is there, and is not left out by `.dockerignore`.
#[test]
fn the_build_gets_what_it_copies() {
    let ignore = read(".dockerignore");
    let kept: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let copies =
        dockerfile().into_iter().filter(|(name, rest)| name == "COPY" && !rest.starts_with("--from"));
    for (_, rest) in copies {
        let mut words: Vec<&str> = rest.split_whitespace().collect();
        words.pop();
        for word in words {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(word).exists(), "COPY {word}: no such file");
            let reaches =
                Path::new(word).ancestors().any(|part| kept.contains(part.to_str().expect("UTF-8")));
            assert!(reaches, ".dockerignore leaves out {word}");
        }
    }
}

/// Every file that is compiled into the program is in the build's folder, and in the same place there.
#[test]
fn the_build_gets_what_the_program_includes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let building =
        dockerfile().into_iter().take_while(|(name, rest)| name != "FROM" || rest.ends_with(" AS build"));
    let mut copied = Vec::new();
    for (_, rest) in building.filter(|(name, _)| name == "COPY") {
        let (from, _to) = rest.rsplit_once(' ').expect("COPY FROM TO");
        copied.extend(from.split_whitespace().map(|word| root.join(word)));
    }
    assert!(copied.contains(&root.join("src")), "{copied:?}");
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("src") {
            let path = entry.expect("src").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for rest in text.split("include_").skip(1) {
                let Some(name) = rest.split_once("!(\"").and_then(|(_, name)| name.split('"').next()) else {
                    continue;
                };
                let Ok(file) = folder.join(name).canonicalize() else { continue };
                assert!(
                    copied.iter().any(|copied| file.starts_with(copied)),
                    "{} includes {name}, which the Dockerfile does not copy",
                    path.display()
                );
            }
        }
    }
}

/// What cargo prints of this workspace.
fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = std::process::Command::new(program);
    let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Whether the licence is among those allowed: `OR` needs one, `AND` needs all, and binds tighter.
fn is_allowed(licence: &str, allowed: &BTreeSet<String>) -> bool {
    let licence = licence.trim();
    if let Some(inner) = licence.strip_prefix('(').and_then(|rest| rest.split_once(") AND ")) {
        return is_allowed(inner.0, allowed) && is_allowed(inner.1, allowed);
    }
    licence.split(" OR ").any(|choice| choice.split(" AND ").all(|part| allowed.contains(part.trim())))
}

#[test]
fn licences_in_the_tree_are_allowed() {
    let deny: toml::Table = read("deny.toml").parse().expect("deny.toml");
    let allowed: BTreeSet<String> = deny["licenses"]["allow"].clone().try_into().expect("a list of licences");
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("host");
    // What was built for this machine is on this machine, so no network is needed.
    let output =
        cargo(&["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&output).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100);
    let refused: Vec<String> = packages
        .iter()
        .map(|package| (&package["name"], package["license"].as_str().unwrap_or("none").replace('/', " OR ")))
        .filter(|(_, licence)| !is_allowed(licence, &allowed))
        .map(|(name, licence)| format!("{name}: {licence}"))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// A program that only posts and reads is spared the rest.
#[test]
fn the_client_builds_with_few_packages() {
    const MOST: usize = 75;
    let client = "--package=activity-stream-client";
    let tree = cargo(&["tree", client, "--edges=normal", "--prefix=none", "--locked", "--offline"]);
    let packages: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(packages.len() > 20, "{packages:?}");
    assert!(packages.len() <= MOST, "{} packages, of {MOST} at most: {packages:#?}", packages.len());
    let spared = ["rusqlite", "libsqlite3-sys", "axum", "hyper", "clap"];
    let is_spared = |package: &str| spared.iter().any(|name| package.starts_with(&format!("{name} ")));
    let found: Vec<_> = packages.iter().filter(|package| is_spared(package)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn an_expression_of_licences_is_read() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0"].map(str::to_owned));
    for licence in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0 OR Apache-2.0",
        "(MIT OR GPL-3.0) AND Apache-2.0",
        "MIT AND Apache-2.0",
    ] {
        assert!(is_allowed(licence, &allowed), "{licence}");
    }
    for licence in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "none"] {
        assert!(!is_allowed(licence, &allowed), "{licence}");
    }
}

/// The test of `examples/` runs the Java programs with the tests' own Kafka.
#[test]
fn the_java_examples_want_the_client_that_they_are_tried_with() {
    let tests = read("tests/kafka/pom.xml");
    let (_, rest) = tests.split_once("<kafka.version>").expect("a version");
    let (version, _) = rest.split_once('<').expect("a version");
    let wanted = format!("<artifactId>kafka-clients</artifactId>\n      <version>{version}</version>");
    assert!(read("examples/java/pom.xml").contains(&wanted), "{wanted}");
}

/// A client of one language does not take from another what it is to print, nor need its way of sharing partitions.
#[test]
fn each_example_reads_in_a_group_of_its_own() {
    let readers =
        ["follow_notifications.rs", "java/Consume.java", "javascript/consume.js", "python/consume.py"];
    let groups: BTreeSet<String> = readers
        .iter()
        .map(|file| {
            let text = read(&format!("examples/{file}"));
            let start = text.find("activity-printer-").unwrap_or_else(|| panic!("{file}: no group"));
            let end = |c: char| !(c.is_ascii_lowercase() || c == '-');
            text[start..].split(end).next().expect("a name").to_owned()
        })
        .collect();
    assert_eq!(groups.len(), readers.len(), "{groups:?}");
}

/// npm warns of every package that wants a newer Node than the example says it needs.
#[test]
fn the_javascript_example_needs_no_newer_node_than_it_says() {
    let lowest = |engine: &str| -> u32 {
        let digits = |part: &str| part.trim_start_matches([' ', '>', '=', '^', 'v']).to_owned();
        let major = |part: &str| digits(part).split('.').next().and_then(|major| major.trim().parse().ok());
        engine.split("||").filter_map(major).min().unwrap_or_else(|| panic!("no version: {engine}"))
    };
    let lock: Value = serde_json::from_str(&read("examples/javascript/package-lock.json")).expect("JSON");
    let packages = lock["packages"].as_object().expect("packages");
    let engine = |package: &Value| package.pointer("/engines/node").and_then(Value::as_str).map(lowest);
    let said = engine(&packages[""]).expect("the example's own");
    assert_eq!(said, 20);
    assert!(packages.len() > 1);
    for (name, package) in packages {
        assert!(engine(package).is_none_or(|needed| needed <= said), "{name}: {package}");
        assert!(package.get("resolved").is_none(), "{name} names a registry");
    }
}
