//! The topics that the checker reads, behind a trait: tests need topics that no broker would have.

use std::ops::{ControlFlow, Range};

use contract::Record;
use kafka::{
    Bounds, Topics as Names,
    mark::Committed,
    scan::{Scanner, Unread},
};

use super::VerifyError;

/// One of the three topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    Commands,
    Notifications,
    Rejections,
}

/// Receives a record, and returns whether to continue.
pub type Each<'a> = dyn FnMut(Record) -> Result<ControlFlow<()>, VerifyError> + 'a;

/// The three topics.
pub trait Topics {
    /// The group's committed offset of each partition of the commands topic, whoever committed it.
    fn committed(&mut self) -> Result<Vec<Option<Committed>>, VerifyError>;
    /// Where each partition begins and ends, open transactions included.
    fn bounds(&mut self, topic: Topic) -> Result<Vec<Bounds>, VerifyError>;
    /// Passes every committed record in these ranges to `each`, in order within a partition. Returns the ranges that an open
    /// transaction hides.
    fn read(
        &mut self,
        topic: Topic,
        wanted: &[(i32, Range<i64>)],
        each: &mut Each<'_>,
    ) -> Result<Vec<Unread>, VerifyError>;
}

/// Topics on brokers.
#[derive(Debug)]
pub struct OnBrokers {
    scanner: Scanner,
    names: Names,
    /// The number of partitions of each topic.
    partitions: [usize; 3],
}

impl OnBrokers {
    /// `partitions`: the number of partitions of commands, notifications and rejections.
    #[must_use]
    pub fn new(scanner: Scanner, names: Names, partitions: [usize; 3]) -> Self {
        Self { scanner, names, partitions }
    }

    fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Commands => &self.names.commands,
            Topic::Notifications => &self.names.notifications,
            Topic::Rejections => &self.names.rejections,
        }
    }
}

impl Topics for OnBrokers {
    fn committed(&mut self) -> Result<Vec<Option<Committed>>, VerifyError> {
        Ok(self.scanner.committed(self.partitions[Topic::Commands as usize])?)
    }

    fn bounds(&mut self, topic: Topic) -> Result<Vec<Bounds>, VerifyError> {
        Ok(self.scanner.bounds(self.name(topic), self.partitions[topic as usize])?)
    }

    fn read(
        &mut self,
        topic: Topic,
        wanted: &[(i32, Range<i64>)],
        each: &mut Each<'_>,
    ) -> Result<Vec<Unread>, VerifyError> {
        let name = self.name(topic).to_owned();
        self.scanner.read(&name, wanted, each)
    }
}
