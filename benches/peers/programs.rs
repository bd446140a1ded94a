//! How the peers are built, each by its own package manager, and how they are started.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{distribution, fetched, say, subject::Subject, topics::Names};

/// What is started, less the words that differ from run to run.
#[derive(Debug)]
pub struct Program {
    pub subject: Subject,
    words: Vec<OsString>,
}

pub const LOG_FILE: &str = "activity.db";
/// Enough for both peers on the JVM.
const HEAP: [&str; 2] = ["-Xms512m", "-Xmx512m"];

impl Program {
    pub fn own() -> Self {
        let words = vec![env!("CARGO_BIN_EXE_activity-stream").into(), "run".into()];
        Self { subject: Subject::Own, words }
    }

    /// Builds a peer, or says why that is not possible.
    pub fn build(subject: Subject) -> Result<Self, String> {
        let words = match subject {
            Subject::Own => return Ok(Self::own()),
            Subject::Java => java("peers.Plain")?,
            Subject::Streams => java("peers.Streams")?,
            Subject::Go => go()?,
            Subject::Python => python()?,
        };
        Ok(Self { subject, words })
    }

    /// `folder` is for its log.
    pub fn command(&self, servers: &str, names: &Names, folder: &Path) -> Command {
        let Names { commands, notifications, rejections, group } = names;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        let log = folder.join(LOG_FILE);
        if self.subject != Subject::Own {
            command.args([servers, group, commands, notifications, rejections]).arg(log);
            for variable in ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "GOGC", "GOMEMLIMIT"] {
                command.env_remove(variable);
            }
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            return command;
        }
        command.args(["-b", servers, "--group", group, "--commands-topic", commands]);
        command.args(["--notifications-topic", notifications, "--rejections-topic", rejections]);
        command.arg("--log-file").arg(log);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ACTIVITY_STREAM_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
    }
}

fn java(class: &str) -> Result<Vec<OsString>, String> {
    let version = distribution::check_java()?;
    said(Command::new("mvn").arg("--version"), "Maven")?;
    let folder = source("java");
    let built = fetched::folder("peers-java", &contents(&folder), |into| {
        say!("building the peers in Java with Maven (once)");
        let mut maven = Command::new("mvn");
        maven.args([
            "--quiet",
            "--batch-mode",
            "package",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
        ]);
        maven.arg("--file").arg(folder.join("pom.xml"));
        maven.arg(format!("-Dbuilt={}", into.display()));
        run(maven.arg(format!("-DoutputDirectory={}", into.display())))
    })?;
    let mut words: Vec<OsString> = vec![distribution::java_program().into(), "-XX:+UseParallelGC".into()];
    words.extend(HEAP.map(Into::into));
    if version >= 25 {
        words.extend(["-XX:+UseCompactObjectHeaders", "--enable-native-access=ALL-UNNAMED"].map(Into::into));
    }
    words.push("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".into());
    words.extend(["-cp".into(), built.join("*").into(), class.into()]);
    Ok(words)
}

fn go() -> Result<Vec<OsString>, String> {
    let version = said(Command::new("go").arg("version"), "Go 1.26 or newer, and a C compiler")?;
    let folder = source("go");
    let wanted = [contents(&folder), version.into_bytes()].concat();
    let built = fetched::folder("peers-go", &wanted, |into| {
        say!("building the peer in Go (once)");
        let mut go = Command::new("go");
        go.current_dir(&folder).args(["build", "-mod=readonly", "-o"]).arg(into.join("peer"));
        // The JSON that is to become the standard library's; SQLite as C libraries are compiled.
        run(go.envs([("GOEXPERIMENT", "jsonv2"), ("CGO_ENABLED", "1"), ("CGO_CFLAGS", "-O2")]).arg("."))
    })?;
    Ok(vec![built.join("peer").into()])
}

fn python() -> Result<Vec<OsString>, String> {
    let version = said(
        Command::new("python3").args(["-c", "import ensurepip, sys, venv; print(sys.version)"]),
        "Python 3 with venv",
    )?;
    let requirements = source("python").join("requirements.txt");
    let wanted = [fs::read(&requirements).unwrap_or_default(), version.into_bytes()].concat();
    let built = fetched::folder("peers-python", &wanted, |into| {
        say!("fetching the Python peer's libraries with pip (once)");
        run(Command::new("python3").args(["-m", "venv"]).arg(into))?;
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--requirement"];
        run(Command::new(into.join("bin/python")).args(pip).arg(&requirements))
    })?;
    Ok(vec![built.join("bin/python").into(), source("python").join("peer.py").into()])
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name)
}

/// Of all files of a folder, so that a change builds it again.
fn contents(folder: &Path) -> Vec<u8> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .flat_map(|path| if path.is_dir() { contents(path) } else { fs::read(path).unwrap_or_default() })
        .collect()
}

/// What a tool prints about itself.
fn said(tool: &mut Command, install: &str) -> Result<String, String> {
    let program = tool.get_program().to_string_lossy().into_owned();
    match tool.output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("'{program}' does not work ({}); install {install}", said.trim()))
        }
        Err(error) => Err(format!("'{program}' does not run ({error}); install {install}")),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("'{program}' does not run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "'{program}' could not build it ({}). It said:\n{}",
        output.status,
        String::from_utf8_lossy(&said)
    ))
}

/// What the peers were built with and run on, a line each.
pub fn versions(peers: &[Program]) -> Vec<String> {
    let has = |subject| peers.iter().any(|program| program.subject == subject);
    let text = |file| fs::read_to_string(source(file)).unwrap_or_default();
    let after = |text: &str, mark: &str| {
        let rest = text.split_once(mark).map_or("", |(_, rest)| rest);
        rest.split(['<', '\n', ' ', '\r']).next().unwrap_or_default().to_owned()
    };
    let mut lines = Vec::new();
    if has(Subject::Java) || has(Subject::Streams) {
        let version = Command::new(distribution::java_program()).arg("-version").output();
        let said =
            version.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
        let (java, kafka) =
            (said.split('"').nth(1).unwrap_or_default(), after(&text("java/pom.xml"), "<kafka.version>"));
        lines.push(format!("Java {java}, kafka-clients and kafka-streams {kafka}"));
    }
    if has(Subject::Go) {
        let go = said(Command::new("go").args(["env", "GOVERSION"]), "Go").unwrap_or_default();
        lines.push(format!("{go}, franz-go {}", after(&text("go/go.mod"), "twmb/franz-go ")));
    }
    if has(Subject::Python) {
        let python = said(Command::new("python3").arg("--version"), "Python").unwrap_or_default();
        let client = after(&text("python/requirements.txt"), "confluent-kafka==");
        lines.push(format!("{python}, confluent-kafka {client}"));
    }
    lines
}
