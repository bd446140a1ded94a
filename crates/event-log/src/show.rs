//! From an activity's id to all that the log knows of its command.

use contract::{ActivityId, Coordinates, Decision, PartitionOffset, Problems};
use rusqlite::{OptionalExtension, params};

use super::checksum::{CURSORS, GAPS, checked};
use super::{Gap, Listed, LogError, LogReader, Recorded, lookup};

/// What the command became whose coordinates the id holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// It is an activity.
    Event(Listed),
    /// The command came before, and became the activity `of`.
    Duplicate { coordinates: Coordinates, of: ActivityId },
    /// The command was refused.
    Rejected { coordinates: Coordinates, problems: Problems },
    /// The log knows of no such command.
    Absent(Absence),
}

/// Why the log knows of no such command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// The id was made for a topic of another name than the log's.
    OtherTopic,
    /// The log has never seen the partition.
    UnknownPartition { partition: i32 },
    /// The log is not that far yet.
    NotYet { partition: i32, offset: i64, logged: i64 },
    /// The log never saw the command.
    InGap { partition: i32, offset: i64, gap: Gap },
    /// Another command lies there: its record has another timestamp, hence another id.
    OtherCommand { coordinates: Coordinates, id: ActivityId },
    /// Kafka had no command there: a control record, say.
    NoCommand { partition: i32, offset: i64 },
}

impl LogReader {
    /// Finds what the id's command became by partition and offset, without looking through the log.
    pub fn show(&self, id: ActivityId) -> Result<Shown, LogError> {
        if id.topic_bits() != self.topic_bits {
            return Ok(Shown::Absent(Absence::OtherTopic));
        }
        self.look_up(PartitionOffset { partition: id.partition(), offset: id.offset() }, Some(id))
    }

    /// Finds what the command there became.
    pub fn show_at(&self, place: PartitionOffset) -> Result<Shown, LogError> {
        self.look_up(place, None)
    }

    /// What the command there became, where it has this id.
    fn look_up(
        &self,
        PartitionOffset { partition, offset }: PartitionOffset,
        id: Option<ActivityId>,
    ) -> Result<Shown, LogError> {
        // By id: the timestamp of a rejection may be one that no id can hold.
        let is_other = |found| id.is_some_and(|id| id != found);
        // One state of the log for all the questions.
        let _snapshot = self.connection.unchecked_transaction().map_err(|error| self.sqlite(error))?;
        if let Some(listed) = self.event_at(partition, offset)? {
            return Ok(match is_other(listed.id) {
                false => Shown::Event(listed),
                true => {
                    Shown::Absent(Absence::OtherCommand { coordinates: listed.coordinates, id: listed.id })
                }
            });
        }
        Ok(match self.refused(partition, offset)? {
            Some(Recorded { coordinates, .. }) if is_other(ActivityId::new(self.topic_bits, coordinates)) => {
                let id = ActivityId::new(self.topic_bits, coordinates);
                Shown::Absent(Absence::OtherCommand { coordinates, id })
            }
            Some(Recorded { coordinates, decision: Decision::Duplicate { of }, .. }) => {
                Shown::Duplicate { coordinates, of }
            }
            Some(Recorded { coordinates, decision: Decision::Rejected(problems), .. }) => {
                Shown::Rejected { coordinates, problems }
            }
            // Of the last kind the two tables have none.
            None | Some(Recorded { decision: Decision::Accepted(_), .. }) => {
                Shown::Absent(self.absence(partition, offset).map_err(|error| self.sqlite(error))?)
            }
        })
    }

    pub(super) fn event_at(&self, partition: i32, offset: i64) -> Result<Option<Listed>, LogError> {
        lookup::event_at(&self.connection, partition, offset, |row| self.listed(row))
            .map_err(|error| self.sqlite(error))
    }

    fn absence(&self, partition: i32, offset: i64) -> rusqlite::Result<Absence> {
        let logged: Option<i64> = self
            .connection
            .query_row(&format!("{} WHERE partition = ?1", CURSORS.select), [partition], |row| {
                checked(row, &CURSORS)?;
                row.get(1)
            })
            .optional()?;
        let Some(logged) = logged else { return Ok(Absence::UnknownPartition { partition }) };
        if offset >= logged {
            return Ok(Absence::NotYet { partition, offset, logged });
        }
        let mut statement = self.connection.prepare_cached(&format!(
            "{} WHERE partition = ?1 AND first_offset <= ?2 ORDER BY first_offset DESC LIMIT 1",
            GAPS.select
        ))?;
        let gap = statement
            .query_row(params![partition, offset], |row| {
                checked(row, &GAPS)?;
                Gap::read(row)
            })
            .optional()?;
        Ok(match gap.filter(|gap| offset < gap.next_offset) {
            Some(gap) => Absence::InGap { partition, offset, gap },
            None => Absence::NoCommand { partition, offset },
        })
    }
}
