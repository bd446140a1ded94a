//! What is wrong with a command.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{code::Code, limits::Limits};

/// One thing that is wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// JSON Pointer (RFC 6901) into the value; empty for the record as a whole. If it contained a very long name, it
    /// points to the object with that name instead.
    pub pointer: String,
    /// Stable, machine-readable: one of [`Code::ALL`].
    pub code: String,
    /// What was expected and what was found, in a sentence.
    pub message: String,
}

/// All problems of one command; never empty. Problems of the record as a whole come first, then those of its headers,
/// then those of its value from front to back, then missing properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A single problem of the record as a whole.
    pub fn one(code: Code, message: impl Into<String>) -> Self {
        Self(vec![Problem {
            pointer: String::new(),
            code: code.as_str().to_owned(),
            message: message.into(),
        }])
    }

    /// All problems as a JSON array, without whitespace.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A struct of strings always serializes.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// The code that stands for the rejection as a whole.
    #[must_use]
    pub fn first_code(&self) -> &str {
        self.0.first().map_or("", |problem| &problem.code)
    }
}

/// `pointer: message (code)`, one problem a line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { pointer, code, message }) in self.0.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            let colon = if pointer.is_empty() { "" } else { ": " };
            write!(f, "{line_break}{pointer}{colon}{message} ({code})")?;
        }
        Ok(())
    }
}

/// A path into the value. It is kept on the stack while reading, and only formatted for a problem.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pointer<'a> {
    Root,
    Name(&'a Pointer<'a>, &'a str),
    Index(&'a Pointer<'a>, usize),
}

impl<'a> Pointer<'a> {
    pub fn name(&'a self, name: &'a str) -> Self {
        Self::Name(self, name)
    }

    pub fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

/// Pointers omit longer names, so that one problem stays small.
const MAX_NAME_BYTES: usize = 200;

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Name(parent, name) if name.len() > MAX_NAME_BYTES => parent.fmt(f),
            Self::Name(parent, name) => write!(f, "{parent}/{}", name.replace('~', "~0").replace('/', "~1")),
            Self::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// Bytes reserved for the problem that says that there were too many.
const RESERVED_BYTES: usize = 128;

/// The problems found so far, limited in number and size.
#[derive(Debug)]
pub(crate) struct Findings<'l> {
    limits: &'l Limits,
    problems: Vec<Problem>,
    /// Size of `problems` as a JSON array.
    bytes: usize,
    full: bool,
}

impl<'l> Findings<'l> {
    pub fn new(limits: &'l Limits) -> Self {
        Self { limits, problems: Vec::new(), bytes: "[]".len(), full: false }
    }

    pub fn limits(&self) -> &'l Limits {
        self.limits
    }

    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds `expected {wanted}, found {found}`.
    pub fn expected(
        &mut self,
        at: &Pointer<'_>,
        code: Code,
        wanted: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.add(at, code, format_args!("expected {wanted}, found {found}"));
    }

    /// Always keeps the first problem, whatever the limits: a rejection needs a reason.
    pub fn add(&mut self, at: &Pointer<'_>, code: Code, message: fmt::Arguments<'_>) {
        if self.full {
            return;
        }
        if !self.problems.is_empty() && self.problems.len() >= self.limits.problems {
            return self.close();
        }
        let problem =
            Problem { pointer: at.to_string(), code: code.as_str().to_owned(), message: message.to_string() };
        let bytes = serde_json::to_string(&problem).map_or(0, |json| json.len() + ",".len());
        if !self.problems.is_empty() && self.bytes + bytes + RESERVED_BYTES > self.limits.problem_bytes {
            return self.close();
        }
        self.bytes += bytes;
        self.problems.push(problem);
    }

    fn close(&mut self) {
        self.full = true;
        self.problems.push(Problem {
            pointer: String::new(),
            code: Code::TooManyProblems.as_str().to_owned(),
            message: format!("more than {} problems; the rest are omitted", self.problems.len()),
        });
    }

    /// `None` if there are none.
    pub fn into_problems(self) -> Option<Problems> {
        (!self.problems.is_empty()).then_some(Problems(self.problems))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_pointers_as_rfc_6901_says() {
        let root = Pointer::Root;
        let targets = root.name("targets");
        let second = targets.index(1);
        assert_eq!(second.name("a/b~c").to_string(), "/targets/1/a~1b~0c");
        assert_eq!(second.name("").to_string(), "/targets/1/");
        assert_eq!(second.name(&"x".repeat(201)).to_string(), "/targets/1");
    }

    #[test]
    fn ends_a_full_list_with_one_more_problem() {
        let limits = Limits { problems: 2, ..Limits::default() };
        let mut findings = Findings::new(&limits);
        for _ in 0..2 {
            findings.add(&Pointer::Root, Code::Missing, format_args!("x"));
        }
        assert_eq!(findings.problems.len(), 2);
        for _ in 0..5 {
            findings.add(&Pointer::Root, Code::Missing, format_args!("x"));
        }
        let problems = findings.into_problems().unwrap();
        let codes: Vec<_> = problems.0.iter().map(|problem| problem.code.as_str()).collect();
        assert_eq!(codes, ["missing", "missing", "too_many_problems"]);
    }

    #[test]
    fn limits_the_bytes_of_problems_but_keeps_the_first() {
        let limits = Limits { problems: usize::MAX, problem_bytes: 1000, ..Limits::default() };
        let mut findings = Findings::new(&limits);
        for index in 0..1000 {
            findings.add(&Pointer::Root.index(index), Code::Missing, format_args!("\"\n\u{1}"));
        }
        let problems = findings.into_problems().unwrap();
        let json = problems.to_json();
        assert!((700..=1000).contains(&json.len()), "{}", json.len());
        assert_eq!(problems.0.last().unwrap().code, "too_many_problems");

        let nothing = Limits { problems: 0, problem_bytes: 0, ..Limits::default() };
        let mut findings = Findings::new(&nothing);
        findings.add(&Pointer::Root, Code::Missing, format_args!("x"));
        assert_eq!(findings.into_problems().unwrap().0.len(), 1);
    }

    #[test]
    fn displays_one_problem_per_line() {
        let mut problems = Problems::one(Code::Tombstone, "no value");
        problems.0.push(Problem {
            pointer: "/a".into(),
            code: "missing".into(),
            message: "not there".into(),
        });
        assert_eq!(problems.to_string(), "no value (tombstone)\n/a: not there (missing)");
    }
}
