//! What is compared, and who promises what.

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// The processor, with which the others are compared.
    #[value(skip)]
    Own,
    Java,
    Streams,
    Go,
    Python,
}

/// A part of the contract that not every peer keeps, but about which there are commands in the mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// A repeated name is a problem.
    RepeatedNames,
    /// Half of a surrogate pair is a problem of the string that has it.
    Surrogates,
}

impl Subject {
    pub const ALL: [Self; 5] = [Self::Own, Self::Java, Self::Streams, Self::Go, Self::Python];
    pub const PEERS: [Self; 4] = [Self::Java, Self::Streams, Self::Go, Self::Python];

    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "activity-stream",
            Self::Java => "plain Java client, Jackson, SQLite",
            Self::Streams => "Kafka Streams, exactly_once_v2, SQLite",
            Self::Go => "franz-go, SQLite",
            Self::Python => "confluent-kafka for Python, orjson, SQLite",
        }
    }

    pub fn short_name(self) -> &'static str {
        match self {
            Self::Own => "activity-stream",
            Self::Java => "plain Java",
            Self::Streams => "Kafka Streams",
            Self::Go => "franz-go",
            Self::Python => "Python",
        }
    }

    pub fn keeps(self, _promise: Promise) -> bool {
        self != Self::Python
    }
}

const YES: &str = "yes";
const NO: &str = "no";
/// No test kills the peers.
const DESIGN: &str = "by design";
const FIRST: &str = "the first only";

/// In the order of [`Subject::ALL`].
pub const PROMISES: [(&str, [&str; 5]); 14] = [
    ("events, notifications and rejections as in the contract, compared", [YES; 5]),
    ("every notification once, also after `kill -9`", [YES, DESIGN, DESIGN, DESIGN, DESIGN]),
    ("repeated names", [YES, FIRST, FIRST, YES, "the last one counts"]),
    ("halves of surrogate pairs", [YES, YES, YES, YES, "as not JSON"]),
    ("free properties byte for byte", [YES, "their values", "their values", YES, "their values"]),
    ("leap seconds", [YES, NO, NO, NO, NO]),
    ("limits of the output's and the problems' bytes", [YES, NO, NO, NO, NO]),
    ("idempotency keys", [YES, NO, NO, NO, NO]),
    ("CloudEvents", [YES, NO, NO, NO, NO]),
    ("replies", [YES, NO, NO, NO, NO]),
    ("read model and queries", [YES, NO, NO, NO, NO]),
    ("checksums, `verify`, rebuilding the log from the topics", [YES, NO, NO, NO, NO]),
    ("re-created topics and lost offsets noticed", [YES, NO, NO, NO, NO]),
    ("several instances, metrics, health checks", [YES, NO, NO, NO, NO]),
];
