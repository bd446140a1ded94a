//! The programs of `examples/`, in all languages, beside this program's processor.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rusqlite::{Connection, OpenFlags};

use super::{
    broker, distribution, examples, fetched,
    process::{PATIENCE, Setup},
    progress::Progress,
    say,
};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
const PARTITIONS: i32 = 6;

const KCAT: &str = "kcat";

/// One language's two programs.
struct Language {
    name: &'static str,
    /// Runs `post` or `consume`; the arguments are to follow.
    program: Box<dyn Fn(&str) -> Command>,
}

/// An object that each of them posts a command about, with one record key and one idempotency key.
const SHARED: &str = "shared";
/// And one that is posted while each consumer waits for more.
const LATE: &str = "late";

/// Each program posts a command of its own, which becomes the activity whose id it prints, and one that all of them post,
/// which becomes a single activity. Each consumer gets every notification once, continues after its committed offsets when
/// it is started again, and ends on SIGINT.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn the_examples_post_and_consume() {
    let languages: Vec<Language> =
        [rust, java, python, javascript, kcat].into_iter().filter_map(|language| language()).collect();
    let setup = Setup::new("languages", &broker::shared(), PARTITIONS);
    let mut instance = setup.start("only", &[]);
    let ids: Vec<String> = languages.iter().map(|language| language.post(&setup, language.name)).collect();
    languages.iter().for_each(|language| drop(language.post(&setup, SHARED)));
    let posted = 2 * languages.len() as u64;
    let progress = Progress::of(&setup);
    progress.await_published(posted, PATIENCE, || instance.assert_running());

    let events = events(&instance.log);
    let mut notifications = BTreeSet::new();
    for (language, id) in languages.iter().zip(&ids) {
        assert_eq!(id, &events[language.name], "{}", language.name);
    }
    assert_eq!(events.len(), languages.len() + 1, "{events:?}");
    for (object, id) in &events {
        notifications.insert(format!("{id}/0 Identity:anna workitem/{object}"));
    }
    for language in &languages {
        let (name, lines) = (language.name, language.consume(&setup, notifications.len()));
        let distinct: BTreeSet<String> = lines.iter().cloned().collect();
        assert_eq!((lines.len(), &distinct), (notifications.len(), &notifications), "{name}");
    }
    let waiting: Vec<_> = languages.iter().filter_map(|language| language.follow(&setup)).collect();
    languages[0].post(&setup, LATE);
    waiting.into_iter().for_each(|follower| follower.assert_received(LATE));
    instance.stop();
    say!(
        "languages: {} posted {posted} commands, each received {} notifications",
        languages.len(),
        notifications.len()
    );
}

/// The ids of the events by object; each object has one.
fn events(log: &Path) -> BTreeMap<String, String> {
    let log = Connection::open_with_flags(log, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the log");
    let query = "SELECT object_id, id FROM activities";
    let mut statement = log.prepare(query).expect(query);
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let mut events = BTreeMap::new();
    for row in rows.expect(query) {
        let (object, id): (String, String) = row.expect("an event");
        if let Some(other) = events.insert(object, id) {
            panic!("{other} has been posted twice: its repetition went to another partition");
        }
    }
    events
}

impl Language {
    /// Posts a command about this object; gives what it prints.
    fn post(&self, setup: &Setup, object: &str) -> String {
        let (servers, topic) = (&setup.servers, &setup.names.commands);
        let mut command = (self.program)("post");
        if self.name == KCAT {
            command.args([format!("workitem/{object}"), format!("complete-workitem-{object}")]);
            command.args([servers, topic]);
        } else {
            command.args([servers, topic, object]);
        }
        // What the others post, for kcat, over several lines.
        let input = format!(
            "{{\n  \"@type\": \"complete\",\n  \"objectType\": \"workitem\", \"objectId\": \"{object}\",\n  {}\n}}",
            r#""targets": [{"targetId": "anna", "notify": true}], "content": "Approved.""#
        );
        self.output(command, &input).trim().to_owned()
    }

    /// The lines that its consumer prints.
    fn consume(&self, setup: &Setup, count: usize) -> Vec<String> {
        let mut command = (self.program)("consume");
        command.args([&setup.servers, &setup.names.notifications]);
        if self.name != KCAT {
            command.arg(format!("{}-{}", setup.names.group, self.name)).arg(count.to_string());
        }
        let printed = self.output(command, "");
        printed.lines().map(|line| if self.name == KCAT { short(line) } else { line.to_owned() }).collect()
    }

    /// Starts its consumer again, which waits for more. kcat's ends at the end.
    fn follow(&self, setup: &Setup) -> Option<Follower> {
        if self.name == KCAT {
            return None;
        }
        let mut command = (self.program)("consume");
        command.args([&setup.servers, &setup.names.notifications]);
        command.arg(format!("{}-{}", setup.names.group, self.name));
        let child = command.stdout(Stdio::piped()).spawn().expect("the consumer starts");
        Some(Follower { name: self.name, child })
    }

    fn output(&self, mut command: Command, input: &str) -> String {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        // Most do not read it.
        let _ = child.stdin.take().expect("piped").write_all(format!("{input}\n").as_bytes());
        let output = child.wait_with_output().expect("its output");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {command:?}: {}\n{said}", self.name, output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// A consumer that waits for notifications.
struct Follower {
    name: &'static str,
    child: Child,
}

impl Follower {
    /// Reads the first line, which has to be about that object, and stops it.
    fn assert_received(mut self, object: &str) {
        let mut line = String::new();
        let mut stdout = BufReader::new(self.child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("UTF-8");
        assert!(line.ends_with(&format!(" workitem/{object}\n")), "{}: {line:?}", self.name);
        let id = i32::try_from(self.child.id()).expect("a process id");
        // Not waited for yet, so the id is still this child's. It passes the signal on.
        kill(Pid::from_raw(id), Signal::SIGINT).expect("the child is there");
        let status = self.child.wait().expect("its end");
        // Java says so of every SIGINT that it heeded.
        let ended = status.success() || (self.name == "java" && status.code() == Some(130));
        assert!(ended, "{}: {status}", self.name);
    }
}

/// A line of kcat's, audience and value, as the others write it.
fn short(line: &str) -> String {
    let (audience, value) = line.split_once(' ').expect("audience and value");
    let value: serde_json::Value = serde_json::from_str(value).expect("a notification");
    let said =
        |place: &str| value.pointer(place).and_then(serde_json::Value::as_str).expect("a string").to_owned();
    let (kind, object) = (said("/activity/objectType"), said("/activity/objectId"));
    format!("{} {audience} {kind}/{object}", said("/id"))
}

/// The command, ended where it does not end by itself. A signal is passed on once: without `--foreground` it reaches the
/// command as one of the group, too, and the second SIGINT ends a program at once.
pub fn bounded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--foreground").arg((2 * PATIENCE).as_secs().to_string()).arg(program);
    command
}

fn rust() -> Option<Language> {
    let program = |program: &str| match program {
        "consume" => examples::program("follow_notifications"),
        _ => examples::program("post"),
    };
    Some(Language { name: "rust", program: Box::new(program) })
}

fn java() -> Option<Language> {
    // The program is compiled as it is run; Kafka's own classes are there for the broker.
    let program = |program: &str| {
        let java = distribution::java(128);
        let mut command = bounded(java.get_program());
        command.args(java.get_args()).arg(format!("{EXAMPLES}/java/{}.java", capitalised(program)));
        command
    };
    Some(Language { name: "java", program: Box::new(program) })
}

fn capitalised(name: &str) -> String {
    name[..1].to_uppercase() + &name[1..]
}

fn python() -> Option<Language> {
    let name = "python";
    runs(name, "python3", &["-m", "pip", "--version"])?;
    let requirements = format!("{EXAMPLES}/python/requirements.txt");
    let packages = fetched::folder(name, &fs::read(&requirements).expect("requirements"), |folder| {
        say!("fetching what examples/python needs (once)");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        pip.arg(&requirements).arg("--target").arg(folder);
        fetched::run(&mut pip, "confluent-kafka")
    });
    let packages = packages.unwrap_or_else(|problem| panic!("{problem}"));
    let program = move |program: &str| {
        let mut command = bounded("python3");
        command.env("PYTHONPATH", &packages).env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(format!("{EXAMPLES}/python/{program}.py"));
        command
    };
    Some(Language { name, program: Box::new(program) })
}

/// Of a version, as they are compared.
fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|number| number.parse().ok()).collect()
}

fn javascript() -> Option<Language> {
    let name = "javascript";
    let version = runs(name, "node", &["--version"])?;
    runs(name, "npm", &["--version"])?;
    let examples = Path::new(EXAMPLES).join(name);
    let package = fs::read(examples.join("package.json")).expect("package.json");
    let package: serde_json::Value = serde_json::from_slice(&package).expect("package.json");
    let engine = package.pointer("/engines/node").and_then(serde_json::Value::as_str).expect("a version");
    let needed = numbers(engine.strip_prefix(">=").expect("a lowest version")).expect("three numbers");
    if numbers(version.trim().trim_start_matches('v')).is_none_or(|found| found < needed) {
        return skipped(name, &format!("node is {version}, and examples/javascript needs {engine}"));
    }
    let lock = fs::read(examples.join("package-lock.json")).expect("package-lock.json");
    // A module is looked for beside the program that wants it, so the programs are put beside the modules.
    let copy = |file: &str, folder: &Path| fs::copy(examples.join(file), folder.join(file)).expect("a copy");
    let folder = fetched::folder(name, &lock, |folder| {
        say!("fetching what examples/javascript needs (once)");
        copy("package.json", folder);
        copy("package-lock.json", folder);
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder);
        fetched::run(&mut npm, "kafkajs")
    });
    let folder = folder.unwrap_or_else(|problem| panic!("{problem}"));
    copy("post.js", &folder);
    copy("consume.js", &folder);
    let program = move |program: &str| {
        let mut command = bounded("node");
        command.arg(folder.join(format!("{program}.js")));
        command
    };
    Some(Language { name, program: Box::new(program) })
}

fn kcat() -> Option<Language> {
    runs(KCAT, "kcat", &["-V"])?;
    let program = |program: &str| bounded(Path::new(EXAMPLES).join(KCAT).join(format!("{program}.sh")));
    Some(Language { name: KCAT, program: Box::new(program) })
}

/// What the tool says of itself; where it does not run, the language is left out.
fn runs(language: &str, tool: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(tool).args(arguments).output() {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => skipped(language, &format!("'{tool} {}' gives {}", arguments.join(" "), output.status)),
        Err(error) => skipped(language, &format!("'{tool}' does not run: {error}")),
    }
}

fn skipped<T>(language: &str, why: &str) -> Option<T> {
    say!("languages: SKIPPED: examples/{language} was not tried: {why}");
    None
}
