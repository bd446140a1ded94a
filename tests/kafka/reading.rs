//! Topics as Kafka's own Java consumer reads them: another client than the program's, so that one fault cannot hide in
//! both.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    ops::ControlFlow,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{distribution, guard::Guarded};

/// A reader that gets nothing for this long, and has not come to the end, waits for a transaction that is open, usually.
pub const IDLE: Duration = Duration::from_secs(5);
/// If something is missing the reader was too slow, perhaps.
pub const LONG_IDLE: Duration = Duration::from_secs(30);

/// What follows in an answer of `Reader.java`.
const RECORD: u8 = 1;
const END: u8 = 2;
/// In the place of a header's null: a character that no test puts into a header.
const NULL: &[u8] = b"\x18";

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

/// Reads a topic from its beginning, as a `read_committed` consumer sees it: up to its current end, until nothing arrives
/// for `idle`, or up to `most` records.
pub fn read(servers: &str, topic: &str, idle: Duration, most: Option<u32>, mut each: impl FnMut(Read)) {
    read_until(servers, topic, idle, most, |read| {
        each(read);
        ControlFlow::Continue(())
    });
}

/// Reads all of a topic that has at least this number of records. If the first attempt returns fewer, reads again with more
/// patience.
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
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, reader())).expect("the reader listens");
    let most = most.map_or(i64::MAX, i64::from);
    writeln!(socket, "{servers} {topic} {most} {}", idle.as_millis()).expect("the reader takes it");
    let mut answer = Answer(BufReader::with_capacity(1 << 20, socket));
    loop {
        match answer.number().map(u8::from_be_bytes).expect("an answer") {
            RECORD => {
                if each(answer.record().expect("a record")).is_break() {
                    return true;
                }
            }
            END => return false,
            _ => {
                let said = answer.bytes().expect("a reason").unwrap_or_default();
                panic!("reading {topic} failed: {}", String::from_utf8_lossy(&said));
            }
        }
    }
}

/// The port at which `Reader.java` listens, started for the first topic.
fn reader() -> u16 {
    static READER: Mutex<Option<(Guarded, u16)>> = Mutex::new(None);
    // A start that failed leaves nothing behind, and the next test says why as well.
    let mut reader = READER.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, port) = reader.get_or_insert_with(|| {
        let mut java = distribution::java(512);
        java.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/Reader.java"));
        java.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Guarded::start(&mut java, "".as_ref()).expect("java starts");
        let mut line = String::new();
        BufReader::new(process.stdout().expect("piped")).read_line(&mut line).expect("readable");
        (process, line.trim().parse().expect("a port"))
    });
    *port
}

/// As `Reader.java` writes it.
struct Answer(BufReader<TcpStream>);

impl Answer {
    fn number<const BYTES: usize>(&mut self) -> io::Result<[u8; BYTES]> {
        let mut bytes = [0; BYTES];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = i32::from_be_bytes(self.number()?);
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn record(&mut self) -> io::Result<Read> {
        let partition = i32::from_be_bytes(self.number()?);
        let offset = i64::from_be_bytes(self.number()?);
        let timestamp = i64::from_be_bytes(self.number()?);
        let count = i32::from_be_bytes(self.number()?);
        let headers = (0..count).map(|_| {
            let name = self.bytes()?.expect("a name");
            Ok((name, self.bytes()?.unwrap_or_else(|| NULL.to_vec())))
        });
        let headers = headers.collect::<io::Result<_>>()?;
        Ok(Read { partition, offset, timestamp, headers, key: self.bytes()?, value: self.bytes()? })
    }
}
