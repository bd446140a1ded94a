//! What is wrong with a configuration.

use std::fmt;

use super::origin::Origin;
use crate::telemetry::LogFormat;

/// Everything that is wrong with a configuration; one line a problem.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
    /// The log format, as far as it could be read.
    pub log_format: LogFormat,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub origin: Origin,
    /// The key, what was found, and what was expected.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

/// `; did you mean …?` if one of the candidates is similar, else nothing.
pub(super) fn did_you_mean<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    // One or two slips in a word; below this, a suggestion is more noise than help.
    const NEAR: f64 = 0.75;
    let spelt = |word: &str| word.to_lowercase().replace('-', "_");
    let word = spelt(word);
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&word, &spelt(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!("; did you mean `{candidate}`?"))
        .unwrap_or_default()
}
