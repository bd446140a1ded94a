//! Limits for commands. The contract's are the defaults.

/// How large a command may be. All instances need the same limits, so that they accept the same commands.
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
    /// Levels of nesting, including the entry itself.
    pub nesting: usize,
    /// Problems reported per command, followed by one that says that there were more. The first is always reported.
    pub problems: usize,
    /// Bytes of all problems of one command as a JSON array. The first is always reported; each has at most about 2 KiB.
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
    /// For entries that were accepted earlier, possibly under other limits.
    pub(crate) fn unlimited() -> Self {
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
