//! Topics as Kafka's own console consumer reads them: another client than the program's, so that one fault cannot
//! hide in both.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    ops::ControlFlow,
    process::Stdio,
    time::Duration,
};

use super::{distribution, guard, guard::Guarded, process::PATIENCE};

/// A reader that gets nothing for this long is at the end, usually. Joining its group takes a part of it.
pub const IDLE: Duration = Duration::from_secs(5);
/// If something is missing the reader was too slow, perhaps.
pub const LONG_IDLE: Duration = Duration::from_secs(30);

/// Between fields, between headers, for null, between records: characters that no test puts into a record.
const FIELD: u8 = 0x1f;
const HEADER: u8 = 0x1d;
const NULL: &[u8] = b"\x18";
const RECORD: u8 = 0x1e;

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub value: Option<Vec<u8>>,
}

impl Read {
    /// The last header with this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(found, _)| found == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    /// Where it lies, for messages.
    pub fn place(&self) -> String {
        format!("{}/{}", self.partition, self.offset)
    }
}

/// Reads a topic from its beginning, as a `read_committed` consumer sees it, until nothing comes for `idle` or there
/// were so many records.
///
/// The consumer does not say that it came to the end, so who misses something reads again and waits for longer.
pub fn read(servers: &str, topic: &str, idle: Duration, most: Option<u32>, mut each: impl FnMut(Read)) {
    read_until(servers, topic, idle, most, |read| {
        each(read);
        ControlFlow::Continue(())
    });
}

/// All of a topic that holds so many records or more: again, and with more patience, where the first reader came to
/// fewer.
pub fn read_all(servers: &str, topic: &str, wanted: usize) -> Vec<Read> {
    let mut records = Vec::new();
    for idle in [IDLE, LONG_IDLE] {
        records.clear();
        read(servers, topic, idle, None, |read| records.push(read));
        if records.len() >= wanted {
            break;
        }
    }
    records
}

/// [`read`] until `each` breaks off; whether it did.
pub fn read_until(
    servers: &str,
    topic: &str,
    idle: Duration,
    most: Option<u32>,
    mut each: impl FnMut(Read) -> ControlFlow<()>,
) -> bool {
    let folder = guard::folder("reading");
    let stderr = folder.path().join("stderr");
    let mut java = distribution::java(512);
    java.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
    java.args(["--bootstrap-server", servers, "--topic", topic, "--from-beginning"]);
    java.args(["--isolation-level", "read_committed", "--timeout-ms", &idle.as_millis().to_string()]);
    java.args(most.map(|most| format!("--max-messages={most}")));
    for part in ["timestamp", "partition", "offset", "headers", "key", "value"] {
        java.args(["--formatter-property", &format!("print.{part}=true")]);
    }
    let separators: [(&str, &[u8]); 4] = [
        ("key.separator", &[FIELD]),
        ("headers.separator", &[HEADER]),
        ("line.separator", &[RECORD]),
        ("null.literal", NULL),
    ];
    for (name, value) in separators {
        let value = std::str::from_utf8(value).expect("ASCII");
        java.args(["--formatter-property", &format!("{name}={value}")]);
    }
    java.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&stderr).expect("a file"));
    let mut process = Guarded::start(&mut java, folder.path()).expect("java starts");
    let mut stdout = BufReader::with_capacity(1 << 20, process.stdout().expect("piped"));
    let mut line = Vec::new();
    while stdout.read_until(RECORD, &mut line).expect("readable") > 0 {
        assert_eq!(line.pop(), Some(RECORD), "the console consumer ended in the middle of a record");
        let read = parse(&line).unwrap_or_else(|| panic!("not a record: {}", String::from_utf8_lossy(&line)));
        if each(read).is_break() {
            process.kill();
            return true;
        }
        line.clear();
    }
    let status = process.wait(PATIENCE).expect("it ends after its output");
    let said = std::fs::read_to_string(&stderr).unwrap_or_default();
    // Its time-out, with which it always ends, is an error to it as well; this line it writes in any case.
    assert!(said.contains("Processed a total of"), "the console consumer failed ({status}):\n{said}");
    false
}

/// `CreateTime:1␟Partition:0␟Offset:5␟name:value␝name:value␟key␟value`.
fn parse(line: &[u8]) -> Option<Read> {
    let mut fields = line.splitn(6, |&byte| byte == FIELD);
    let mut number = || -> Option<i64> {
        let text = std::str::from_utf8(fields.next()?).ok()?;
        text.rsplit_once(':')?.1.parse().ok()
    };
    let (timestamp, partition, offset) = (number()?, i32::try_from(number()?).ok()?, number()?);
    let headers = match fields.next()? {
        b"NO_HEADERS" => Vec::new(),
        headers => headers.split(|&byte| byte == HEADER).map(header).collect::<Option<_>>()?,
    };
    let mut bytes = || fields.next().map(|bytes| (bytes != NULL).then(|| bytes.to_vec()));
    Some(Read { partition, offset, timestamp, headers, key: bytes()?, value: bytes()? })
}

fn header(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    Some((text[..colon].to_vec(), text[colon + 1..].to_vec()))
}
