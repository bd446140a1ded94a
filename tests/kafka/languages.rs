//! The programs of `examples/`, in all languages, beside this program's processor.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
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
    printed: Printed,
}

/// What a producer says of the command that it posted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Printed {
    /// The activity's id.
    Id,
    /// Partition and offset.
    Place,
    Nothing,
}

/// An object that each of them posts a command about, with one record key and one idempotency key.
const SHARED: &str = "shared";

/// Each posts two commands, one of which all of them post: its activity is where the producer says, and the other is
/// one activity. Each consumer is told of all, once.
#[test]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
fn the_examples_post_and_consume() {
    let languages: Vec<Language> =
        [rust, java, python, javascript, kcat].into_iter().filter_map(|language| language()).collect();
    let setup = Setup::new("languages", &broker::shared(), PARTITIONS);
    let mut instance = setup.start("only", &[]);
    let told: Vec<String> = languages.iter().map(|language| language.post(&setup, language.name)).collect();
    languages.iter().for_each(|language| drop(language.post(&setup, SHARED)));
    let posted = 2 * languages.len() as u64;
    let progress = Progress::of(&setup);
    progress.await_published(posted, PATIENCE, || instance.assert_running());

    let events = events(&instance.log);
    let mut notifications = BTreeSet::new();
    for (language, told) in languages.iter().zip(&told) {
        let Event { id, place } = &events[language.name];
        let wanted = match language.printed {
            Printed::Id => id,
            Printed::Place => place,
            Printed::Nothing => "",
        };
        assert_eq!(told, wanted, "{}", language.name);
    }
    assert_eq!(events.len(), languages.len() + 1, "{events:?}");
    for (object, Event { id, .. }) in &events {
        notifications.insert(format!("{id}/0 Identity:anna workitem/{object}"));
    }
    for language in &languages {
        let (name, lines) = (language.name, language.consume(&setup, notifications.len()));
        let distinct: BTreeSet<String> = lines.iter().cloned().collect();
        assert_eq!((lines.len(), &distinct), (notifications.len(), &notifications), "{name}");
    }
    instance.stop();
    say!("languages: {} posted {posted} commands, each was told of {}", languages.len(), notifications.len());
}

/// An event of the log.
#[derive(Debug)]
struct Event {
    id: String,
    /// `PARTITION:OFFSET`.
    place: String,
}

/// By object; each object has one.
fn events(log: &Path) -> BTreeMap<String, Event> {
    let log = Connection::open_with_flags(log, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the log");
    let query = "SELECT object_id, id, partition || ':' || offset FROM activities";
    let mut statement = log.prepare(query).expect(query);
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, Event { id: row.get(1)?, place: row.get(2)? })));
    let mut events = BTreeMap::new();
    for row in rows.expect(query) {
        let (object, event): (String, Event) = row.expect("an event");
        if let Some(other) = events.insert(object, event) {
            panic!("{other:?} has been posted twice: its repetition went to another partition");
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
        // What the others post, for kcat.
        let input = format!(
            r#"{{"@type": "complete", "objectType": "workitem", "objectId": "{object}", {}}}"#,
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

/// A line of kcat's, audience and value, as the others write it.
fn short(line: &str) -> String {
    let (audience, value) = line.split_once(' ').expect("audience and value");
    let value: serde_json::Value = serde_json::from_str(value).expect("a notification");
    let said =
        |place: &str| value.pointer(place).and_then(serde_json::Value::as_str).expect("a string").to_owned();
    let (kind, object) = (said("/activity/objectType"), said("/activity/objectId"));
    format!("{} {audience} {kind}/{object}", said("/id"))
}

/// The command, ended where it does not end by itself.
pub fn bounded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg((2 * PATIENCE).as_secs().to_string()).arg(program);
    command
}

fn rust() -> Option<Language> {
    let program = |program: &str| match program {
        "consume" => examples::program("follow_notifications"),
        _ => examples::program("post"),
    };
    Some(Language { name: "rust", program: Box::new(program), printed: Printed::Id })
}

fn java() -> Option<Language> {
    // The program is compiled as it is run; Kafka's own classes are there for the broker.
    let program = |program: &str| {
        let java = distribution::java(128);
        let mut command = bounded(java.get_program());
        command.args(java.get_args()).arg(format!("{EXAMPLES}/java/{}.java", capitalised(program)));
        command
    };
    Some(Language { name: "java", program: Box::new(program), printed: Printed::Id })
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
    Some(Language { name, program: Box::new(program), printed: Printed::Id })
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
        fetched::run(&mut npm, "@platformatic/kafka")
    });
    let folder = folder.unwrap_or_else(|problem| panic!("{problem}"));
    copy("post.js", &folder);
    copy("consume.js", &folder);
    let program = move |program: &str| {
        let mut command = bounded("node");
        command.arg(folder.join(format!("{program}.js")));
        command
    };
    Some(Language { name, program: Box::new(program), printed: Printed::Place })
}

fn kcat() -> Option<Language> {
    runs(KCAT, "kcat", &["-V"])?;
    let program = |program: &str| bounded(Path::new(EXAMPLES).join(KCAT).join(format!("{program}.sh")));
    Some(Language { name: KCAT, program: Box::new(program), printed: Printed::Nothing })
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
