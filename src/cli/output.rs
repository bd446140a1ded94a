//! Standard output, progress bars, and how times, numbers and texts are printed.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write},
};

use anstream::{AutoStream, ColorChoice, adapter::StripStr};
use anstyle::{AnsiColor, Style};
use contract::utc;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use thiserror::Error;

use crate::telemetry;

pub const GOOD: Style = AnsiColor::Green.on_default().bold();
pub const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const FAINT: Style = Style::new().dimmed();

/// Bytes of input from which a progress bar helps.
const LONG: u64 = 256 * 1024;
/// Characters of an activity's text that one line shows.
const EXCERPT: usize = 60;

const BYTES: &str = "{bar:40} {bytes} of {total_bytes}, {eta} left";
const EVENTS: &str = "{bar:40} {human_pos} of {human_len} events, {eta} left";
const RECORDS: &str = "{bar:40} {human_pos} of {human_len} records, {eta} left";
const ROWS: &str = "{bar:40} {human_pos} of {human_len} rows, {eta} left";

/// Where a command prints. Text for people has colours on a terminal only, and characters that a terminal would not show are
/// escaped. Output for programs goes to [`raw`](Self::raw) instead.
pub struct Output {
    raw: Box<dyn Write>,
    /// Removes the colours.
    plain: Option<StripStr>,
}

/// What a command does if nobody reads standard output any more, as after `| head -1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// Stop: the command only prints, or must not post anything that it can't report.
    Stop,
    /// Continue without output, because the exit code is an answer.
    GoOn,
}

/// Standard output, which must be flushed at the end.
#[must_use]
pub fn stdout(unread: Unread) -> Output {
    let stdout = io::stdout();
    let coloured = AutoStream::choice(&stdout) != ColorChoice::Never;
    let to = Stdout { to: stdout, unread, is_unread: false };
    Output::new(io::BufWriter::with_capacity(64 * 1024, to), coloured)
}

/// Marks an [`io::Error`] as one of standard output: a broken pipe is no failure there, but elsewhere it is.
#[derive(Debug, Error)]
#[error("can't write to standard output: {0}")]
pub struct StdoutError(io::Error);

impl StdoutError {
    pub fn mark(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(error))
    }

    /// Whether the command ended because nobody reads its output any more.
    #[must_use]
    pub fn is_unread(error: &anyhow::Error) -> bool {
        error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .filter_map(|error| error.get_ref()?.downcast_ref::<Self>())
            .any(|Self(error)| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Below the buffer, so that it sees every write.
struct Stdout<W> {
    to: W,
    unread: Unread,
    is_unread: bool,
}

impl<W: Write> Stdout<W> {
    /// Returns `nothing` for a write that is dropped.
    fn attempt<T>(&mut self, nothing: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.is_unread {
            return Ok(nothing);
        }
        match write(&mut self.to) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.unread == Unread::GoOn => {
                self.is_unread = true;
                Ok(nothing)
            }
            written => written.map_err(StdoutError::mark),
        }
    }
}

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(bytes.len(), |to| to.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt((), W::flush)
    }
}

impl Output {
    pub(super) fn new(raw: impl Write + 'static, coloured: bool) -> Self {
        Self { raw: Box::new(raw), plain: (!coloured).then(StripStr::new) }
    }

    /// Accepts bytes as they are.
    pub fn raw(&mut self) -> &mut dyn Write {
        &mut *self.raw
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let Self { raw, plain } = self;
        let mut write = |part: &str| match part.contains(is_hidden) {
            false => raw.write_all(part.as_bytes()),
            true => raw.write_all(escaped(part, is_hidden).as_bytes()),
        };
        match plain {
            Some(plain) => plain.strip_next(text).try_for_each(write),
            None => write(text),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text(&String::from_utf8_lossy(bytes))?;
        Ok(bytes.len())
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        match text.as_str() {
            Some(text) => self.text(text),
            None => self.text(&text.to_string()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.raw.flush()
    }
}

/// A bar over events on standard error, if that is a terminal.
#[must_use]
pub fn event_progress(events: u64) -> ProgressBar {
    bar(events, EVENTS)
}

/// A bar over bytes on standard error, if the input is long and that is a terminal.
#[must_use]
pub fn progress(total_bytes: Option<u64>) -> ProgressBar {
    total_bytes.filter(|&bytes| bytes >= LONG).map_or_else(ProgressBar::hidden, |bytes| bar(bytes, BYTES))
}

/// A bar on standard error, if that is a terminal. Its length is set as it becomes known.
#[must_use]
pub fn records() -> ProgressBar {
    bar(0, RECORDS)
}

/// Like [`records`], over rows.
#[must_use]
pub fn rows() -> ProgressBar {
    bar(0, ROWS)
}

/// A bar on standard error, below the log lines; hidden if that is no terminal.
fn bar(length: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::with_template(template).expect("a template that a test has tried"));
    telemetry::keep_above(&bar);
    bar
}

/// `1 event`, `2 events`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Milliseconds since 1970 as a date-time in UTC.
#[must_use]
pub fn time(millis: i64) -> String {
    utc(millis).unwrap_or_else(|| format!("{millis} ms"))
}

/// Foreign text on one line, with characters escaped that a terminal would interpret or not show.
#[must_use]
pub fn plain(text: &str) -> String {
    escaped(&text.replace(['\n', '\r', '\t'], " "), is_unsafe)
}

/// A message of this program, which may contain foreign text and several lines.
#[must_use]
pub fn sentence(text: &str) -> String {
    escaped(text, |c| is_unsafe(c) && c != '\n')
}

/// The error with its causes, without those that its message already contains.
#[must_use]
pub fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.push_str(colon);
            text.push_str(&cause);
        }
    }
    text
}

/// Whether a terminal may interpret the character, or let it change how others are shown.
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || is_hidden(c)
}

/// Unicode's format characters (general category Cf) and ignorable ones (`Default_Ignorable_Code_Point`): they override the
/// direction of text, so that it reads differently from what it is, or have no width. Excludes the Arabic and other signs
/// among them that are visible, and the variation selectors of emoji.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Escapes these characters as JSON does.
#[must_use]
pub fn escaped(text: &str, of: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if of(c) { push_escaped(&mut out, c) } else { out.push(c) }
    }
    out
}

/// Beyond U+FFFF, JSON has one escape for each half of the UTF-16 pair.
pub(super) fn push_escaped(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "\\u{unit:04x}");
    }
}

/// The quoted beginning of a text, after a space; empty if there is none.
#[must_use]
pub fn excerpt(text: Option<&str>) -> String {
    let Some(text) = text else { return String::new() };
    let (start, more) = match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    };
    format!(" \"{}{more}\"", plain(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_thing_has_no_plural() {
        assert_eq!(count(1, "event"), "1 event");
        assert_eq!(count(0, "event"), "0 events");
    }

    #[test]
    fn the_bars_have_templates_that_parse() {
        assert!(ProgressStyle::with_template(BYTES).is_ok());
        assert!(ProgressStyle::with_template(EVENTS).is_ok());
        assert!(ProgressStyle::with_template(RECORDS).is_ok());
        assert!(ProgressStyle::with_template(ROWS).is_ok());
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(time(1_795_478_400_120), "2026-11-24T00:00:00.120Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(-1), "-1 ms");
        assert_eq!(time(253_402_207_200_999), "9999-12-30T22:00:00.999Z");
        assert_eq!(time(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(time(253_402_300_800_000), "253402300800000 ms");
        assert_eq!(time(i64::MAX), "9223372036854775807 ms");
    }

    #[test]
    fn a_cause_is_printed_once_wherever_its_message_is() {
        let printed = |error: anyhow::Error| with_causes(&error);
        let cause = || anyhow::anyhow!("the disk is full");
        assert_eq!(printed(cause().context("can't append")), "can't append: the disk is full");
        assert_eq!(
            printed(cause().context("can't append: the disk is full")),
            "can't append: the disk is full"
        );
        let in_the_middle = "can't append: the disk is full; make room, then start again";
        assert_eq!(printed(cause().context(in_the_middle)), in_the_middle);
        assert_eq!(
            printed(cause().context("no sound").context("can't")),
            "can't: no sound: the disk is full"
        );
    }

    #[test]
    fn an_excerpt_is_one_line_and_short() {
        assert_eq!(excerpt(None), "");
        assert_eq!(excerpt(Some("a\nb\u{1b}[31m")), " \"a b\\u001b[31m\"");
        assert_eq!(excerpt(Some(&"ø".repeat(60))).chars().count(), 63);
        assert!(excerpt(Some(&"ø".repeat(61))).ends_with("ø…\""));
    }

    /// By Unicode's own tables.
    #[test]
    fn characters_that_unicode_gives_no_shape_are_hidden() {
        let hidden = r"[[\p{Cf}\p{Default_Ignorable_Code_Point}]--[\p{Prepended_Concatenation_Mark}\x{FE00}-\x{FE0F}]]";
        let hidden = regex_syntax::parse(hidden).unwrap();
        let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(hidden)) = hidden.kind()
        else {
            panic!("{hidden:?}")
        };
        let hidden: std::collections::BTreeSet<char> =
            hidden.iter().flat_map(|range| range.start()..=range.end()).collect();
        let differ: Vec<char> = ('\0'..=char::MAX).filter(|c| is_hidden(*c) != hidden.contains(c)).collect();
        assert!(differ.is_empty(), "{differ:?}");
    }

    #[test]
    fn characters_that_a_terminal_would_hide_are_escaped() {
        let hidden = "\u{ad}\u{61c}\u{180e}\u{200b}\u{200d}\u{202e}\u{2060}\u{2061}\u{2064}\u{2066}\u{206a}\u{206f}\u{feff}\
                      \u{fff9}\u{fffb}\u{e0001}\u{e0020}\u{e007f}";
        let control = "\0\u{1b}\u{7f}\u{80}\u{9b}\u{9f}";
        for c in hidden.chars().chain(control.chars()) {
            let text = format!("a{c}é");
            let units =
                c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            let shown = format!("a{units}é");
            assert_eq!(serde_json::from_str::<String>(&format!("\"{shown}\"")).unwrap(), text);
            assert_eq!(plain(&text), shown);
            assert_eq!(excerpt(Some(&text)), format!(" \"{shown}\""));
            assert_eq!(sentence(&format!("{text}\n")), format!("{shown}\n"));
        }
        let shown =
            "\u{a0}\u{61b}\u{200a}\u{2010}\u{2029}\u{205f}\u{2070}\u{600}❤\u{fe0f}\u{fffd}أב😀\u{300}";
        assert_eq!(plain(shown), shown);
        assert_eq!(plain("a\r\n\tb"), "a   b");
    }

    /// Fails with this kind of error.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_an_answer_continues_without_a_reader_of_standard_output() {
        let out = |unread, kind| Stdout { to: Failing(kind), unread, is_unread: false };
        let broken = io::ErrorKind::BrokenPipe;
        let mut answer = out(Unread::GoOn, broken);
        assert_eq!(answer.write(b"abc").unwrap(), 3);
        answer.flush().unwrap();
        let unread =
            |error: io::Error| StdoutError::is_unread(&anyhow::Error::from(error).context("printing"));
        assert!(unread(out(Unread::Stop, broken).write(b"a").unwrap_err()));
        assert!(unread(out(Unread::Stop, broken).flush().unwrap_err()));
        for kept in [Unread::Stop, Unread::GoOn] {
            let full = out(kept, io::ErrorKind::StorageFull).write(b"a").unwrap_err();
            assert!(full.to_string().starts_with("can't write to standard output: "), "{full}");
            assert!(!unread(full));
        }
        // Such as a socket's.
        assert!(!unread(broken.into()));
    }

    #[derive(Clone, Default)]
    struct Written(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_is_made_for_people_and_the_rest_passes_as_it_is() {
        for (coloured, expected) in [(true, "\u{1b}[31m\\u202ea\u{1b}[0m"), (false, "\\u202ea")] {
            let written = Written::default();
            let mut out = Output::new(written.clone(), coloured);
            let hidden = '\u{202e}';
            write!(out, "\u{1b}[31m{hidden}a\u{1b}[0m").unwrap();
            assert_eq!(String::from_utf8(written.0.take()).unwrap(), expected);
            out.write_all("\u{1b}[31m\u{202e}a\u{1b}[0m".as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written.0.take()).unwrap(), expected);
            let all: String = ('\0'..='\u{ffff}').collect();
            out.raw().write_all(all.as_bytes()).unwrap();
            assert_eq!(written.0.take(), all.as_bytes());
        }
    }
}
