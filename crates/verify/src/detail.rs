//! The second reading: of ranges whose sums differ, record by record, in rounds that fit into memory.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use super::{
    Context, VerifyError,
    content::{Digest, Id, Item, PARTS_OF_RECORD, PARTS_OF_ROW},
    decide,
    expected::{self, Collection, Expecting},
    findings::Findings,
    found::{self, Found, Spot},
    ledger::{Ledger, Window},
    outputs::Seen,
    report::{At, Deviation, Kind, Place, Reason, What},
    scratch::{Doubt, Scratch},
    segments::Segment,
    source::Topics,
};

/// Looks at every range that differs, and tells each deviation.
pub fn compare(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    scratch: &Scratch,
    (collection, seen): (Collection, &Seen),
    ledger: &Ledger,
    findings: &mut Findings<'_>,
) -> Result<(), VerifyError> {
    for windows in ledger.rounds(context.sizes.records) {
        let mut round = Round { collection, windows: Windows::new(&windows), expected: HashMap::new() };
        round.fill(context, topics, scratch)?;
        let mut judge = Judge { context, scratch, collection, findings };
        let mut altered = Vec::new();
        let again = found::once_more(context, topics, (collection, seen), &mut |found| {
            if round.windows.contains(found.id.partition, found.id.offset) {
                judge.meet(&mut round.expected, &found, &mut altered)?;
            }
            Ok(())
        })?;
        judge.close(round.expected, altered, (seen, &again))?;
    }
    Ok(())
}

/// Commands that are looked at together.
struct Windows(BTreeMap<i32, Vec<Range<i64>>>);

impl Windows {
    fn new(windows: &[Window]) -> Self {
        let mut all: BTreeMap<i32, Vec<Range<i64>>> = BTreeMap::new();
        for Window { partition, offsets } in windows {
            all.entry(*partition).or_default().push(offsets.clone());
        }
        Self(all)
    }

    fn contains(&self, partition: i32, offset: i64) -> bool {
        self.0.get(&partition).is_some_and(|windows| {
            let place = windows.partition_point(|window| window.end <= offset);
            windows.get(place).is_some_and(|window| window.contains(&offset))
        })
    }
}

/// What should exist, and what of it was met.
#[derive(Debug)]
struct Entry {
    what: What,
    digest: Digest,
    forms: Vec<u128>,
    /// Where it was met first, as it should be.
    met: Option<Spot>,
    is_altered: bool,
}

struct Round {
    collection: Collection,
    windows: Windows,
    expected: HashMap<Id, Entry>,
}

impl Expecting for Round {
    fn wants(&self, collection: Collection, partition: i32, offset: i64) -> bool {
        collection == self.collection && self.windows.contains(partition, offset)
    }

    fn expect(&mut self, _: Collection, item: Item) {
        let Item { id, what, digest, forms } = item;
        self.expected.insert(id, Entry { what, digest, forms, met: None, is_altered: false });
    }

    fn compares(&self) -> bool {
        true
    }

    fn collections(&self) -> Vec<Collection> {
        vec![self.collection]
    }
}

impl Round {
    fn fill(
        &mut self,
        context: &Context<'_>,
        topics: &mut dyn Topics,
        scratch: &Scratch,
    ) -> Result<(), VerifyError> {
        let spans: Vec<(i32, Range<i64>)> = self
            .windows
            .0
            .iter()
            .filter_map(|(&partition, windows)| {
                Some((partition, windows.first()?.start..windows.last()?.end))
            })
            .collect();
        let start = |partition| context.facts.partition(partition).map_or(0, |found| found.bounds.start);
        if spans.iter().any(|(partition, offsets)| offsets.start < start(*partition)) {
            expected::by_logs(context, scratch, self, None)?;
        }
        for (partition, offsets) in spans {
            let windows = Windows(
                self.windows.0.get_key_value(&partition).map(|(k, v)| (*k, v.clone())).into_iter().collect(),
            );
            let wanted = |offset| windows.contains(partition, offset);
            decide::once_more(context, topics, scratch, (partition, offsets), wanted, self)?;
        }
        Ok(())
    }
}

/// Something that was met with another content than it should have.
struct Altered {
    id: Id,
    what: What,
    spot: Spot,
    /// Which of the three parts differ.
    parts: [bool; 3],
}

struct Judge<'a, 'r, 'f> {
    context: &'a Context<'a>,
    scratch: &'a Scratch,
    collection: Collection,
    findings: &'f mut Findings<'r>,
}

impl Judge<'_, '_, '_> {
    fn meet(
        &mut self,
        expected: &mut HashMap<Id, Entry>,
        found: &Found<'_>,
        altered: &mut Vec<Altered>,
    ) -> Result<(), VerifyError> {
        let (id, what, spot) = (found.id, found.what, found.spot);
        let Some(entry) = expected.get_mut(&id) else {
            return self.tell(
                Kind::Foreign,
                what,
                id,
                Some(spot),
                "its command leads to no such thing".into(),
            );
        };
        let digest = found.digest(self.context);
        if digest != entry.digest && found.is_other_form(self.context, &entry.digest, &entry.forms) {
            let topic = &self.context.rules.rejections_topic;
            if let Spot::Topic(at) = spot {
                self.findings.unchecked(topic, at.partition, at.offset, Reason::LimitUnknown);
            }
        } else if digest != entry.digest {
            let parts = std::array::from_fn(|part| digest.parts[part] != entry.digest.parts[part]);
            entry.is_altered = true;
            altered.push(Altered { id, what, spot, parts });
            return Ok(());
        }
        match entry.met {
            None => entry.met = Some(spot),
            Some(first) => {
                let details = format!("it is there already, {}", describe(first));
                self.tell(Kind::Doubled, what, id, Some(spot), details)?;
            }
        }
        Ok(())
    }

    fn close(
        &mut self,
        expected: HashMap<Id, Entry>,
        altered: Vec<Altered>,
        (seen, again): (&Seen, &Seen),
    ) -> Result<(), VerifyError> {
        if let Place::Topic { topic, .. } = self.context.place(self.collection, None) {
            // Deleted commands end the check here (`decide::once_more`), and output does not: where retention is at work,
            // the oldest output differs in every check, because some of it is gone, and so does the next check's. What is
            // gone can't be told any more from what was wrong, in this check or in another.
            for (partition, offsets) in seen.deleted_since(again) {
                self.findings.stretch(&topic, partition, offsets, None, Reason::DeletedMeanwhile);
            }
        }
        for Altered { id, what, spot, parts } in altered {
            let entry = &expected[&id];
            let names = match self.collection {
                Collection::Log(_) => PARTS_OF_ROW,
                _ => PARTS_OF_RECORD,
            };
            let differing: Vec<_> =
                names.iter().zip(parts).filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
            let mut details =
                format!("not as deciding its command gives it: {} differs", differing.join(", "));
            if entry.what != what {
                details = format!("its command is {}", entry.what.with_article());
            }
            let mut kind = Kind::Altered;
            if let Some(first) = entry.met {
                kind = Kind::Doubled;
                details.push_str(&format!("; as it should be it is there already, {}", describe(first)));
            }
            self.tell(kind, what, id, Some(spot), details)?;
        }
        let mut lost: Vec<(Id, What)> = expected
            .into_iter()
            .filter(|(_, entry)| entry.met.is_none() && !entry.is_altered)
            .map(|(id, entry)| (id, entry.what))
            .collect();
        lost.sort_unstable();
        for (id, what) in lost {
            match again.excuse(id.partition, id.offset) {
                Some(reason) => {
                    let topic = self.context.commands_topic();
                    self.findings.unchecked(topic, id.partition, id.offset, reason);
                }
                None => self.tell(Kind::Lost, what, id, None, "it is not there".into())?,
            }
        }
        Ok(())
    }

    fn tell(
        &mut self,
        kind: Kind,
        what: What,
        id: Id,
        spot: Option<Spot>,
        details: String,
    ) -> Result<(), VerifyError> {
        if self.is_open(kind, what, id)? {
            // Of commands that were decided again that was said then.
            if !self.is_retained(id) {
                let topic = self.context.commands_topic();
                self.findings.unchecked(topic, id.partition, id.offset, Reason::KeyForgotten);
            }
            return Ok(());
        }
        let notification = what == What::Notification;
        self.findings.deviation(&Deviation {
            kind,
            what,
            place: self.context.place(self.collection, spot),
            command: Some(At { partition: id.partition, offset: id.offset }),
            id: notification.then(|| id.text(self.context.rules.decider.topic_bits())),
            details,
        })
    }
}

impl Judge<'_, '_, '_> {
    /// Whether it could be as it should, for all that is known of the command's idempotency key.
    ///
    /// A key decides whether a command is an event, a duplicate or a rejection; nothing is there twice for that, no
    /// row of a log is missing, and a notification that is there has the content that its command gives.
    fn is_open(&self, kind: Kind, what: What, id: Id) -> Result<bool, VerifyError> {
        let can_follow = match (self.collection, kind) {
            (_, Kind::Doubled | Kind::Misplaced | Kind::Miscounted) => false,
            (Collection::Log(_), _) => kind == Kind::Altered,
            (_, Kind::Altered) => what == What::Rejection,
            (_, Kind::Lost | Kind::Foreign) => true,
        };
        if !can_follow {
            return Ok(false);
        }
        let Id { partition, offset, .. } = id;
        let doubt = self.scratch.doubt_of(partition, offset)?;
        if let Collection::Log(log) = self.collection {
            return Ok(doubt != Doubt::None && !self.context.is_whole(log, partition));
        }
        // A log that is believed, and did not know all keys, may have an event where there was none.
        let witness = self.segment(id).and_then(|segment| segment.logs.first());
        let knew_all = witness.is_some_and(|&log| self.context.is_whole(log, partition));
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

fn describe(spot: Spot) -> String {
    match spot {
        Spot::Topic(at) => format!("at partition {} offset {}", at.partition, at.offset),
        Spot::Log(Some(position)) => format!("at position {position}"),
        Spot::Log(None) => "in another table".to_owned(),
    }
}
