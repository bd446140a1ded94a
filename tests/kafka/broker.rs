//! A Kafka of the tests' own: one node or three, on this machine, gone with the test.
//!
//! [`shared`] is one node for all tests that do not disturb the broker, or the developer's own broker where
//! `KAFKA_BOOTSTRAP_SERVERS` names one. [`Cluster`] is for tests that stop, kill or configure nodes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rdkafka::{
    ClientConfig,
    metadata::Metadata,
    producer::{BaseProducer, Producer as _},
};
use tempfile::TempDir;

use super::{
    distribution,
    guard::{self, Guarded},
};

/// Who says nothing for this long is no member of its group any more.
pub const SESSION_MS: u64 = 3_000;

/// A node on two busy cores starts within this.
const START: Duration = Duration::from_secs(120);
/// After SIGTERM a node hands over what it leads.
const STOP: Duration = Duration::from_secs(60);
const HEAP_MIB: u32 = 512;
/// A node that is not heard of for so long is dead to the controller.
const SESSION_TIMEOUT_MS: u64 = 3_000;

/// The address of a broker that all tests of this run share. Each test has topics and a group of its own.
pub fn shared() -> String {
    static SHARED: LazyLock<Mutex<Option<Arc<Cluster>>>> = LazyLock::new(Mutex::default);
    if let Some(own) = std::env::var("KAFKA_BOOTSTRAP_SERVERS").ok().filter(|servers| !servers.is_empty()) {
        return own;
    }
    // A start that failed leaves nothing behind, and the next test says why as well.
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.get_or_insert_with(|| Arc::new(Cluster::start(1))).servers()
}

/// Nodes that know each other. They end with the value, and their folders are removed.
#[derive(Debug)]
pub struct Cluster {
    measured: bool,
    /// Ports of the first node's further listeners.
    further: BTreeMap<String, u16>,
    // Before the folder, so that processes end before their files are removed.
    nodes: Vec<Node>,
    _folder: TempDir,
}

#[derive(Debug)]
struct Node {
    port: u16,
    folder: PathBuf,
    process: Option<Guarded>,
}

/// Listeners of a lone node beside the open one.
#[derive(Debug, Default)]
pub struct Further<'a> {
    /// Names, without an underscore, and their security protocols.
    pub listeners: &'a [(&'a str, &'a str)],
    /// For SASL/SCRAM, as Kafka's `--add-scram` takes them.
    pub credentials: &'a [&'a str],
}

impl Further<'_> {
    /// Replaces those of the node, which come before.
    fn properties(&self, client: u16, controller: u16, ports: &BTreeMap<String, u16>) -> String {
        if ports.is_empty() {
            return String::new();
        }
        let own = [("PLAINTEXT", "PLAINTEXT", client), ("CONTROLLER", "PLAINTEXT", controller)];
        let further = self.listeners.iter().map(|(name, protocol)| (*name, *protocol, ports[*name]));
        let all: Vec<_> = own.into_iter().chain(further).collect();
        let address = |(name, _, port): &(&str, &str, u16)| format!("{name}://127.0.0.1:{port}");
        let join = |items: Vec<String>| items.join(",");
        let listeners = join(all.iter().map(address).collect());
        let advertised = join(all.iter().filter(|(name, ..)| *name != "CONTROLLER").map(address).collect());
        let protocols = join(all.iter().map(|(name, protocol, _)| format!("{name}:{protocol}")).collect());
        format!(
            "listeners={listeners}\nadvertised.listeners={advertised}\nlistener.security.protocol.map={protocols}\n\
             inter.broker.listener.name=PLAINTEXT\n"
        )
    }
}

impl Cluster {
    /// One node or three (replication 3, at least 2 in sync), ready for use.
    pub fn start(nodes: usize) -> Self {
        Self::with_settings(nodes, &[])
    }

    /// The same, with broker settings of its own.
    pub fn with_settings(nodes: usize, settings: &[(&str, &str)]) -> Self {
        Self::make(nodes, settings, false, &Further::default())
    }

    /// One node that is as fast as it can be, for a benchmark.
    pub fn measured() -> Self {
        Self::make(1, &[], true, &Further::default())
    }

    /// One node with further listeners beside the open one, which serves the tests' own clients.
    pub fn guarded(settings: &[(&str, &str)], further: &Further<'_>) -> Self {
        Self::make(1, settings, false, further)
    }

    fn make(nodes: usize, settings: &[(&str, &str)], measured: bool, further: &Further<'_>) -> Self {
        let folder = guard::folder("kafka");
        let ports = free_ports(nodes * 2 + further.listeners.len());
        let (clients, rest) = ports.split_at(nodes);
        let (controllers, rest) = rest.split_at(nodes);
        let names = further.listeners.iter().map(|(name, _)| (*name).to_owned());
        let ports: BTreeMap<String, u16> = names.zip(rest.iter().copied()).collect();
        let nodes: Vec<Node> = (0..nodes)
            .map(|index| {
                let place = folder.path().join(format!("node-{}", index + 1));
                fs::create_dir(&place).expect("the node's folder");
                let mut text = properties(index, clients, controllers, &place.join("data"), settings);
                text.push_str(&further.properties(clients[index], controllers[index], &ports));
                fs::write(place.join("server.properties"), text).expect("the node's settings");
                Node { port: clients[index], folder: place, process: None }
            })
            .collect();
        let mut cluster = Self { measured, further: ports, nodes, _folder: folder };
        cluster.format(further.credentials);
        for index in 0..cluster.nodes.len() {
            cluster.spawn(index);
        }
        cluster.await_ready();
        cluster
    }

    /// What a client begins with.
    pub fn servers(&self) -> String {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",")
    }

    /// Of a further listener.
    pub fn address(&self, listener: &str) -> String {
        format!("127.0.0.1:{}", self.further[listener])
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Of the nodes that run.
    pub fn process_ids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.process.as_ref().map(Guarded::id)).collect()
    }

    /// Whether the node's process runs, frozen or not.
    pub fn is_up(&self, index: usize) -> bool {
        self.nodes[index].process.is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].process.take().expect("a running node").kill();
    }

    /// SIGTERM: the node hands over what it leads, then ends.
    pub fn stop(&mut self, index: usize) {
        let mut process = self.nodes[index].process.take().expect("a running node");
        process.signal(Signal::SIGTERM);
        if process.wait(STOP).is_none() {
            panic!("node {} did not stop within {STOP:?}:\n{}", index + 1, self.said(index));
        }
    }

    /// SIGSTOP: the node keeps its connections, and answers nobody.
    pub fn freeze(&mut self, index: usize) {
        self.nodes[index].process.as_mut().expect("a running node").signal(Signal::SIGSTOP);
    }

    /// SIGCONT, and waits until the nodes have found themselves again: one that is alone may be dead to its own controller
    /// a moment after it went on, until it is heard of, which is several times within this.
    pub fn thaw(&mut self, index: usize) {
        const SETTLED: Duration = Duration::from_millis(SESSION_TIMEOUT_MS + 1_000);
        self.nodes[index].process.as_mut().expect("a running node").signal(Signal::SIGCONT);
        let mut since = Instant::now();
        super::wait_until("the node to stay", || {
            if !self.missing().is_empty() {
                since = Instant::now();
            }
            since.elapsed() > SETTLED
        });
    }

    /// Starts a node again, on its old ports and files, and waits until it and all others are in sync.
    pub fn restart(&mut self, index: usize) {
        self.spawn(index);
        self.await_ready();
    }

    /// Which node leads a partition: for `__consumer_offsets` the group's coordinator, for `__transaction_state`
    /// the transactions', since these topics have one partition here.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<usize> {
        let metadata = self.metadata(&self.servers()).ok()?;
        let topic = metadata.topics().iter().find(|found| found.name() == topic)?;
        let leader = topic.partitions().iter().find(|found| found.id() == partition)?.leader();
        usize::try_from(leader - 1).ok()
    }

    /// The same, asked until there is one: a node may be too busy to name it.
    #[track_caller]
    pub fn leader_now(&self, topic: &str, partition: i32) -> usize {
        super::wait_for("a leader", || self.leader(topic, partition))
    }

    /// Waits until every node answers, knows all others, and every partition has all its replicas in sync.
    pub fn await_ready(&mut self) {
        let mut missing = String::new();
        let ready = super::holds_within(START, || {
            for index in 0..self.nodes.len() {
                let ended = self.nodes[index].process.as_mut().expect("started").ended();
                if let Some(status) = ended {
                    panic!("node {} ended with {status}:\n{}", index + 1, self.said(index));
                }
            }
            missing = self.missing();
            missing.is_empty()
        });
        if !ready {
            let said: String = (0..self.nodes.len()).map(|index| self.said(index)).collect();
            panic!("Kafka was not ready within {START:?}: {missing}\n{said}");
        }
    }

    fn missing(&self) -> String {
        for node in &self.nodes {
            let metadata = match self.metadata(&format!("127.0.0.1:{}", node.port)) {
                Ok(metadata) => metadata,
                Err(error) => return format!("the node at port {} does not answer: {error}", node.port),
            };
            let known = metadata.brokers().len();
            if known < self.nodes.len() {
                return format!("the node at port {} knows {known} nodes", node.port);
            }
            for topic in metadata.topics() {
                for partition in topic.partitions() {
                    if partition.leader() < 0 || partition.isr().len() < partition.replicas().len() {
                        let (name, id) = (topic.name(), partition.id());
                        return format!("{name}/{id}: in sync are only {:?}", partition.isr());
                    }
                }
            }
        }
        String::new()
    }

    /// From a client of its own, so that nothing is remembered.
    fn metadata(&self, servers: &str) -> rdkafka::error::KafkaResult<Metadata> {
        let client: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", servers).set("log_level", "0").create()?;
        client.client().fetch_metadata(None, Duration::from_secs(3))
    }

    /// Writes the cluster's id into every node's folder, at the same time.
    fn format(&self, credentials: &[&str]) {
        let id = cluster_id();
        let running: Vec<_> = self
            .nodes
            .iter()
            .map(|node| {
                let mut java = distribution::java(128);
                java.args(["kafka.tools.StorageTool", "format", "--cluster-id", &id, "--config"]);
                java.arg(node.folder.join("server.properties")).stdin(Stdio::null());
                for credential in credentials {
                    java.args(["--add-scram", credential]);
                }
                java.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("java starts")
            })
            .collect();
        for child in running {
            let output = child.wait_with_output().expect("java ends");
            let said = [output.stdout, output.stderr].concat();
            assert!(
                output.status.success(),
                "the node's folder could not be formatted: {}",
                String::from_utf8_lossy(&said)
            );
        }
    }

    fn spawn(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        assert!(node.process.is_none(), "node {} runs already", index + 1);
        let log = File::options().create(true).append(true).open(node.folder.join("log"));
        let log = log.expect("the node's log");
        let mut java = match self.measured {
            true => distribution::java_at_its_best(2 * HEAP_MIB),
            false => distribution::java(HEAP_MIB),
        };
        java.arg("kafka.Kafka").arg(node.folder.join("server.properties"));
        java.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let folder = node.folder.parent().expect("the cluster's folder").to_owned();
        node.process = Some(Guarded::start(&mut java, &folder).expect("java starts"));
    }

    /// The last lines of a node's log.
    fn said(&self, index: usize) -> String {
        let text = fs::read_to_string(self.nodes[index].folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let mut said = format!("--- node {}\n", index + 1);
        for line in &lines[lines.len().saturating_sub(40)..] {
            let _ = writeln!(said, "{line}");
        }
        said
    }
}

/// A node's configuration. Time-outs are short, so that a fault is noticed while the test waits for it.
fn properties(
    index: usize,
    clients: &[u16],
    controllers: &[u16],
    data: &std::path::Path,
    settings: &[(&str, &str)],
) -> String {
    let (client, controller) = (clients[index], controllers[index]);
    let voters: Vec<String> =
        controllers.iter().enumerate().map(|(i, port)| format!("{}@127.0.0.1:{port}", i + 1)).collect();
    let (replication, in_sync) = if clients.len() < 3 { ("1", "1") } else { ("3", "2") };
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| all.insert(name.to_owned(), value.to_owned());
    set("process.roles", "broker,controller");
    set("node.id", &(index + 1).to_string());
    set("listeners", &format!("PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}"));
    set("advertised.listeners", &format!("PLAINTEXT://127.0.0.1:{client}"));
    set("controller.listener.names", "CONTROLLER");
    set("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT");
    set("controller.quorum.voters", &voters.join(","));
    set("log.dirs", &data.display().to_string());
    set("auto.create.topics.enable", "false");
    for internal in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{internal}.replication.factor"), replication);
        set(&format!("{internal}.num.partitions"), "1");
    }
    set("transaction.state.log.min.isr", in_sync);
    set("share.coordinator.state.topic.min.isr", in_sync);
    set("default.replication.factor", replication);
    set("min.insync.replicas", in_sync);
    set("group.initial.rebalance.delay.ms", "0");
    set("group.min.session.timeout.ms", "1000");
    // The same for the new protocol, in which a member can't set them.
    set("group.consumer.min.session.timeout.ms", "1000");
    set("group.consumer.session.timeout.ms", &SESSION_MS.to_string());
    set("group.consumer.min.heartbeat.interval.ms", "500");
    set("group.consumer.heartbeat.interval.ms", "500");
    set("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000");
    set("broker.session.timeout.ms", &SESSION_TIMEOUT_MS.to_string());
    set("broker.heartbeat.interval.ms", "500");
    set("controller.quorum.election.timeout.ms", "500");
    set("controller.quorum.fetch.timeout.ms", "1000");
    set("num.network.threads", "2");
    set("num.io.threads", "4");
    for (name, value) in settings {
        set(name, value);
    }
    all.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name}={value}");
        text
    })
}

/// 16 random bytes as Kafka writes them: 22 characters, of which the last holds two bits.
fn cluster_id() -> String {
    let mut id: String = (0..21).map(|_| fastrand::alphanumeric()).collect();
    id.push('A');
    id
}

/// Ports that nobody uses. Not from the range of outgoing connections: a client that calls a stopped node again and
/// again would end up with the node's own port as its sender, and the node could not start any more.
fn free_ports(count: usize) -> Vec<u16> {
    let mut found = Vec::new();
    while found.len() < count {
        let port = fastrand::u16(10_000..32_000);
        if !found.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.push(port);
        }
    }
    found
}
