//! Whether the peers' output is the processor's, on commands of all kinds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Duration,
};

use rdkafka::{
    Message,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    kafka::{self, Kafka},
    measure::PARTITIONS,
    mix,
    outcome::{self, Outcome, Place},
    programs::{LOG_FILE, Program},
    running::Running,
    say,
    subject::Promise,
    topics::{self, Names},
};

const COMMANDS: u64 = 20_000;
/// Differences that are shown.
const SHOWN: usize = 10;

/// The peers whose output is the processor's. Reports the others.
pub fn alike(kafka: &Kafka, own: &Program, peers: Vec<Program>) -> Vec<Program> {
    let servers = &kafka.servers;
    let mix = Names::of("check");
    mix.create_commands(servers, PARTITIONS);
    post(servers, &mix.commands);
    let conditional = conditional(servers, &mix.commands);
    let wanted = outcome_of(own, servers, &mix).unwrap_or_else(|problem| panic!("{problem}"));
    let (events, notifications) = (wanted.events.len(), wanted.notifications.len());
    let rejections = wanted.rejections.len();
    let codes: BTreeSet<&str> =
        wanted.rejections.values().flat_map(|it| &it.problems).map(|(_, code)| code.as_str()).collect();
    say!(
        "{COMMANDS} mixed commands: {events} events, {notifications} notifications, {rejections} rejections with {} \
         different codes",
        codes.len()
    );
    let alike = peers.into_iter().filter(|peer| {
        let name = peer.subject.name();
        let found = match outcome_of(peer, servers, &mix) {
            Ok(found) => found,
            Err(problem) => {
                say!("not measured: {name}: {problem}");
                return false;
            }
        };
        let given_up: BTreeSet<Place> = conditional
            .iter()
            .filter(|(_, promise)| !peer.subject.keeps(**promise))
            .map(|(place, _)| *place)
            .collect();
        let differences = differences(&wanted, &found, &given_up);
        if differences.is_empty() {
            let same = |(place, event): &(&Place, &outcome::Event)| {
                wanted.events.get(place).is_some_and(|wanted| wanted.text == event.text)
            };
            let bytes = found.events.iter().filter(same).count();
            say!(
                "{name}: equal, {bytes} of {} events byte for byte; not compared: {} commands whose promise it gives up",
                found.events.len(),
                given_up.len()
            );
            return true;
        }
        say!("not measured: {name} differs in {} places:", differences.len());
        for difference in differences.iter().take(SHOWN) {
            say!("  {difference}");
        }
        false
    });
    let alike = alike.collect();
    topics::delete(servers, &mix.commands);
    alike
}

fn post(servers: &str, topic: &str) {
    let producer: BaseProducer = kafka::producer(servers, 20).create().expect("a producer");
    for number in 0..COMMANDS {
        let mix::Mixed { key, value, headers } = mix::mixed(number);
        let mut record = BaseRecord::<String, [u8]>::to(topic);
        if !headers.is_empty() {
            let all = headers
                .iter()
                .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
            record = record.headers(all);
        }
        if let Some(key) = &key {
            record = record.key(key);
        }
        if let Some(value) = &value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| error).expect("a command is taken");
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60)).expect("all is delivered");
}

/// Where the commands are whose outcome is that of the contract only if a promise is kept.
fn conditional(servers: &str, topic: &str) -> BTreeMap<Place, Promise> {
    let commands = outcome::records(servers, topic, PARTITIONS);
    assert_eq!(commands.len() as u64, COMMANDS, "commands on {topic}");
    let needing = commands.iter().filter_map(|command| {
        Some(((command.partition(), command.offset()), mix::needs(command.key().unwrap_or_default())?))
    });
    needing.collect()
}

fn outcome_of(program: &Program, servers: &str, mix: &Names) -> Result<Outcome, String> {
    let names = Names { commands: mix.commands.clone(), ..Names::of("check") };
    names.create_outputs(servers, PARTITIONS);
    let command = |names: &_, folder: &_| program.command(servers, names, folder);
    let mut running = Running::start(command, servers, names, PARTITIONS);
    let committed = running.try_await_committed(COMMANDS);
    let outcome = committed
        .map(|_| Outcome::read(servers, running.names(), PARTITIONS, &running.folder().join(LOG_FILE)));
    running.stop();
    outcome
}

fn differences(wanted: &Outcome, found: &Outcome, given_up: &BTreeSet<Place>) -> Vec<String> {
    let mut all = found.repeated.clone();
    let is_compared = |place: &Place| !given_up.contains(place);
    compare("event", &wanted.events, &found.events, is_compared, &mut all);
    let of_compared = |(place, _): &(Place, String)| is_compared(place);
    compare("notification", &wanted.notifications, &found.notifications, of_compared, &mut all);
    compare("rejection", &wanted.rejections, &found.rejections, is_compared, &mut all);
    all
}

fn compare<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    wanted: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    is_compared: impl Fn(&K) -> bool,
    differences: &mut Vec<String>,
) {
    let places: BTreeSet<&K> = wanted.keys().chain(found.keys()).collect();
    for place in places.into_iter().filter(|place| is_compared(place)) {
        let (wanted, found) = (wanted.get(place), found.get(place));
        if wanted != found {
            differences.push(format!("{what} {place:?}: wanted {wanted:?}, found {found:?}"));
        }
    }
}
