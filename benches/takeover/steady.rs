//! Commands at a steady rate, and when each was acknowledged and its notification could be read.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::BaseConsumer,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};

use super::{
    PARTITIONS, kafka,
    moments::{Acknowledged, Moments, command_of, reader},
    support,
    topics::Names,
};

const LINGER_MS: u32 = 5;
/// After the last command was posted.
const PATIENCE: Duration = Duration::from_secs(60);
/// Posts until it is dropped or ended.
pub struct Steady {
    ends: Arc<AtomicBool>,
    acknowledged: Acknowledged,
    posting: Option<thread::JoinHandle<()>>,
    reading: Option<thread::JoinHandle<Moments>>,
}

/// When commands were acknowledged, and how long after that their notifications could be read.
pub struct Times {
    acknowledged: Moments,
    readable: Moments,
}

impl Steady {
    pub fn post(servers: &str, names: &Names, rate: u32) -> Self {
        let (ends, acknowledged) = (Arc::new(AtomicBool::new(false)), Acknowledged::default());
        let reader = reader(servers, &names.notifications, PARTITIONS, false);
        let reading = {
            let (ends, acknowledged) = (Arc::clone(&ends), acknowledged.clone());
            thread::spawn(move || read(&reader, &ends, &acknowledged))
        };
        let producer: ThreadedProducer<Acknowledged> = kafka::producer(servers, LINGER_MS)
            .create_with_context(acknowledged.clone())
            .expect("a producer");
        let posting = {
            let (ends, topic) = (Arc::clone(&ends), names.commands.clone());
            thread::spawn(move || post(&producer, &topic, rate, &ends))
        };
        Self { ends, acknowledged, posting: Some(posting), reading: Some(reading) }
    }

    /// Posts no more, and waits for the notifications of what was posted.
    pub fn end(mut self) -> Times {
        self.ends.store(true, Ordering::SeqCst);
        self.posting.take().expect("it posts").join().expect("posted");
        let readable = self.reading.take().expect("it reads").join().expect("read");
        Times { acknowledged: self.acknowledged.0.lock().expect("never poisoned").clone(), readable }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
    }
}

impl Times {
    /// Of the commands acknowledged in this time: the median and the 99th percentile of their latencies, and the longest time
    /// in it without any notification.
    pub fn within(&self, window: &Range<Instant>) -> [Duration; 3] {
        let mut latencies: Vec<Duration> = self
            .acknowledged
            .iter()
            .filter(|(_, at)| window.contains(at))
            .filter_map(|(place, at)| Some(self.readable.get(place)?.saturating_duration_since(*at)))
            .collect();
        latencies.sort_unstable();
        let of = |share: f64| {
            let rank = (latencies.len() as f64 * share).ceil() as usize;
            latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        [of(0.5), of(0.99), self.gap(window, |_| true)]
    }

    /// The longest time in this one without any notification of the partitions for which this is true.
    pub fn gap(&self, window: &Range<Instant>, is_counted: impl Fn(i32) -> bool) -> Duration {
        let of_partitions = self.readable.iter().filter(|((partition, _), _)| is_counted(*partition));
        let mut arrivals: Vec<Instant> =
            of_partitions.map(|(_, at)| *at).filter(|at| window.contains(at)).collect();
        arrivals.extend([window.start, window.end]);
        arrivals.sort_unstable();
        arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

fn post(producer: &ThreadedProducer<Acknowledged>, topic: &str, rate: u32, ends: &AtomicBool) {
    let begun = Instant::now();
    let mut next = 0;
    while !ends.load(Ordering::SeqCst) {
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while next <= due {
            let command = support::usual(next);
            let record = BaseRecord::to(topic).key(&command.key).payload(&command.value);
            if producer.send(record).is_ok() {
                next += 1;
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
        thread::sleep(Duration::from_micros(500));
    }
    producer.flush(PATIENCE).expect("all is delivered");
}

fn read(consumer: &BaseConsumer, ends: &AtomicBool, acknowledged: &Acknowledged) -> Moments {
    let mut readable = Moments::new();
    let mut until = None;
    loop {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            let now = Instant::now();
            readable.entry(command_of(&message)).or_insert(now);
            continue;
        }
        if ends.load(Ordering::SeqCst) {
            let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            let all = acknowledged.0.lock().expect("never poisoned");
            if Instant::now() > until || all.keys().all(|place| readable.contains_key(place)) {
                return readable;
            }
        }
    }
}
