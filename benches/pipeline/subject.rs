//! What is measured: the processor, or the copy loop that it is compared with.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::{
    copy_loop,
    cpu::{self, Used},
    kafka::Backlog,
    running::Running,
    topics::Names,
};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    CopyLoop,
    /// The same, where it has to be known which command a notification is of.
    NamedCopyLoop,
    ExactlyOnceFull,
    ExactlyOnceNormal,
    /// With FULL.
    NoReadModel,
    AtLeastOnce,
}

impl Subject {
    pub const ALL: [Self; 5] = [
        Self::CopyLoop,
        Self::ExactlyOnceFull,
        Self::ExactlyOnceNormal,
        Self::NoReadModel,
        Self::AtLeastOnce,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::CopyLoop | Self::NamedCopyLoop => "copy loop",
            Self::ExactlyOnceFull => "exactly-once, FULL",
            Self::ExactlyOnceNormal => "exactly-once, NORMAL",
            Self::NoReadModel => "exactly-once, FULL, no read model",
            Self::AtLeastOnce => "at-least-once, FULL",
        }
    }

    /// In the picture, where exactly-once with FULL is the default.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::CopyLoop | Self::NamedCopyLoop => "copy loop",
            Self::ExactlyOnceFull => "activity-stream",
            Self::ExactlyOnceNormal => "with NORMAL",
            Self::NoReadModel => "no read model",
            Self::AtLeastOnce => "at-least-once",
        }
    }

    pub fn start(self, servers: &str, names: Names, partitions: i32) -> Running {
        Running::start(|names, folder| self.command(servers, names, folder), servers, names, partitions)
    }

    fn command(self, servers: &str, names: &Names, folder: &Path) -> Command {
        let Names { commands, notifications, rejections, group } = names;
        if matches!(self, Self::CopyLoop | Self::NamedCopyLoop) {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args(["copy-loop", servers, commands, notifications, rejections, group]);
            if self == Self::NamedCopyLoop {
                command.arg(copy_loop::NAMED);
            }
            return command;
        }
        let (guarantee, synchronous) = match self {
            Self::ExactlyOnceNormal => ("exactly-once", "normal"),
            Self::AtLeastOnce => ("at-least-once", "full"),
            _ => ("exactly-once", "full"),
        };
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{servers}\"\ngroup = \"{group}\"\n\
             [topics]\ncommands = \"{commands}\"\nnotifications = \"{notifications}\"\n\
             rejections = \"{rejections}\"\n[processor]\nguarantee = \"{guarantee}\"\n\
             [log]\nsynchronous = \"{synchronous}\"\nread_model = {}\n",
            self != Self::NoReadModel
        );
        let config = folder.join("config.toml");
        fs::write(&config, text).expect("the configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_activity-stream"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ACTIVITY_STREAM_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.arg("run").arg("--config").arg(config);
        command.arg("--log-file").arg(folder.join("activity.db"));
        command
    }
}

/// One run through a backlog.
#[derive(Debug, Clone)]
pub struct Run {
    /// Commands a second.
    pub rate: f64,
    /// CPU microseconds a command.
    pub stages: Vec<(&'static str, f64)>,
    pub process: f64,
    pub broker: Option<f64>,
    /// MB, of a million bytes.
    pub peak_memory: f64,
}

/// Runs through the backlog. The rate is measured from the first commit that is seen to the last, and what was used from
/// the start: with the first commit, several batches are under way.
pub fn run(subject: Subject, backlog: &Backlog<'_>) -> Run {
    let kafka = backlog.kafka;
    let names = backlog.names("run");
    let broker = kafka.cpu();
    let mut running = subject.start(&kafka.servers, names, backlog.partitions);
    let before = running.await_committed(1);
    let begun = Instant::now();
    let after = running.await_committed(backlog.commands);
    let took = begun.elapsed();
    let used = Used::of(running.id());
    let broker = kafka.cpu().zip(broker).map(|(after, before)| after - before);
    let peak_memory = cpu::peak_memory(running.id());
    running.stop();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / after as f64;
    Run {
        rate: (after - before) as f64 / took.as_secs_f64(),
        stages: used.stages.iter().map(|(name, time)| (*name, each(*time))).collect(),
        process: each(used.total),
        broker: broker.map(each),
        peak_memory,
    }
}
