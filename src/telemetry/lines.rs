//! Lines on standard error, written by their own thread.
//!
//! Standard error may be a pipe that nobody reads, a file on a full disk, or closed. None of that may block or end the
//! program, so lines are queued; a line is dropped and counted if the queue is full or the write fails.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use indicatif::{ProgressBar, WeakProgressBar};

/// Lines in the queue: more than a start or a stop writes, and usually a few hundred KiB at most.
const QUEUE: usize = 1024;
/// Between attempts to write to a descriptor that another program made non-blocking.
const FULL: Duration = Duration::from_millis(10);

/// The process's queue.
static STDERR: OnceLock<Queue> = OnceLock::new();

/// Lines on their way to a writer.
#[derive(Debug)]
pub(super) struct Queue {
    sender: Sender<Message>,
    dropped: &'static AtomicU64,
}

enum Message {
    Line(Vec<u8>),
    Bar(WeakProgressBar),
    OwnBar(ProgressBar),
    Progress(Option<(u64, u64)>),
    Flush(Sender<()>),
}

/// Makes the line that reports a number of dropped lines.
type Notice = fn(u64) -> String;

/// Starts the thread that writes to standard error.
pub(super) fn start(notice: Notice) -> io::Result<()> {
    let queue = Queue::start(io::stderr(), notice)?;
    // After a second start, the first one's thread continues.
    let _ = STDERR.set(queue);
    Ok(())
}

/// Queues a line; before [`start`], writes it directly.
pub(super) fn write(line: &[u8]) {
    match STDERR.get() {
        Some(queue) => queue.push(line),
        None => drop(io::stderr().write_all(&one_line(line))),
    }
}

/// From now on, lines appear above this bar.
pub(super) fn keep_above(bar: &ProgressBar) {
    if let Some(queue) = STDERR.get() {
        queue.keep_above(bar);
    }
}

/// From now on, the thread that writes lines draws this bar.
pub(super) fn draw(bar: ProgressBar) {
    if let Some(queue) = STDERR.get() {
        queue.try_send(Message::OwnBar(bar));
    }
}

/// Moves the bar given to [`draw`] to a position and length, or removes it. Returns whether there was room in the queue.
pub(super) fn progress(progress: Option<(u64, u64)>) -> bool {
    STDERR.get().is_some_and(|queue| queue.try_send(Message::Progress(progress)))
}

/// Waits until all queued lines are written, but no longer than `patience`. Removes the bar given to [`draw`].
pub(super) fn flush(patience: Duration) {
    if let Some(queue) = STDERR.get() {
        queue.try_send(Message::Progress(None));
        queue.flush(patience);
    }
}

/// Lines dropped since the start.
pub(super) fn dropped() -> u64 {
    STDERR.get().map_or(0, |queue| queue.dropped.load(Ordering::Relaxed))
}

/// The writer for `tracing-subscriber`, which writes one event per call.
pub(super) struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn start(writer: impl Write + Send + 'static, notice: Notice) -> io::Result<Self> {
        let (sender, receiver) = bounded(QUEUE);
        // Leaked once per process, and per test.
        let dropped: &'static AtomicU64 = Box::leak(Box::default());
        thread::Builder::new()
            .name("log-lines".into())
            .spawn(move || write_all(writer, &receiver, dropped, notice))?;
        Ok(Self { sender, dropped })
    }

    fn try_send(&self, message: Message) -> bool {
        self.sender.try_send(message).is_ok()
    }

    fn push(&self, line: &[u8]) {
        if !self.try_send(Message::Line(one_line(line))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// If the queue is full, lines interrupt the bar.
    fn keep_above(&self, bar: &ProgressBar) {
        self.try_send(Message::Bar(bar.downgrade()));
    }

    fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (done, written) = bounded(1);
        if self.sender.send_deadline(Message::Flush(done), deadline).is_ok() {
            let _ = written.recv_deadline(deadline);
        }
    }
}

fn write_all(mut writer: impl Write, queue: &Receiver<Message>, dropped: &'static AtomicU64, notice: Notice) {
    let mut reported = 0;
    let mut bar = WeakProgressBar::new();
    let mut own_bar = None::<ProgressBar>;
    let mut write = |bar: &WeakProgressBar, line: &[u8]| {
        // A bar whose length is not known yet is not drawn either.
        let drawn = bar.upgrade().filter(|bar| !bar.is_finished() && bar.length() != Some(0));
        let mut write = || write_line(&mut writer, line).is_ok();
        let written = match drawn {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        if !written {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
        written
    };
    for message in queue {
        match message {
            Message::Flush(done) => drop(done.send(())),
            Message::Bar(new) => bar = new,
            Message::OwnBar(new) => own_bar = Some(new),
            Message::Progress(Some((position, length))) => {
                if let Some(bar) = &own_bar {
                    bar.set_length(length);
                    bar.set_position(position);
                }
            }
            // The last handle removes the bar from the terminal.
            Message::Progress(None) => own_bar = None,
            Message::Line(line) => {
                let lost = dropped.load(Ordering::Relaxed);
                if write(&bar, &line) && lost > reported && write(&bar, notice(lost - reported).as_bytes()) {
                    reported = lost;
                }
            }
        }
    }
}

/// Like `write_all`, but waits for a descriptor that is non-blocking because a process that shares it made it so.
fn write_line(writer: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match writer.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The text as one line: each line break inside, with the spaces around it, becomes one space.
fn one_line(text: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len() + 1);
    for part in text.split(|&byte| byte == b'\n' || byte == b'\r') {
        let part = if line.is_empty() { part.trim_ascii_end() } else { part.trim_ascii() };
        if !part.is_empty() {
            if !line.is_empty() {
                line.push(b' ');
            }
            line.extend_from_slice(part);
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use indicatif::{ProgressDrawTarget, ProgressStyle, TermLike};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Writes when the test lets it.
    struct Gate {
        /// One answer for each write.
        answers: mpsc::Receiver<io::Result<()>>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.answers.recv().unwrap_or(Ok(()))?;
            self.written.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Queue, mpsc::Sender<io::Result<()>>, Arc<Mutex<String>>) {
        let (answer, answers) = mpsc::channel();
        let written = Arc::<Mutex<String>>::default();
        let gate = Gate { answers, written: Arc::clone(&written) };
        (Queue::start(gate, |count| format!("{count} dropped\n")).unwrap(), answer, written)
    }

    #[test]
    fn drops_and_counts_lines_while_nobody_reads() {
        let (queue, answer, written) = gate();
        queue.push(b"first");
        while !queue.sender.is_empty() {
            thread::yield_now();
        }
        // The thread hangs in the first write.
        for _ in 0..QUEUE + 5 {
            queue.push(b"more");
        }
        queue.flush(Duration::from_millis(1));
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 5);
        drop(answer);
        queue.flush(PATIENCE);
        let written = written.lock().unwrap();
        assert_eq!(written.lines().filter(|line| *line == "more").count(), QUEUE);
        assert_eq!(written.lines().filter(|line| *line == "5 dropped").count(), 1, "{written}");
    }

    #[test]
    fn counts_lines_that_could_not_be_written_until_there_is_room() {
        let (queue, answer, written) = gate();
        for _ in 0..3 {
            answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
            queue.push(b"lost");
        }
        answer.send(Ok(())).unwrap();
        answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        queue.push(b"room");
        queue.push(b"more");
        drop(answer);
        queue.flush(PATIENCE);
        // The first notice was lost as well.
        assert_eq!(*written.lock().unwrap(), "room\nmore\n4 dropped\n");
    }

    #[test]
    fn waits_for_a_descriptor_that_is_not_blocking() {
        let (queue, answer, written) = gate();
        answer.send(Err(io::ErrorKind::WouldBlock.into())).unwrap();
        answer.send(Err(io::ErrorKind::Interrupted.into())).unwrap();
        drop(answer);
        queue.push(b"line");
        queue.flush(PATIENCE);
        assert_eq!((&written.lock().unwrap()[..], queue.dropped.load(Ordering::Relaxed)), ("line\n", 0));
    }

    /// A terminal with its finished lines and the one that the cursor is in.
    #[derive(Debug, Clone, Default)]
    struct Terminal(Arc<Mutex<(Vec<String>, String)>>);

    impl Terminal {
        fn bar(&self) -> ProgressBar {
            let target = ProgressDrawTarget::term_like(Box::new(self.clone()));
            ProgressBar::with_draw_target(Some(0), target)
                .with_style(ProgressStyle::with_template("{pos} of {len}").unwrap())
        }

        fn take(&self, text: &str) {
            let (finished, current) = &mut *self.0.lock().unwrap();
            for (index, part) in text.split('\n').enumerate() {
                if index > 0 {
                    finished.push(std::mem::take(current));
                }
                current.push_str(part);
            }
        }
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.take(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            10
        }

        fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
            assert_eq!(lines, 0, "the bar has one line");
            Ok(())
        }

        fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
            self.move_cursor_up(lines)
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.take(&format!("{text}\n"));
            Ok(())
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.take(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().1.clear();
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_appear_above_a_bar_while_there_is_one() {
        let terminal = Terminal::default();
        let queue = Queue::start(terminal.clone(), |_| String::new()).unwrap();
        let bar = terminal.bar();
        let mut written = Vec::new();
        let mut says = |line: &str, bar: &str| {
            queue.push(line.as_bytes());
            queue.flush(PATIENCE);
            written.push(line.to_owned());
            let (finished, current) = &*terminal.0.lock().unwrap();
            assert_eq!((finished, current.trim_end()), (&written, bar));
        };
        queue.keep_above(&bar);
        says("before", "");
        bar.set_length(3);
        bar.set_position(2);
        bar.force_draw();
        says("first", "2 of 3");
        says("second", "2 of 3");
        bar.finish_and_clear();
        says("after", "");

        let bar = terminal.bar();
        queue.keep_above(&bar);
        queue.try_send(Message::OwnBar(bar));
        says("before its own", "");
        queue.try_send(Message::Progress(Some((1, 3))));
        says("third", "1 of 3");
        queue.try_send(Message::Progress(Some((2, 3))));
        says("fourth", "2 of 3");
        queue.try_send(Message::Progress(None));
        says("after its own", "");
    }

    #[test]
    fn a_stopped_terminal_does_not_delay_who_reports_progress() {
        let (queue, answer, written) = gate();
        let terminal = Terminal::default();
        let bar = terminal.bar();
        queue.keep_above(&bar);
        queue.try_send(Message::OwnBar(bar));
        queue.try_send(Message::Progress(Some((1, 3))));
        queue.push(b"line");
        while !queue.sender.is_empty() {
            thread::yield_now();
        }
        // The thread hangs in the write, and holds the bar's lock.
        let queued = (0..QUEUE + 5).filter(|_| queue.try_send(Message::Progress(Some((2, 3))))).count();
        assert_eq!((queued, queue.dropped.load(Ordering::Relaxed)), (QUEUE, 0));
        drop(answer);
        queue.flush(PATIENCE);
        assert_eq!(*written.lock().unwrap(), "line\n");
        assert_eq!(terminal.0.lock().unwrap().1.trim_end(), "2 of 3");
    }

    #[test]
    fn writes_each_text_as_one_line() {
        let cases = [
            ("a", "a\n"),
            ("a\n", "a\n"),
            ("a\r\nb\n", "a b\n"),
            ("  a\n  |\n  ^\n\n", "  a | ^\n"),
            ("\n", "\n"),
        ];
        for (text, line) in cases {
            assert_eq!(String::from_utf8(one_line(text.as_bytes())).unwrap(), line, "{text:?}");
        }
    }
}
