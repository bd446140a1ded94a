//! Why the read model could not be read or brought up to date.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::LogError;

/// None of them concerns the event log's contents: queries then read the log alone, which takes longer.
#[derive(Debug, Error)]
pub enum ReadModelError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "{path}: the read model: {source}; if it comes again, delete the file: it is made again from the log"
    )]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error(
        "{path}: the read model is damaged: {found}; 'activity-stream log rebuild' makes it again from the log"
    )]
    Damaged { path: PathBuf, found: String },
    #[error(
        "{path}: {found}; it was left as it is; move it away: the read model is made there again from the log"
    )]
    Foreign { path: PathBuf, found: &'static str },
    #[error("{path}: another file took the read model's place while it was opened; try again")]
    Moved { path: PathBuf },
    #[error(
        "{path}: the disk is full: the read model was not written; free some space, then run \
         'activity-stream log rebuild' (`run` tries again itself)"
    )]
    DiskFull { path: PathBuf },
    #[error("{path}: {doing}: {source}")]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
}

impl ReadModelError {
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => {
                Self::Damaged { path, found: source.to_string() }
            }
            _ => match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    Self::Damaged { path, found: source.to_string() }
                }
                Some(ErrorCode::DiskFull) => Self::DiskFull { path },
                _ => Self::Sqlite { path, source },
            },
        }
    }

    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}
