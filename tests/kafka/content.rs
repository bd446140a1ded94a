//! Valid commands, and what the contract makes of them: written from the contract, without the program's code.

use std::fmt::Write as _;

use fastrand::Rng;

const OBJECT_TYPES: [&str; 4] = ["case", "customer", "workitem", "ärende"];
const VERBS: [&str; 4] = ["update", "assign", "complete", "share"];
/// How many targets are notified; each number is as likely as it is often here.
const NOTIFIED: [u8; 25] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5];
const GIVEN_TIME: &str = "2026-11-24T01:20:00.5+01:00";

/// The content of one valid command.
#[derive(Debug, Clone)]
pub struct Content {
    number: u32,
    verb: Option<&'static str>,
    actor: Option<Written>,
    object_type: &'static str,
    object_id: u32,
    published_at: Option<&'static str>,
    targets: Vec<Target>,
    attachment: bool,
    text: String,
}

/// JSON as the producer writes it, and in normal form.
#[derive(Debug, Clone)]
struct Written {
    posted: String,
    normal: String,
}

#[derive(Debug, Clone)]
struct Target {
    posted: String,
    /// The normal form less `notify`.
    normal: String,
    /// The key of its notifications.
    key: String,
    notify: bool,
}

/// A notification as it must be in the topic, besides the headers that are the same for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub id: String,
    pub key: String,
    pub value: String,
    pub subject: String,
}

impl Content {
    /// The content with this number. `random` decides everything else about it.
    pub fn new(number: u32, random: &mut Rng) -> Self {
        let object_type = *random.choice(OBJECT_TYPES.iter()).expect("some");
        let object_id = random.u32(0..5_000);
        let actor = match random.u8(0..4) {
            0 => None,
            1 => Some(Written {
                posted: r#"{"Id":"bo","Name":"Bo"}"#.into(),
                normal: r#"{"id":"bo","name":"Bo"}"#.into(),
            }),
            _ => Some(Written { posted: r#""anna""#.into(), normal: r#"{"id":"anna"}"#.into() }),
        };
        let notified = *random.choice(NOTIFIED.iter()).expect("some");
        let silent = random.u8(0..2);
        let mut targets: Vec<Target> = (0..notified)
            .map(|place| Target::notified(number, place, (object_type, object_id), random))
            .chain((0..silent).map(|_| Target::silent(number)))
            .collect();
        random.shuffle(&mut targets);
        Self {
            number,
            verb: random.bool().then(|| *random.choice(VERBS.iter()).expect("some")),
            actor,
            object_type,
            object_id,
            published_at: random.bool().then_some(GIVEN_TIME),
            targets,
            attachment: random.u8(0..10) == 0,
            text: "lorem ipsum ".repeat(random.usize(0..20)),
        }
    }

    /// `objectType/objectId`, which keeps one object's activities in order.
    pub fn object(&self) -> String {
        format!("{}/{}", self.object_type, self.object_id)
    }

    /// As the producer writes it.
    pub fn posted(&self) -> String {
        let mut json = String::from("{");
        if let Some(verb) = self.verb {
            let _ = write!(json, r#""@type":"{verb}","#);
        }
        if let Some(actor) = &self.actor {
            let _ = write!(json, r#""actor":{},"#, actor.posted);
        }
        let _ = write!(json, r#""number":{}, "objectId":"{}","#, self.number, self.object_id);
        let _ = write!(json, r#" "objectType":"{}","content":"{}""#, self.object_type, self.text);
        if let Some(time) = self.published_at {
            let _ = write!(json, r#","publishedAt":"{time}""#);
        }
        if !self.targets.is_empty() {
            let targets: Vec<&str> = self.targets.iter().map(|target| target.posted.as_str()).collect();
            let _ = write!(json, r#","targets":[{}]"#, targets.join(", "));
        }
        if self.attachment {
            json.push_str(r#","attachment":["bill.pdf"]"#);
        }
        json.push('}');
        json
    }

    /// The normal form of a command whose record has this timestamp.
    pub fn normal_form(&self, timestamp: i64) -> String {
        let everyone = || vec![r#"{"@type":"Everyone","notify":false}"#.to_owned()];
        let written = |target: &Target| format!(r#"{},"notify":{}}}"#, target.normal, target.notify);
        let targets: Vec<String> = match self.targets.is_empty() {
            true => everyone(),
            false => self.targets.iter().map(written).collect(),
        };
        self.with(timestamp, &format!(r#","targets":[{}]"#, targets.join(",")))
    }

    fn with(&self, timestamp: i64, targets: &str) -> String {
        let mut json = format!(r#"{{"@type":"{}""#, self.verb.unwrap_or("share"));
        if let Some(actor) = &self.actor {
            let _ = write!(json, r#","actor":{}"#, actor.normal);
        }
        let time = self.published_at.map_or_else(|| time(timestamp), str::to_owned);
        let _ = write!(json, r#","objectType":"{}","objectId":"{}""#, self.object_type, self.object_id);
        let _ = write!(json, r#","publishedAt":"{time}"{targets}"#);
        if self.attachment {
            json.push_str(r#","attachments":[{"@type":"file","id":"bill.pdf"}]"#);
        }
        let _ = write!(json, r#","content":"{}","number":{}}}"#, self.text, self.number);
        json
    }

    /// Places of the targets that are notified.
    pub fn notified(&self) -> impl Iterator<Item = usize> {
        self.targets.iter().enumerate().filter(|(_, target)| target.notify).map(|(place, _)| place)
    }

    /// The notification of the target at `place` of the activity `id`.
    pub fn notification(&self, id: &str, place: usize, timestamp: i64) -> Option<Notification> {
        let target = self.targets.get(place).filter(|target| target.notify)?;
        let activity = self.with(timestamp, "");
        let of_target = format!("{id}/{place}");
        let value = format!(
            r#"{{"id":"{of_target}","activityId":"{id}","target":{}}},"activity":{activity}}}"#,
            target.normal
        );
        Some(Notification { id: of_target, key: target.key.clone(), value, subject: self.object() })
    }
}

impl Target {
    /// A notified audience, different from those at other places.
    fn notified(number: u32, place: u8, (object_type, object_id): (&str, u32), random: &mut Rng) -> Self {
        let one = |posted: String, normal: String, key: String| Self { posted, normal, key, notify: true };
        // Those that can be in a command once have a place of their own.
        match (random.u8(0..4), place) {
            (0, 0) => one(
                r#"{"@type":"Everyone","targetId":null,"notify":true}"#.into(),
                r#"{"@type":"Everyone""#.into(),
                "Everyone".into(),
            ),
            (0, 1) => one(
                r#"{"type":"Members","notify":true}"#.into(),
                r#"{"@type":"Members""#.into(),
                format!("Members:object:{object_type}/{object_id}"),
            ),
            (0, 2) => one(
                r#"{"notify":true,"@type":"Public"}"#.into(),
                r#"{"@type":"Public""#.into(),
                "Public".into(),
            ),
            (1, _) => one(
                format!(r#"{{"@type":"Members","targetId":"team/{place}:a","notify":true}}"#),
                format!(r#"{{"@type":"Members","targetId":"team/{place}:a""#),
                format!("Members:channel:team%2F{place}%3Aa"),
            ),
            (2, _) => one(
                format!(
                    r#"{{"targetId":{{"type":"OrganizationUnit","domain":"nordlys","id":"u{place}"}},"notify":true}}"#
                ),
                format!(
                    r#"{{"@type":"Identity","targetId":{{"id":"u{place}","domain":"nordlys","type":"OrganizationUnit"}}"#
                ),
                format!("Identity:nordlys/u{place}"),
            ),
            _ => {
                let user = format!("user-{}-{place}", number % 100);
                one(
                    format!(r#"{{"targetId":"{user}","notify":true}}"#),
                    format!(r#"{{"@type":"Identity","targetId":{{"id":"{user}"}}"#),
                    format!("Identity:{user}"),
                )
            }
        }
    }

    /// An audience that may see the activity, and is not notified.
    fn silent(number: u32) -> Self {
        let user = format!("reader-{}", number % 10);
        Self {
            posted: format!(r#""{user}""#),
            normal: format!(r#"{{"@type":"Identity","targetId":{{"id":"{user}"}}"#),
            key: String::new(),
            notify: false,
        }
    }
}

/// A record's timestamp as the contract writes it.
pub fn time(timestamp: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(timestamp).expect("a timestamp");
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
