//! A relay in front of an embedded broker. It can send metadata of a cluster without brokers, as a lone Kafka node does
//! while its own controller considers it dead.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
};

use super::support::topics;

const METADATA: i16 = 3;
/// librdkafka loses its way while it still reads the rest of the answer. This makes that long enough.
const OTHER_TOPICS: u32 = 50_000;

/// Shared with the threads of the connections.
#[derive(Debug)]
struct State {
    broker: SocketAddr,
    address: SocketAddr,
    /// The port that clients get instead of the broker's own.
    named: AtomicU16,
    partitions: i32,
    /// The `client.id` of the client that gets metadata without brokers, and whether that has happened.
    misled: Mutex<Option<(String, bool)>>,
}

/// The address; clients of it never come to know the broker's own.
#[derive(Debug)]
pub struct Relay(Arc<State>);

impl Relay {
    /// Starts to accept connections to `broker`, whose topics have this number of partitions.
    pub fn start(broker: &str, partitions: i32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            broker: broker.parse().expect("an address"),
            address,
            named: AtomicU16::new(address.port()),
            partitions,
            misled: Mutex::default(),
        });
        let relay = Self(Arc::clone(&state));
        thread::spawn(move || {
            for client in listener.incoming() {
                let _ = serve(client.expect("a connection"), &state);
            }
        });
        relay
    }

    pub fn bootstrap_servers(&self) -> String {
        self.0.address.to_string()
    }

    /// Names this address to clients from now on, or its own one again.
    pub fn name(&self, address: Option<SocketAddr>) {
        self.0.named.store(address.unwrap_or(self.0.address).port(), Ordering::SeqCst);
    }

    /// Tells the client with this `client.id` of no brokers, until [`Relay::mislead_nobody`].
    pub fn mislead(&self, client: &str) {
        *self.0.misled.lock().expect("never poisoned") = Some((client.to_owned(), false));
    }

    /// Whether that client has asked.
    pub fn has_misled(&self) -> bool {
        matches!(*self.0.misled.lock().expect("never poisoned"), Some((_, true)))
    }

    pub fn mislead_nobody(&self) {
        *self.0.misled.lock().expect("never poisoned") = None;
    }
}

impl State {
    fn misleads(&self, client: &str) -> bool {
        match &mut *self.misled.lock().expect("never poisoned") {
            Some((misled, done)) if misled == client => {
                *done = true;
                true
            }
            _ => false,
        }
    }
}

/// By correlation id, the requests for metadata of one connection that are to be answered: version and `client.id`.
type Asked = Arc<Mutex<HashMap<i32, (i16, String)>>>;

fn serve(client: TcpStream, state: &Arc<State>) -> io::Result<()> {
    let broker = TcpStream::connect(state.broker)?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let asked = Asked::default();
    let (mut from, mut to) = (client.try_clone()?, broker.try_clone()?);
    let requests = Arc::clone(&asked);
    thread::spawn(move || {
        while let Ok(request) = frame(&mut from) {
            let (api, version, id) = (short(&request, 0), short(&request, 2), long(&request, 4));
            if api == METADATA {
                let end = 10 + short(&request, 8) as usize;
                let client = String::from_utf8_lossy(&request[10..end]).into_owned();
                requests.lock().expect("never poisoned").insert(id, (version, client));
            }
            if write(&mut to, &request).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to, state) = (broker, client, Arc::clone(state));
    thread::spawn(move || {
        while let Ok(mut answer) = frame(&mut from) {
            let id = long(&answer, 0);
            match asked.lock().expect("never poisoned").remove(&id) {
                Some((version, client)) if state.misleads(&client) => {
                    answer = no_brokers(id, version, state.partitions);
                }
                _ => replace(&mut answer, state.broker, state.named.load(Ordering::SeqCst)),
            }
            if write(&mut to, &answer).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).expect("a frame");
    stream.write_all(&[&length.to_be_bytes(), bytes].concat())
}

fn short(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two"))
}

fn long(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"))
}

/// The broker's address is in more answers than one would think: to Metadata, of who coordinates, and beside an error of
/// Produce or Fetch. It is a name and behind it a port, of four bytes; nothing else looks like both.
fn replace(answer: &mut [u8], broker: SocketAddr, port: u16) {
    let name = broker.ip().to_string();
    let address = [name.as_bytes(), &u32::from(broker.port()).to_be_bytes()].concat();
    for at in 0..answer.len().saturating_sub(address.len() - 1) {
        if answer[at..].starts_with(&address) {
            answer[at + name.len()..][..4].copy_from_slice(&u32::from(port).to_be_bytes());
        }
    }
}

/// A Metadata answer: no brokers, and topics whose partitions have no leader.
///
/// <https://kafka.apache.org/protocol.html#The_Messages_Metadata>
fn no_brokers(id: i32, version: i16, partitions: i32) -> Vec<u8> {
    assert!((10..=12).contains(&version), "Metadata version {version} is written differently");
    let own = topics(partitions);
    let own = [own.commands, own.notifications, own.rejections];
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.push(0);
    // Throttled for 0 ms; no brokers; no cluster id.
    bytes.extend([0, 0, 0, 0, 1, 0]);
    // No controller.
    bytes.extend((-1_i32).to_be_bytes());
    count(&mut bytes, own.len() as u32 + OTHER_TOPICS);
    for name in own {
        topic(&mut bytes, &name, partitions);
    }
    for number in 0..OTHER_TOPICS {
        topic(&mut bytes, &format!("other-{number}"), 0);
    }
    if version == 10 {
        bytes.extend(i32::MIN.to_be_bytes());
    }
    bytes.push(0);
    bytes
}

fn topic(bytes: &mut Vec<u8>, name: &str, partitions: i32) {
    const LEADER_NOT_AVAILABLE: i16 = 5;
    bytes.extend([0, 0]);
    count(bytes, name.len() as u32);
    bytes.extend(name.as_bytes());
    // No topic id, not internal.
    bytes.extend([0; 17]);
    count(bytes, partitions as u32);
    for partition in 0..partitions {
        bytes.extend(LEADER_NOT_AVAILABLE.to_be_bytes());
        bytes.extend(partition.to_be_bytes());
        // Neither leader nor epoch.
        bytes.extend([255; 8]);
        // Replicas, those in sync, those that are offline: node 1.
        for _ in 0..3 {
            count(bytes, 1);
            bytes.extend(1_i32.to_be_bytes());
        }
        bytes.push(0);
    }
    bytes.extend(i32::MIN.to_be_bytes());
    bytes.push(0);
}

/// The length of a compact array or string: a varint of one more.
fn count(bytes: &mut Vec<u8>, count: u32) {
    let mut left = count + 1;
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}
