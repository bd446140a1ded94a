//! The files of an instance: its log, older copies of it, and changes made to them from outside.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use event_log::EventLog;
use rusqlite::Connection;

use super::Instance;
use crate::simulation::Mutation;

/// A row of table `cursors`, read directly from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorSeen {
    pub partition: i32,
    pub logged: i64,
    pub seen: Option<i64>,
    pub clean: bool,
    pub anchored: bool,
}

impl Instance {
    pub(super) fn change_file(&self, change: &str) {
        if self.path().exists() {
            let file = Connection::open(self.path()).expect("the log");
            file.execute(change, []).expect("the tables of a log");
            EventLog::update_checksums(&file);
        }
    }

    /// A missing file becomes a copy of an empty log: creating one costs more than everything that a schedule writes.
    pub(super) fn prepare_file(&self) {
        static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
        if !self.path().exists() {
            let empty = EMPTY.get_or_init(|| {
                let directory = tempfile::tempdir().expect("a temporary directory");
                let path = directory.path().join("empty.db");
                drop(EventLog::open(&self.options(path.clone())).expect("a new log"));
                fs::read(path).expect("the new log")
            });
            fs::write(self.path(), empty).expect("room for a log");
        }
        match self.mutation {
            Some(Mutation::AnchorIgnored) => self.change_file(
                "UPDATE cursors SET anchor_offset = NULL, anchor_timestamp = NULL, anchor_checksum = NULL",
            ),
            Some(Mutation::SeenIgnored) => self.change_file("UPDATE cursors SET published_seen = NULL"),
            _ => {}
        }
    }

    /// The log is restored to an earlier state, or removed; with or without the files beside it.
    pub fn lose_tail(&mut self, backup: Option<usize>, identity_too: bool) {
        self.crash();
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&self.path(), suffix));
        }
        if let Some(backup) = backup.and_then(|backup| self.backups.get(backup)) {
            copy(backup, &self.path());
        }
        if identity_too {
            self.forget_identity();
        }
    }

    /// From the next start on, it is another instance.
    pub fn forget_identity(&self) {
        let _ = fs::remove_file(beside(&self.path(), "-instance"));
    }

    /// Another process on a copy of the whole folder.
    pub fn copied(&self, name: String, directory: &Path) -> Self {
        let copied = Self::new(name, directory, &self.cluster, self.mutation);
        copy(&self.path(), &copied.path());
        fs::copy(beside(&self.path(), "-instance"), beside(&copied.path(), "-instance")).expect("it has run");
        Self { watchful: self.watchful, ..copied }
    }

    /// The cursors in the file, whoever has it open. The next start clears `clean` if the instance's file is missing.
    pub fn cursors(&self) -> Vec<CursorSeen> {
        if !self.path().exists() {
            return Vec::new();
        }
        let has_identity = beside(&self.path(), "-instance").exists();
        let file = Connection::open(self.path()).expect("the log");
        let mut statement = file
            .prepare(
                "SELECT partition, logged, published_seen, clean, anchor_offset IS NOT NULL FROM cursors",
            )
            .expect("the table of cursors");
        let read = |row: &rusqlite::Row<'_>| {
            Ok(CursorSeen {
                partition: row.get(0)?,
                logged: row.get(1)?,
                seen: row.get(2)?,
                clean: row.get::<_, bool>(3)? && has_identity,
                anchored: row.get(4)?,
            })
        };
        statement.query_map([], read).expect("rows").map(|row| row.expect("a row")).collect()
    }

    /// Keeps a copy of the log as it is on disk now.
    pub fn back_up(&mut self) {
        if self.path().exists() {
            let backup = self.directory.join(format!("backup-{}.db", self.backups.len()));
            copy(&self.path(), &backup);
            self.backups.push(backup);
        }
    }

    pub fn forget_backups(&mut self) {
        self.backups.clear();
    }

    pub fn backups(&self) -> usize {
        self.backups.len()
    }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A database and its write-ahead log.
pub(super) fn copy(from: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let _ = fs::remove_file(beside(to, suffix));
        if beside(from, suffix).exists() {
            fs::copy(beside(from, suffix), beside(to, suffix)).expect("room for a copy");
        }
    }
}
