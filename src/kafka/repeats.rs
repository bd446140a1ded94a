//! Lines that Kafka clients repeat: the first is logged at once, then one with a count every [`EVERY`].
//!
//! In an outage each client reports each failed attempt to connect, several times a second.

use std::time::{Duration, Instant};

/// Between two lines of one text.
pub const EVERY: Duration = Duration::from_secs(30);
/// Texts remembered at most; beyond them the one that was logged longest ago is forgotten.
const TEXTS: usize = 128;

/// What was logged lately. There are few texts, so they are searched one by one.
#[derive(Debug, Default)]
pub struct Repeats(Vec<Line>);

#[derive(Debug)]
struct Line {
    text: String,
    logged_at: Instant,
    held_back: u64,
}

/// A line to log now.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    pub text: String,
    /// How often it was reported since it was last logged; 0 the first time.
    pub repeats: u64,
}

impl Repeats {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes a text; returns what is to be logged now: the text if it is new, and every count whose time has come.
    pub fn hear(&mut self, now: Instant, text: &str) -> Vec<Due> {
        let is_over = |line: &Line| now.saturating_duration_since(line.logged_at) >= EVERY;
        self.0.retain(|line| line.held_back > 0 || !is_over(line));
        let known = self.0.iter_mut().find(|line| key(&line.text) == key(text));
        let is_new = known.is_none();
        if let Some(line) = known {
            line.held_back += 1;
        }
        let mut due = Vec::new();
        for line in self.0.iter_mut().filter(|line| is_over(line)) {
            due.push(Due { text: line.text.clone(), repeats: std::mem::take(&mut line.held_back) });
            line.logged_at = now;
        }
        if is_new {
            if self.0.len() == TEXTS {
                let oldest = (0..TEXTS).min_by_key(|&index| self.0[index].logged_at).unwrap_or(0);
                self.0.swap_remove(oldest);
            }
            self.0.push(Line { text: text.to_owned(), logged_at: now, held_back: 0 });
            due.push(Due { text: text.to_owned(), repeats: 0 });
        }
        due
    }
}

/// The text without what differs from one attempt to the next: "(after 0ms in state CONNECT, 4 identical error(s)
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
        let due = repeats.hear(begin + Duration::from_millis(millis), text);
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
    fn remembers_a_bounded_number_of_texts() {
        let (mut repeats, begin) = (Repeats::new(), Instant::now());
        for text in 0..1_000 {
            let text = format!("broker-{text}");
            assert_eq!(hear(&mut repeats, begin, 0, &text), [(text.clone(), 0)]);
        }
        assert_eq!(repeats.0.len(), TEXTS);
    }
}
