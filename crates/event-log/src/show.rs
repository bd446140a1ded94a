//! Finds the outcome of a command by its activity id.

use contract::{ActivityId, Coordinates, Decision, PartitionOffset, Problems};
use rusqlite::{OptionalExtension, params};

use crate::checksum::{CURSORS, GAPS, check_row};
use crate::error::LogError;
use crate::lookup::Recorded;
use crate::reader::{Listed, LogReader};
use crate::writer::Gap;

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// It became an activity.
    Event(Listed),
    /// It repeats an earlier command, which became the activity `of`.
    Duplicate { coordinates: Coordinates, of: ActivityId },
    /// It was rejected.
    Rejected { coordinates: Coordinates, problems: Problems },
    /// The log does not have the command.
    Absent(Absence),
}

/// Why the log does not have a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// The id belongs to a topic with another name.
    OtherTopic,
    /// The log has never started the partition.
    UnknownPartition { partition: i32 },
    /// The offset is not appended yet.
    NotYet { partition: i32, offset: i64, logged: i64 },
    /// The offset is in a gap.
    InGap { partition: i32, offset: i64, gap: Gap },
    /// The command at that offset has another timestamp, hence another id.
    OtherCommand { coordinates: Coordinates, id: ActivityId },
    /// Kafka has no command at that offset, but a control record, for example.
    NoCommand { partition: i32, offset: i64 },
}

impl LogReader {
    /// Finds the command by the partition and offset in its id, without a search.
    pub fn show(&self, id: ActivityId) -> Result<Shown, LogError> {
        if id.topic_bits() != self.topic_bits {
            return Ok(Shown::Absent(Absence::OtherTopic));
        }
        self.look_up(PartitionOffset { partition: id.partition(), offset: id.offset() }, Some(id))
    }

    /// Finds the command at that place.
    pub fn show_at(&self, place: PartitionOffset) -> Result<Shown, LogError> {
        self.look_up(place, None)
    }

    fn look_up(
        &self,
        PartitionOffset { partition, offset }: PartitionOffset,
        id: Option<ActivityId>,
    ) -> Result<Shown, LogError> {
        let snapshot = self.connection.unchecked_transaction().map_err(|error| self.sqlite(error))?;
        // Ids are compared, not timestamps: a rejected record's timestamp may not fit into an id.
        let other = |coordinates| {
            let found = ActivityId::new(self.topic_bits, coordinates);
            let is_other = id.is_some_and(|id| id != found);
            is_other.then_some(Shown::Absent(Absence::OtherCommand { coordinates, id: found }))
        };
        let shown = if let Some(event) = self.event_at(partition, offset)? {
            other(event.coordinates).unwrap_or(Shown::Event(event))
        } else if let Some(Recorded { coordinates, decision, .. }) = self.refused(partition, offset)? {
            other(coordinates).unwrap_or(match decision {
                Decision::Duplicate { of } => Shown::Duplicate { coordinates, of },
                Decision::Rejected(problems) => Shown::Rejected { coordinates, problems },
                Decision::Accepted(_) => unreachable!("the two tables have no events"),
            })
        } else {
            Shown::Absent(self.absence(partition, offset).map_err(|error| self.sqlite(error))?)
        };
        drop(snapshot);
        Ok(shown)
    }

    fn absence(&self, partition: i32, offset: i64) -> rusqlite::Result<Absence> {
        let logged: Option<i64> = self
            .connection
            .query_row(&format!("{} WHERE partition = ?1", CURSORS.select), [partition], |row| {
                check_row(row, &CURSORS)?;
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
                check_row(row, &GAPS)?;
                Gap::read(row)
            })
            .optional()?;
        Ok(match gap.filter(|gap| offset < gap.next_offset) {
            Some(gap) => Absence::InGap { partition, offset, gap },
            None => Absence::NoCommand { partition, offset },
        })
    }
}
