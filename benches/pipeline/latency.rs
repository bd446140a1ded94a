//! From a command's delivery report to its notification in the hands of a `read_committed` consumer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::{
    Profile,
    kafka::{self, Backlog, Kafka},
    moments::{Acknowledged, Moments, command_of, reader},
    results::{Latency, LatencyRun},
    say,
    subject::Subject,
    support,
};

const PARTITIONS: i32 = 3;
/// As a producer of many commands has it. A latency begins when the command is acknowledged, so it is no part of it.
const LINGER_MS: u32 = 5;
/// After the last command was posted.
const PATIENCE: Duration = Duration::from_secs(30);

/// At two low rates and at `rate`.
pub fn measure(kafka: &Kafka, profile: &Profile, rate: f64) -> Latency {
    let mut runs = Vec::new();
    // Commits of the last one do not wait for the disk.
    let subjects = [Subject::NamedCopyLoop, Subject::ExactlyOnceFull, Subject::ExactlyOnceNormal];
    for (rate, subjects) in [(10.0, &subjects[..2]), (1_000.0, &subjects[..2]), (rate, &subjects[..])] {
        for &subject in subjects {
            let (posted, latencies) = at_rate(kafka, profile, subject, rate);
            let in_ms = |latency: &Duration| latency.as_secs_f64() * 1e3;
            let of = |share: f64| {
                // By the nearest rank. One has to lie above it, or it is the highest.
                let rank = (latencies.len() as f64 * share).ceil() as usize;
                let latency = latencies.get(rank.checked_sub(1)?)?;
                (rank < latencies.len()).then(|| in_ms(latency))
            };
            runs.push(LatencyRun {
                rate,
                subject: subject.name().to_owned(),
                posted,
                timed: latencies.len(),
                p50: of(0.5),
                p99: of(0.99),
                p999: of(0.999),
                highest: latencies.last().map(in_ms),
            });
        }
    }
    Latency { runs }
}

/// How many commands were posted, and all latencies, from the shortest to the longest.
fn at_rate(kafka: &Kafka, profile: &Profile, subject: Subject, rate: f64) -> (usize, Vec<Duration>) {
    let backlog = Backlog::post(kafka, "latency", PARTITIONS, 1, support::usual);
    let names = backlog.names("latency");
    let mut running = subject.start(&kafka.servers, names, PARTITIONS);
    running.await_committed(1);
    let names = running.names().clone();
    let commands = (rate * profile.latency_seconds as f64) as usize;
    // One was posted before, and another one connects the producer.
    let all = commands + 2;
    let ended = Arc::new(AtomicBool::new(false));
    let reading = {
        let (servers, topic, ended) =
            (kafka.servers.clone(), names.notifications.clone(), Arc::clone(&ended));
        thread::spawn(move || read(&servers, &topic, all, &ended))
    };
    let acknowledged = Acknowledged::default();
    acknowledged.0.lock().expect("never poisoned").reserve(commands);
    // Its own thread takes the reports, at once.
    let producer: ThreadedProducer<Acknowledged> = kafka::producer(&kafka.servers, LINGER_MS)
        .create_with_context(acknowledged.clone())
        .expect("a producer");
    // A new producer sends nothing for half a second. The commands of that time would all arrive at once.
    send(&producer, &names.commands, commands as u64 + 1);
    producer.flush(Duration::from_secs(60)).expect("it is delivered");
    acknowledged.0.lock().expect("never poisoned").clear();
    post(&producer, &names.commands, rate, commands);
    producer.flush(Duration::from_secs(60)).expect("all is delivered");
    running.await_committed(all as u64);
    ended.store(true, Ordering::SeqCst);
    let readable = reading.join().expect("read");
    running.stop();
    let acknowledged = acknowledged.0.lock().expect("never poisoned");
    // A notification can be there before its producer has the report.
    let latency =
        |(place, at): (&(i32, i64), &Instant)| Some(readable.get(place)?.saturating_duration_since(*at));
    let mut latencies: Vec<_> = acknowledged.iter().filter_map(latency).collect();
    latencies.sort_unstable();
    say!(
        "{rate:.0} commands/s, {}: {} of {commands} notifications were timed",
        subject.name(),
        latencies.len()
    );
    (commands, latencies)
}

fn post(producer: &ThreadedProducer<Acknowledged>, topic: &str, rate: f64, commands: usize) {
    let begun = Instant::now();
    let mut next = 0;
    while next < commands {
        let due = (begun.elapsed().as_secs_f64() * rate) as usize;
        while next <= due && next < commands {
            // Where the queue is full the broker is slower than the rate, and the command is posted when it can be.
            if send(producer, topic, next as u64 + 1) {
                next += 1;
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Whether the producer's queue had room for the command.
fn send(producer: &ThreadedProducer<Acknowledged>, topic: &str, number: u64) -> bool {
    let command = support::usual(number);
    producer.send(BaseRecord::to(topic).key(&command.key).payload(&command.value)).is_ok()
}

/// The arrival times of this number of notifications. Waits a while for the last ones after `ended`.
fn read(servers: &str, topic: &str, all: usize, ended: &AtomicBool) -> Moments {
    let consumer = reader(servers, topic, PARTITIONS, true);
    // A map that grows holds up what is timed.
    let mut times = Moments::with_capacity(all);
    let mut until = None;
    while times.len() < all && until.is_none_or(|until| Instant::now() < until) {
        if ended.load(Ordering::SeqCst) {
            until.get_or_insert_with(|| Instant::now() + PATIENCE);
        }
        let Some(polled) = consumer.poll(Duration::from_millis(50)) else { continue };
        let now = Instant::now();
        let message = polled.expect("a notification");
        times.entry(command_of(&message)).or_insert(now);
    }
    times
}
