//! Apache Kafka's jars, fetched from Maven Central once and kept in the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use super::fetched;

const POM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/pom.xml");
const LOGGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/log4j2.properties");
/// What Kafka 4's broker needs.
const JAVA: u32 = 17;

/// For starts that are many and runs that are short.
const SHORT_RUNS: &[&str] = &["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"];
/// For a run that is measured: compiled as well as can be.
const MEASURED_RUNS: &[&str] = &["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"];

/// `java` with Kafka's classes; the class and its arguments are to follow.
pub fn java(heap_mib: u32) -> Command {
    command(heap_mib, kafkas_jars(), SHORT_RUNS)
}

/// The same for a run that is measured.
pub fn java_at_its_best(heap_mib: u32) -> Command {
    command(heap_mib, kafkas_jars(), MEASURED_RUNS)
}

/// The same with the classes of another folder.
pub fn java_with(heap_mib: u32, jars: &Path) -> Command {
    command(heap_mib, jars, SHORT_RUNS)
}

/// Of Apache Kafka.
pub fn version() -> String {
    let pom = fs::read_to_string(POM).unwrap_or_default();
    let version = pom.split_once("<kafka.version>").and_then(|(_, rest)| rest.split_once('<'));
    version.map_or_else(String::new, |(version, _)| version.to_owned())
}

fn kafkas_jars() -> &'static Path {
    static JARS: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| check_java().and_then(|_| jars()));
    JARS.as_ref().unwrap_or_else(|problem| panic!("no Kafka for these tests: {problem}"))
}

fn command(heap_mib: u32, jars: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(java_program());
    command
        .arg(format!("-Xmx{heap_mib}m"))
        .args(options)
        .arg("-Dfile.encoding=UTF-8")
        .arg(format!("-Dlog4j2.configurationFile={LOGGING}"))
        .arg("-cp")
        .arg(jars.join("*"));
    for variable in ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"] {
        command.env_remove(variable);
    }
    command
}

pub fn java_program() -> PathBuf {
    std::env::var_os("JAVA_HOME").map_or_else(|| "java".into(), |home| Path::new(&home).join("bin/java"))
}

/// The version of Java, where there is one that is new enough.
pub fn check_java() -> Result<u32, String> {
    let program = java_program();
    let wanted = format!("install Java {JAVA} or newer, or set JAVA_HOME to one");
    let output = Command::new(&program)
        .arg("-version")
        .output()
        .map_err(|error| format!("'{}' does not run ({error}); {wanted}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match major_version(&said) {
        Some(version) if version >= JAVA => Ok(version),
        Some(version) => Err(format!("'{}' is Java {version}; {wanted}", program.display())),
        None => {
            Err(format!("'{} -version' does not tell its version, but: {said}; {wanted}", program.display()))
        }
    }
}

/// Of `openjdk version "17.0.15" 2025-04-15`.
fn major_version(said: &str) -> Option<u32> {
    let version = said.split('"').nth(1)?;
    version.split(['.', '-', '+']).next()?.parse().ok()
}

/// The folder with the jars.
fn jars() -> Result<PathBuf, String> {
    let pom = fs::read(POM).map_err(|error| format!("{POM}: {error}"))?;
    fetched::folder("kafka", &pom, |folder| {
        super::say!("fetching Apache Kafka from Maven Central (once)");
        fetch(POM, folder, "Apache Kafka's broker and tools")
    })
}

/// Fetches what a pom wants at run time.
pub fn fetch(pom: &str, folder: &Path, what: &str) -> Result<(), String> {
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--file", pom, "dependency:copy-dependencies"]);
    maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", folder.display()));
    fetched::run(&mut maven, what)
}
