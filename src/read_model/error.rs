//! Why the read model could not be read or brought up to date.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::event_log::LogError;

/// None of them concerns the event log's contents: queries then read the log alone, which takes longer.
#[derive(Debug, Error)]
pub enum ReadModelError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "{path}: the read model: {source}; if it comes again, delete the file: it is made again from the log"
    )]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("{path}: {doing}: {source}")]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
}
