//! Errors of the read model.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::checksum::is_conversion_error;
use crate::error::LogError;

/// Except for `Log`, none concerns the event log: queries then read only the log, which takes longer.
#[derive(Debug, Error)]
pub enum ReadModelError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{path}: the read model: {source}; if this repeats, delete the file: it is rebuilt from the log")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error(
        "{path}: the read model is damaged: {found}; 'activity-stream log rebuild' rebuilds it from the log"
    )]
    Damaged { path: PathBuf, found: String },
    #[error("{path}: {found}; it was not changed; move it away, so that the read model can be created there")]
    Foreign { path: PathBuf, found: &'static str },
    #[error("{path}: the read model was replaced while it was opened; try again")]
    Moved { path: PathBuf },
    #[error(
        "{path}: the disk is full: the read model was not written; free some space, then run \
         'activity-stream log rebuild' (`run` retries by itself)"
    )]
    DiskFull { path: PathBuf },
    #[error("{path}: {doing}: {source}")]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
}

impl ReadModelError {
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, found: source.to_string() }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            _ if is_conversion_error(&source) => Self::Damaged { path, found: source.to_string() },
            _ => Self::Sqlite { path, source },
        }
    }

    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}
