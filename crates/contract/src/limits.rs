//! The contract's limits, as defaults of configurable ones.

/// How large a command may be. The defaults are the contract's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a command's value.
    pub value_bytes: usize,
    /// Bytes of all output of one command.
    pub output_bytes: usize,
    /// Unicode scalar values in an id, type, verb or name.
    pub text_characters: usize,
    pub targets: usize,
    pub attachments: usize,
    /// Levels of nesting; the entry itself is the first.
    pub nesting: usize,
    /// Problems reported of one command; one more says that there were too many. The first is always
    /// reported.
    pub problems: usize,
    /// Bytes of all problems of one command, written as a JSON array. The first is always reported, and
    /// no problem has more than about 2 KiB.
    pub problem_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 512 * 1024,
            output_bytes: 32 * 1024 * 1024,
            text_characters: 512,
            targets: 1000,
            attachments: 100,
            nesting: 64,
            problems: 100,
            problem_bytes: 64 * 1024,
        }
    }
}

impl Limits {
    /// For text that was accepted before, maybe under other limits.
    pub(super) fn none() -> Self {
        Self {
            value_bytes: usize::MAX,
            output_bytes: usize::MAX,
            text_characters: usize::MAX,
            targets: usize::MAX,
            attachments: usize::MAX,
            nesting: usize::MAX,
            ..Self::default()
        }
    }
}
