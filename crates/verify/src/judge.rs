//! Compares the expected and the found rows of each id, and reports the differences.

use super::{
    Context, VerifyError,
    content::{Digest, Id, PARTS_OF_RECORD, PARTS_OF_ROW},
    findings::Findings,
    outputs::Seen,
    report::{At, Deviation, Kind, Reason, What},
    scratch::{Doubt, Scratch},
    segments::Segment,
    staging::{Collection, Merge, Side, Spot, Staged},
};

/// The records seen on the output topics.
pub(crate) struct SeenTopics {
    pub(crate) notifications: Seen,
    pub(crate) rejections: Seen,
}

pub(crate) fn compare(
    context: &Context<'_>,
    scratch: &Scratch,
    mut rows: Merge<'_>,
    seen: &SeenTopics,
    findings: &mut Findings<'_>,
) -> Result<(), VerifyError> {
    let mut judge = Judge { context, scratch, seen, findings };
    let mut entry: Option<Entry> = None;
    while let Some(row) = rows.next_row()? {
        if let Some(before) = entry.take_if(|entry| (entry.collection, entry.id) != (row.collection, row.id))
        {
            judge.close(before)?;
        }
        let entry = entry.get_or_insert_with(|| Entry::new(&row));
        match row.side {
            // Because of two rows in a trusted log, one thing can be expected twice.
            Side::Expected => entry.expected = Some(row),
            Side::ExpectedForm => entry.other_forms.push(row.digest),
            Side::Found | Side::FoundInPart => judge.meet(entry, row)?,
        }
    }
    entry.map_or(Ok(()), |last| judge.close(last))
}

/// One id of a collection: the expected rows first, then the found rows in the order in which they were read.
struct Entry {
    collection: Collection,
    id: Id,
    expected: Option<Staged>,
    other_forms: Vec<Digest>,
    /// Where it was first found with the expected content.
    first: Option<Spot>,
    altered: Vec<Staged>,
}

impl Entry {
    fn new(&Staged { collection, id, .. }: &Staged) -> Self {
        Self { collection, id, expected: None, other_forms: Vec::new(), first: None, altered: Vec::new() }
    }
}

struct Judge<'a, 'r, 'f> {
    context: &'a Context<'a>,
    scratch: &'a Scratch,
    seen: &'a SeenTopics,
    findings: &'f mut Findings<'r>,
}

impl Judge<'_, '_, '_> {
    fn meet(&mut self, entry: &mut Entry, found: Staged) -> Result<(), VerifyError> {
        let Some(expected) = entry.expected else {
            return self.report(Kind::Foreign, &found, Some(found.spot), "no command produces it".into());
        };
        let is_other_form = match found.side {
            Side::FoundInPart => found.digest.last() == expected.digest.last(),
            _ => entry.other_forms.contains(&found.digest),
        };
        if is_other_form {
            if let Spot::Topic(at) = found.spot {
                let topic = &self.context.rules.rejections_topic;
                self.findings.unchecked(topic, at.partition, at.offset, Reason::LimitUnknown);
            }
        } else if found.digest != expected.digest {
            entry.altered.push(found);
            return Ok(());
        }
        match entry.first {
            None => entry.first = Some(found.spot),
            Some(first) => {
                let details = format!("it is there already, {}", describe(first));
                self.report(Kind::Doubled, &found, Some(found.spot), details)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, entry: Entry) -> Result<(), VerifyError> {
        let Some(expected) = entry.expected else { return Ok(()) };
        for found in &entry.altered {
            let mut details = found.differences(&expected);
            let mut kind = Kind::Altered;
            if let Some(first) = entry.first {
                kind = Kind::Doubled;
                details.push_str(&format!("; as it should be it is there already, {}", describe(first)));
            }
            self.report(kind, found, Some(found.spot), details)?;
        }
        if entry.first.is_none() && entry.altered.is_empty() {
            self.report_missing(&expected)?;
        }
        Ok(())
    }

    fn report_missing(&mut self, expected: &Staged) -> Result<(), VerifyError> {
        let Id { partition, offset, .. } = expected.id;
        let excuse = match expected.collection {
            // Nobody deletes from a log.
            Collection::Log(_) => None,
            Collection::Notifications => self.seen.notifications.excuse(partition, offset),
            Collection::Rejections => self.seen.rejections.excuse(partition, offset),
        };
        match excuse {
            Some(reason) => {
                self.findings.unchecked(self.context.commands_topic(), partition, offset, reason);
                Ok(())
            }
            None => self.report(Kind::Lost, expected, None, "it is not there".into()),
        }
    }

    fn report(
        &mut self,
        kind: Kind,
        row: &Staged,
        spot: Option<Spot>,
        details: String,
    ) -> Result<(), VerifyError> {
        let Staged { collection, id, what, .. } = *row;
        if self.is_open(kind, row)? {
            // A command that was decided again is already reported as unchecked.
            if !self.is_retained(id) {
                let topic = self.context.commands_topic();
                self.findings.unchecked(topic, id.partition, id.offset, Reason::KeyForgotten);
            }
            return Ok(());
        }
        let topic_bits = self.context.rules.decider.topic_bits();
        self.findings.deviation(&Deviation {
            kind,
            what,
            place: self.context.place(collection, spot),
            command: Some(At { partition: id.partition, offset: id.offset }),
            id: (what == What::Notification).then(|| id.text(topic_bits)),
            details,
        })
    }

    /// Whether it may be correct, given how much is known about the command's idempotency key.
    ///
    /// A key decides whether a command is an event, a duplicate or a rejection. It does not make anything exist twice or a
    /// row of a log go missing, and a notification that exists has the content that its command gives.
    fn is_open(&self, kind: Kind, row: &Staged) -> Result<bool, VerifyError> {
        let Staged { collection, id, what, .. } = *row;
        let can_follow = match (collection, kind) {
            (_, Kind::Doubled | Kind::Misplaced | Kind::Miscounted) => false,
            (Collection::Log(_), _) => kind == Kind::Altered,
            (_, Kind::Altered) => what == What::Rejection,
            (_, Kind::Lost | Kind::Foreign) => true,
        };
        if !can_follow {
            return Ok(false);
        }
        let doubt = self.scratch.doubt_of(id.partition, id.offset)?;
        if let Collection::Log(log) = collection {
            return Ok(doubt != Doubt::None && !self.context.is_whole(log, id.partition));
        }
        // A trusted log that did not know all keys may have an event for a command that was not one.
        let trusted = self.segment(id).and_then(|segment| segment.logs.first());
        let knew_all = trusted.is_some_and(|&log| self.context.is_whole(log, id.partition));
        let may_be_another = !self.is_retained(id) && !knew_all && matches!(kind, Kind::Lost | Kind::Foreign);
        Ok(doubt == Doubt::Open || may_be_another)
    }

    fn segment(&self, id: Id) -> Option<&Segment> {
        self.context.facts.partition(id.partition)?.segment(id.offset)
    }

    fn is_retained(&self, id: Id) -> bool {
        self.segment(id).is_some_and(|segment| segment.retained)
    }
}

impl Staged {
    fn differences(&self, expected: &Self) -> String {
        if self.what != expected.what {
            return format!("its command is {}", expected.what.with_article());
        }
        let names = match self.collection {
            Collection::Log(_) => PARTS_OF_ROW,
            _ => PARTS_OF_RECORD,
        };
        let pairs = self.digest.0.iter().zip(expected.digest.0);
        let differing = names.into_iter().zip(pairs).filter(|(_, (found, expected))| *found != expected);
        let differing: Vec<_> = differing.map(|(name, _)| name).collect();
        format!("not as deciding its command gives it: {} differs", differing.join(", "))
    }
}

fn describe(spot: Spot) -> String {
    match spot {
        Spot::Topic(at) => format!("at partition {} offset {}", at.partition, at.offset),
        Spot::Log(Some(position)) => format!("at position {position}"),
        Spot::Log(None) => "in another table".to_owned(),
    }
}
