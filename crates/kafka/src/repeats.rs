//! Repeated warnings during an outage: the first is logged at once, then one line with a count every 30 s.
//!
//! In an outage each Kafka client reports each failed attempt to connect, several times a second, and the program retries
//! every second or two. A due count is logged with the next warning of any text, or by [`log_due`], since no other warning
//! may follow an outage.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two lines of one text.
const EVERY: Duration = Duration::from_secs(30);
/// The most texts to remember; beyond it the one that was logged longest ago is dropped.
const TEXTS: usize = 128;

/// One for the process: all of its clients share an outage.
static REPEATS: Mutex<Repeats> = Mutex::new(Repeats::new());

/// The source of a warning, for log filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// One of librdkafka's clients.
    Client,
    /// This program itself.
    Program,
}

/// Logs a warning, or counts it if it was logged lately.
pub fn warn(origin: Origin, text: &str) {
    log(|repeats| repeats.hear(Instant::now(), origin, text));
}

/// Logs the due counts. Call it often, whether there are warnings or not.
pub fn log_due(now: Instant) {
    log(|repeats| repeats.due(now));
}

fn log(due: impl FnOnce(&mut Repeats) -> Vec<Due>) {
    // Unlocked before anything is written.
    let due = due(&mut REPEATS.lock().unwrap_or_else(PoisonError::into_inner));
    for Due { origin, text, repeats } in due {
        // A new text has no count.
        let repeats = (repeats > 0).then_some(repeats);
        match origin {
            Origin::Client => tracing::warn!(target: "librdkafka", repeats, "{text}"),
            Origin::Program => tracing::warn!(target: "activity_stream", repeats, "{text}"),
        }
    }
}

/// As if the program had logged this text `times` times, long enough ago for its count to be due.
#[cfg(any(test, feature = "testing"))]
pub fn warned_long_ago(text: &str, times: u32) {
    let ago = Instant::now().checked_sub(2 * EVERY).expect("the machine was not just started");
    let mut repeats = REPEATS.lock().unwrap_or_else(PoisonError::into_inner);
    (0..times).for_each(|_| drop(repeats.hear(ago, Origin::Program, text)));
}

/// What was logged lately. There are few texts, so they are searched one by one.
#[derive(Debug, Default)]
struct Repeats(Vec<Warning>);

#[derive(Debug)]
struct Warning {
    origin: Origin,
    text: String,
    logged_at: Instant,
    held_back: u64,
}

impl Warning {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.logged_at) >= EVERY
    }
}

/// A line to log now.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    origin: Origin,
    text: String,
    /// How often it was reported since it was last logged; 0 the first time.
    repeats: u64,
}

impl Repeats {
    const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes a text; returns what to log now: the text if it is new, and every due count.
    fn hear(&mut self, now: Instant, origin: Origin, text: &str) -> Vec<Due> {
        self.forget(now);
        let known = |line: &&mut Warning| line.origin == origin && key(&line.text) == key(text);
        let is_new = match self.0.iter_mut().find(known) {
            Some(line) => {
                line.held_back += 1;
                false
            }
            None => true,
        };
        let mut due = self.due(now);
        if is_new {
            if self.0.len() == TEXTS {
                let oldest = (0..TEXTS).min_by_key(|&index| self.0[index].logged_at).unwrap_or(0);
                self.0.swap_remove(oldest);
            }
            self.0.push(Warning { origin, text: text.to_owned(), logged_at: now, held_back: 0 });
            due.push(Due { origin, text: text.to_owned(), repeats: 0 });
        }
        due
    }

    /// The due counts.
    fn due(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        for line in self.0.iter_mut().filter(|line| line.held_back > 0 && line.is_over(now)) {
            let repeats = std::mem::take(&mut line.held_back);
            due.push(Due { origin: line.origin, text: line.text.clone(), repeats });
            line.logged_at = now;
        }
        due
    }

    /// A text without repeats since its line is new the next time.
    fn forget(&mut self, now: Instant) {
        self.0.retain(|line| line.held_back > 0 || !line.is_over(now));
    }
}

/// The text without the parts that differ between attempts: "(after 0ms in state CONNECT, 4 identical error(s)
/// suppressed)", "3 request(s) timed out".
fn key(text: &str) -> impl PartialEq + use<'_> {
    let head = text.split(" (after ").next().unwrap_or_default();
    let is_count = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    head.split(' ').filter(|word| !is_count(word)).collect::<Vec<_>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str =
        "127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused";

    fn hear(repeats: &mut Repeats, begin: Instant, millis: u64, text: &str) -> Vec<(String, u64)> {
        counts(repeats.hear(begin + Duration::from_millis(millis), Origin::Client, text))
    }

    fn counts(due: Vec<Due>) -> Vec<(String, u64)> {
        due.into_iter().map(|due| (due.text, due.repeats)).collect()
    }

    #[test]
    fn logs_the_first_at_once_and_then_a_count_every_half_minute() {
        let (mut repeats, begin) = (Repeats::new(), Instant::now());
        let mut logged = Vec::new();
        // 138 s of an outage, some twenty attempts a second.
        for attempt in 0..2_760 {
            let text = format!("{REFUSED} (after {}ms in state CONNECT)", attempt % 7);
            logged.extend(
                hear(&mut repeats, begin, attempt * 50, &text).into_iter().map(|(_, repeats)| repeats),
            );
        }
        assert_eq!(logged, [0, 600, 600, 600, 600]);
    }

    #[test]
    fn tells_brokers_and_reasons_apart_but_not_counts() {
        let (mut repeats, begin) = (Repeats::new(), Instant::now());
        for text in [REFUSED, &REFUSED.replace("9092", "9093"), &REFUSED.replace("refused", "reset")] {
            assert_eq!(hear(&mut repeats, begin, 0, text), [(text.to_owned(), 0)]);
            assert_eq!(hear(&mut repeats, begin, 1, text), []);
        }
        assert_eq!(hear(&mut repeats, begin, 2, "b:1/1: 3 request(s) timed out").len(), 1);
        assert_eq!(hear(&mut repeats, begin, 3, "b:1/1: 12 request(s) timed out"), []);
    }

    #[test]
    fn reports_the_last_count_of_a_text_with_the_next_line_of_another() {
        let (mut repeats, begin) = (Repeats::new(), Instant::now());
        hear(&mut repeats, begin, 0, "a");
        hear(&mut repeats, begin, 10, "a");
        assert_eq!(hear(&mut repeats, begin, 40_000, "b"), [("a".to_owned(), 1), ("b".to_owned(), 0)]);
        // A text that was not reported again for so long is new.
        assert_eq!(hear(&mut repeats, begin, 80_000, "a"), [("a".to_owned(), 0)]);
    }

    #[test]
    fn reports_the_last_count_of_an_outage_when_its_time_has_come_though_nothing_else_is_heard() {
        let (mut repeats, begin) = (Repeats::new(), Instant::now());
        let due = |repeats: &mut Repeats, seconds| counts(repeats.due(begin + Duration::from_secs(seconds)));
        // 35 s of an outage.
        for second in 0..35 {
            hear(&mut repeats, begin, second * 1000, "a");
        }
        assert_eq!(due(&mut repeats, 59), []);
        assert_eq!(due(&mut repeats, 60), [("a".to_owned(), 4)]);
        assert_eq!(due(&mut repeats, 600), []);
        assert_eq!(hear(&mut repeats, begin, 601_000, "a"), [("a".to_owned(), 0)], "another outage");
    }

    #[test]
    fn tells_apart_who_says_it() {
        let (mut repeats, now) = (Repeats::new(), Instant::now());
        for origin in [Origin::Client, Origin::Program] {
            assert_eq!(repeats.hear(now, origin, "a"), [Due { origin, text: "a".into(), repeats: 0 }]);
            assert_eq!(repeats.hear(now, origin, "a"), []);
        }
    }

    #[test]
    fn remembers_a_bounded_number_of_texts() {
        let (mut repeats, begin) = (Repeats::new(), Instant::now());
        for text in 0..1_000 {
            let text = format!("broker-{text}");
            assert_eq!(hear(&mut repeats, begin, 0, &text), [(text.clone(), 0)]);
        }
        assert_eq!(repeats.0.len(), TEXTS);
    }
}
