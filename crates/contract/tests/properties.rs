//! What holds for every command, and for everything that is none.

#![allow(clippy::disallowed_types, reason = "a test may look at a clock")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::LazyLock,
};

use activity_stream_contract::{
    Channels, Code, Coordinates, Decider, Event, Header, Limits, Notification, Reading, Record, ReplyTopics,
    Schema, asyncapi, beyond, rejection_record,
};
use jsonschema::Validator;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, json, value::RawValue};
use testing::contract::*;

// Strategies are boxed: composed of many parts, they would fill a test thread's stack.

/// Texts that a contract field takes, as JSON, some of them with escapes.
fn id() -> BoxedStrategy<String> {
    let text = prop_oneof![
        4 => "[a-cé/:%]{1,3}",
        1 => "[^\\p{Cc}]{1,20}",
    ];
    (text, any::<bool>())
        .prop_map(|(text, escaped)| if escaped { escape(&text) } else { quote(&text) })
        .boxed()
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn escape(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

/// Any JSON, with whitespace, escapes and odd numbers.
fn free_value() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        select(vec![
            "null",
            "true",
            "1.50e+9",
            "-0",
            "1e999",
            "\"\\ud800\"",
            "\" \\/ \\u00e9\"",
            "[ ]",
            "{ \t}"
        ])
        .prop_map(str::to_owned),
        ".{0,8}".prop_map(|text| quote(&text)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|values| format!("[{} ]", values.join(" , "))),
            vec(inner, 0..3).prop_map(|values| {
                let names = ["b", "\\u0061", "b"];
                let members: Vec<_> =
                    names.iter().zip(&values).map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                format!("{{\n{}}}", members.join(","))
            }),
        ]
    })
    .boxed()
}

fn object(members: Vec<Option<(&'static str, String)>>) -> String {
    let members: Vec<_> =
        members.into_iter().flatten().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
    format!("{{ {} }}", members.join(" ,\n"))
}

fn identity() -> BoxedStrategy<String> {
    let types = select(vec!["\"User\"", "\"OrganizationUnit\"", "\"Position\"", "\"Gr\\u006fup\"", "null"]);
    let fields = (id(), option::of(id()), option::of(id()), option::of(types), any::<bool>());
    let as_object = fields.prop_map(|(id, domain, name, kind, capital)| {
        let names = if capital { ["Id", "Domain", "Name", "Type"] } else { ["id", "domain", "name", "type"] };
        object(vec![
            kind.map(|kind| (names[3], kind.to_owned())),
            name.map(|name| (names[2], name)),
            Some((names[0], id)),
            domain.map(|domain| (names[1], domain)),
        ])
    });
    prop_oneof![id(), as_object].boxed()
}

fn target() -> BoxedStrategy<String> {
    let notify =
        || option::of(select(vec!["true", "false", "null"]).prop_map(|notify| ("notify", notify.to_owned())));
    let of_identity = (identity(), notify(), any::<bool>(), option::of(id())).prop_map(
        |(identity, notify, typed, name)| {
            let kind = typed.then(|| ("type", "\"Identity\"".to_owned()));
            let name = name.filter(|_| identity.starts_with('"')).map(|name| ("name", name));
            object(vec![notify, name, Some(("targetId", identity)), kind])
        },
    );
    let kinds = select(vec!["\"Everyone\"", "\"Public\"", "\"Members\""]);
    let of_all =
        (kinds, option::of(id()), notify(), any::<bool>()).prop_map(|(kind, target_id, notify, alias)| {
            let name = if alias { "type" } else { "@type" };
            let target_id = target_id.map(|id| if kind == "\"Members\"" { id } else { "null".to_owned() });
            object(vec![target_id.map(|id| ("targetId", id)), Some((name, kind.to_owned())), notify])
        });
    prop_oneof![identity(), of_identity, of_all].boxed()
}

fn attachment() -> BoxedStrategy<String> {
    let kinds = option::of(select(vec!["\"file\"", "\"link\"", "\"video\"", "null"]));
    let as_object = (id(), kinds, option::of(free_value())).prop_map(|(id, kind, free)| {
        object(vec![
            free.map(|free| ("ty\\u0070e", free)),
            Some(("id", id)),
            kind.map(|kind| ("@type", kind.to_owned())),
        ])
    });
    prop_oneof![id(), as_object].boxed()
}

/// A valid command, its fields in any order and under any of their names.
fn command() -> BoxedStrategy<String> {
    let array = |elements: Vec<String>| format!("[ {} ]", elements.join(", "));
    let date_times =
        select(vec!["\"2026-11-24t01:20:00.1234567+01:00\"", "\"2026-11-24T01:20:00\\u005a\"", "null"]);
    let fields = (
        option::of((select(vec!["@type", "type", "\\u0040type"]), id())),
        option::of(identity().prop_map(|actor| ("actor", actor))),
        id().prop_map(|id| Some(("objectType", id))),
        id().prop_map(|id| Some(("\\u006fbjectId", id))),
        option::of((select(vec!["publishedAt", "published"]), date_times.prop_map(str::to_owned))),
        option::of(vec(target(), 1..6).prop_map(move |all| ("targets", array(all)))),
        option::of((select(vec!["attachment", "attachments"]), vec(attachment(), 0..3).prop_map(array))),
        option::of(".{0,10}".prop_map(|content| ("content", quote(&content)))),
        option::of(free_value().prop_map(|value| ("fr\\u0065e \\/", value))),
        option::of(free_value().prop_map(|value| ("Content", value))),
    );
    fields
        .prop_map(|(a, b, c, d, e, f, g, h, i, j)| vec![a, b, c, d, e, f, g, h, i, j])
        .prop_shuffle()
        .prop_map(object)
        .boxed()
}

/// A valid command with some of its bytes changed, removed or repeated.
fn mutated() -> BoxedStrategy<Vec<u8>> {
    let pieces = select(vec![
        "\"", "{", "}", "[", "]", ",", ":", "\\", "null", "\"id\":", "\u{0}", "é", "\\ud800", "1",
    ]);
    let change = (any::<prop::sample::Index>(), 0..4_usize, pieces);
    (command(), vec(change, 1..6))
        .prop_map(|(command, changes)| {
            let mut bytes = command.into_bytes();
            for (index, removed, piece) in changes {
                let from = index.index(bytes.len().max(1)).min(bytes.len());
                let to = (from + removed).min(bytes.len());
                bytes.splice(from..to, piece.bytes());
            }
            bytes
        })
        .boxed()
}

/// What stands in commands, and what does not.
fn any_value() -> BoxedStrategy<Value> {
    let words = select(vec![
        "",
        "x",
        "a\n",
        "User",
        "Identity",
        "Everyone",
        "Members",
        "Public",
        "file",
        "2026-11-24T01:20:00Z",
        "2026-02-30T01:20:00Z",
        "2026-11-24T12:00:60Z",
        "2026-11-24T01:20",
    ]);
    let objects = select(vec![
        json!({}),
        json!({ "id": "x" }),
        json!({ "Id": "x", "type": null }),
        json!({ "targetId": "x" }),
        json!({ "targetId": { "id": "x" }, "notify": true }),
        json!({ "@type": "Everyone" }),
        json!({ "type": "Members" }),
        json!({ "type": "Public", "targetId": [] }),
        json!({ "targetId": "x", "name": "X" }),
        json!({ "targetId": { "id": "x", "name": "X" }, "name": "X" }),
    ]);
    prop_oneof![
        select(vec![json!(null), json!(true), json!(1), json!([]), json!([["x"]]), json!(["x"])]),
        words.prop_map(Value::from),
        (500..530_usize).prop_map(|length| "é".repeat(length).into()),
        objects,
    ]
    .boxed()
}

fn any_name() -> BoxedStrategy<String> {
    let names = select(vec![
        "@type",
        "type",
        "actor",
        "objectType",
        "objectId",
        "publishedAt",
        "published",
        "targets",
        "attachments",
        "attachment",
        "content",
        "id",
        "Id",
        "domain",
        "Domain",
        "name",
        "Name",
        "Type",
        "targetId",
        "notify",
        "ID",
        "notfy",
    ]);
    prop_oneof![4 => names.prop_map(str::to_owned), 1 => near_targets(), 1 => foreign_audience()].boxed()
}

/// `targets` but for case or one letter.
fn misspelt_targets() -> BoxedStrategy<String> {
    near_targets()
        .prop_filter("as far away", |name| {
            name != "targets" && strsim::osa_distance(&name.to_lowercase(), "targets") <= 1
        })
        .boxed()
}

/// Names by which other vocabularies name an audience, and `to`, in any case.
fn foreign_audience() -> BoxedStrategy<String> {
    let names =
        select(vec!["cc", "bto", "bcc", "audience", "audiences", "recipient", "recipients", "notify", "to"]);
    (names, vec(any::<bool>(), 10))
        .prop_map(|(name, capitals)| {
            let in_case = |(c, capital): (char, bool)| if capital { c.to_ascii_uppercase() } else { c };
            name.chars().zip(capitals).map(in_case).collect()
        })
        .boxed()
}

/// The text with other whitespace, its strings spelt otherwise and its members in another order, as `bits` have it.
/// Members of one name keep their order.
fn rewritten(text: &str, bits: &mut impl FnMut() -> bool) -> String {
    let raw = |text: &str| serde_json::from_str::<Box<RawValue>>(text).unwrap();
    let text = raw(text).get().to_owned();
    let space = if bits() { "\t" } else { "" };
    match text.as_bytes()[0] {
        b'{' => {
            let Members(members) = serde_json::from_str(&text).unwrap();
            let mut shuffled: Vec<(String, String)> = Vec::new();
            for (name, value) in members {
                let place = match shuffled.iter().any(|(other, _)| units(other) == units(name.get())) {
                    false if bits() => 0,
                    _ => shuffled.len(),
                };
                shuffled.insert(place, (name.get().to_owned(), value.get().to_owned()));
            }
            let members: Vec<_> = shuffled
                .iter()
                .map(|(name, value)| {
                    format!("{space}{}{space}:{}", rewritten(name, bits), rewritten(value, bits))
                })
                .collect();
            format!("{{{}{space}}}", members.join(","))
        }
        b'[' => {
            let elements: Vec<Box<RawValue>> = serde_json::from_str(&text).unwrap();
            let elements: Vec<_> = elements.iter().map(|each| rewritten(each.get(), bits)).collect();
            format!("[{space}{}{space}]", elements.join(&format!("{space},")))
        }
        b'"' => {
            let escaped: String = units(&text).iter().map(|unit| format!("\\u{unit:04X}")).collect();
            match String::from_utf16(&units(&text)) {
                Ok(text) if bits() => quote(&text),
                _ => format!("\"{escaped}\""),
            }
        }
        _ => format!("{space}{text}{space}"),
    }
}

/// What a JSON string means, halves of surrogate pairs included.
fn units(raw: &str) -> Vec<u16> {
    let mut units = Vec::new();
    let mut chars = raw[1..raw.len() - 1].chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next().unwrap() {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).unwrap());
                    continue;
                }
                other => other,
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    units
}

/// An object's members in their order, repeated names too.
struct Members(Vec<(Box<RawValue>, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Names that are almost `targets`, or a little further away.
fn near_targets() -> BoxedStrategy<String> {
    let pieces = select(vec!["", "t", "S", "s", "x", "\u{130}", "\u{17f}", "é", "😀", "\n", "ra", "\u{3a3}"]);
    let change = (0..8_usize, 0..3_usize, pieces, any::<bool>());
    vec(change, 0..3)
        .prop_map(|changes| {
            let mut name: Vec<char> = "targets".chars().collect();
            for (from, removed, piece, capitals) in changes {
                let from = from.min(name.len());
                let to = (from + removed).min(name.len());
                name.splice(from..to, piece.chars());
                if capitals {
                    name.iter_mut().for_each(|c| *c = c.to_ascii_uppercase());
                }
            }
            name.into_iter().collect()
        })
        .boxed()
}

/// Every place in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                places(member, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(elements) => {
            elements
                .iter()
                .enumerate()
                .for_each(|(index, each)| places(each, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// A valid command in which values were replaced, and members and elements added, removed and renamed.
fn changed() -> BoxedStrategy<Value> {
    let change = (any::<prop::sample::Index>(), 0..4_usize, any_name(), any_value());
    (command(), vec(change, 0..4))
        .prop_map(|(command, changes)| {
            // Some free values are numbers and texts that no `Value` can hold.
            let mut entry = serde_json::from_str(&command)
                .unwrap_or_else(|_| json!({ "objectType": "case", "objectId": "1", "targets": ["x"] }));
            for (index, kind, name, new) in changes {
                let mut all = Vec::new();
                places(&entry, "", &mut all);
                let place = entry.pointer_mut(index.get::<String>(&all)).expect("a place");
                match (kind, place) {
                    (0, Value::Object(members)) => {
                        members.remove(&name);
                    }
                    (1 | 2, Value::Object(members)) => {
                        members.insert(name, new);
                    }
                    (1 | 2, Value::Array(elements)) => elements.push(new),
                    (_, place) => *place = new,
                }
            }
            entry
        })
        .boxed()
}

fn validator(schema: Schema) -> Validator {
    jsonschema::draft202012::new(&schema.document(&Limits::default())).expect("a schema")
}

static COMMAND: LazyLock<Validator> = LazyLock::new(|| validator(Schema::Command));
static EVENT: LazyLock<Validator> = LazyLock::new(|| validator(Schema::Event));
static NOTIFICATION: LazyLock<Validator> = LazyLock::new(|| validator(Schema::Notification));
static REJECTION: LazyLock<Validator> = LazyLock::new(|| validator(Schema::Rejection));

/// The command's schema as the AsyncAPI document has it, in the format of draft 7.
static DRAFT_7: LazyLock<Validator> = LazyLock::new(|| {
    let replies = ReplyTopics::default();
    let (commands, notifications, rejections) = ("c", "n", "r");
    let channels =
        Channels { brokers: vec![], secure: false, commands, notifications, rejections, replies: &replies };
    let components = &asyncapi(&channels, &Limits::default())["components"];
    let schema = json!({ "$ref": "#/components/schemas/command", "components": components });
    jsonschema::draft7::options().should_validate_formats(false).build(&schema).expect("a schema")
});

/// Holds the decision on a text against the schemas; `by_text` are the codes that a schema can't know of because reading
/// the text loses what they are about.
fn agree(text: &str, value: &Value, by_text: &[Code]) -> Result<(), TestCaseError> {
    let valid = COMMAND.is_valid(value);
    prop_assert_eq!(valid, DRAFT_7.is_valid(value), "the two formats differ on {}", text);
    match read(&record(text)) {
        Ok((event, _)) => {
            prop_assert!(valid, "accepted, and refused by the schema: {}", text);
            let line = json!({
                "position": 1,
                "id": event.id(),
                "partition": event.coordinates().partition,
                "offset": event.coordinates().offset,
                "timestamp": event.coordinates().timestamp,
                "activity": serde_json::from_str::<Value>(event.json()).unwrap(),
            });
            prop_assert!(EVENT.is_valid(&line), "{}", line);
            for notification in event.notifications("s", &[]) {
                let value = serde_json::from_slice(&notification.record.value.unwrap()).unwrap();
                prop_assert!(NOTIFICATION.is_valid(&value), "{}", value);
            }
        }
        Err(problems) => {
            let told = serde_json::from_str(&problems.to_json()).unwrap();
            prop_assert!(REJECTION.is_valid(&told), "{}", told);
            let excused = |code: &str| {
                let code = *Code::ALL.iter().find(|known| known.as_str() == code).expect("a code");
                beyond(code).is_some() && (by_text.contains(&code) || code == Code::BadDateTime)
            };
            let excused = problems.0.iter().all(|problem| excused(&problem.code));
            prop_assert!(!valid || excused, "rejected, and taken by the schema: {} {}", problems, text);
        }
    }
    Ok(())
}

fn headers() -> BoxedStrategy<Vec<Header>> {
    let names = select(vec![
        "idempotency-key",
        "ce_id",
        "ce_source",
        "ce_specversion",
        "content-type",
        "traceparent",
        "tracestate",
        "x",
    ]);
    let values = prop_oneof![
        vec(any::<u8>(), 0..8),
        select(vec!["1.0", "application/json", "application/cloudevents+json"]).prop_map(|text| text.into())
    ];
    let header = (names, option::of(values))
        .prop_map(|(name, value)| Header { name: name.as_bytes().to_vec().into(), value });
    vec(header, 0..5).boxed()
}

fn any_record() -> BoxedStrategy<Record> {
    let value = option::weighted(
        0.95,
        prop_oneof![
            4 => mutated(),
            2 => command().prop_map(String::into_bytes),
            1 => vec(any::<u8>(), 0..60),
            1 => ("[\\[{\":,]{0,9}", 0..3000_usize).prop_map(|(piece, times)| piece.repeat(times).into_bytes()),
            1 => (0..300_usize).prop_map(|levels| {
                entry(&format!("\"a\":{}1{}", "[{\"b\":".repeat(levels), "}]".repeat(levels))).into_bytes()
            }),
        ],
    );
    let timestamp = prop_oneof![Just(AT.timestamp), any::<i64>()];
    (option::of(vec(any::<u8>(), 0..4)), value, headers(), any::<i32>(), any::<i64>(), timestamp)
        .prop_map(|(key, value, headers, partition, offset, timestamp)| Record {
            coordinates: Coordinates { partition, offset, timestamp },
            key,
            value,
            headers,
        })
        .boxed()
}

#[track_caller]
fn audiences(event: &Event) -> Vec<String> {
    event.targets().into_iter().map(|target| target.audience).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_normal_form_is_a_fixed_point(command in command()) {
        let once = event(command);
        let twice = event(once.json());
        prop_assert_eq!(once.json(), twice.json());
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_structured_event_is_the_entry_that_it_carries(command in command()) {
        let value = format!(r#"{{"data":{command},"type":"t","source":"s","id":"i","specversion":"1.0"}}"#);
        let structured = record_with(&value, &[("content-type", "application/cloudevents+json")]);
        prop_assert_eq!(read(&structured).map(|(event, _)| event), Ok(event(command)));
    }

    #[test]
    fn the_schema_is_what_is_decided(value in changed()) {
        agree(&value.to_string(), &value, &[])?;
    }

    /// Among these are names that stand twice in one object, and what is nested too deep.
    #[test]
    fn the_schema_is_what_is_decided_of_any_text(text in mutated()) {
        if let Ok((text, value)) = str::from_utf8(&text).map(|text| (text, serde_json::from_str(text)))
            && let Ok(value) = value
        {
            agree(text, &value, &[Code::DuplicateProperty, Code::TooManyProblems])?;
        }
    }

    #[test]
    fn the_schema_knows_a_misspelt_audience(name in near_targets()) {
        let value = json!({ "objectType": "case", "objectId": "1", name: ["x"] });
        agree(&value.to_string(), &value, &[])?;
    }

    #[test]
    fn the_schema_knows_a_foreign_audience(name in foreign_audience(), new in any_value()) {
        let value = json!({ "objectType": "case", "objectId": "1", name: new });
        agree(&value.to_string(), &value, &[])?;
    }

    /// What may name an audience and is none of the contract's is never left for everyone to see.
    #[test]
    fn an_audience_is_never_widened(
        command in command(),
        name in prop_oneof![misspelt_targets(), foreign_audience()],
        audience in vec(identity(), 0..3),
    ) {
        let more = format!("{{{}:[{}],{}", quote(&name), audience.join(","), &command.trim()[1..]);
        prop_assert!(read(&record(more.as_str())).is_err(), "{}", more);
    }

    #[test]
    fn a_target_of_everyone_never_has_an_id(public: bool, id in prop_oneof![identity(), free_value()]) {
        let kind = if public { "Public" } else { "Everyone" };
        let read = read(&record(entry(&format!("\"targets\":[{{\"@type\":\"{kind}\",\"targetId\":{id}}}]"))));
        prop_assert_eq!(read.is_ok(), id == "null");
    }

    #[test]
    fn content_is_known_again_however_it_is_written(
        command in command(),
        more in free_value(),
        bits in vec(any::<bool>(), 1..64),
    ) {
        let key = |text: &str| read(&record_with(text, &[("idempotency-key", "k")])).unwrap().1.unwrap();
        let mut bits = bits.iter().cycle();
        let other = rewritten(&command, &mut || *bits.next().unwrap());
        prop_assert_eq!(key(&command).fingerprint, key(&other).fingerprint, "{} {}", command, other);
        // Another value is other content, unless it is the same one.
        let with = |value: &str| format!("{{\"x\":{value},{}", &command.trim()[1..]);
        let (more, again) = (with(&more), with(&rewritten(&more, &mut || *bits.next().unwrap())));
        prop_assert_eq!(key(&more).fingerprint, key(&again).fingerprint, "{} {}", more, again);
        prop_assert_ne!(key(&more).fingerprint, key(&command).fingerprint);
        prop_assert_ne!(key(&more).fingerprint, key(&with("[[7]]")).fingerprint);
    }

    #[test]
    fn free_properties_pass_byte_for_byte(value in free_value()) {
        let command = entry(&format!("\"fr\\u0065e\" : {value} "));
        let expected = format!(",\"fr\\u0065e\":{value}}}");
        prop_assert!(event(command).json().ends_with(&expected));
    }

    #[test]
    fn every_record_gets_the_same_verdict_every_time(record in any_record()) {
        let verdict = decider().read(&record);
        prop_assert_eq!(&verdict, &decider().read(&record.clone()));
        if let Reading::Rejected(problems) = verdict.reading {
            prop_assert!(!problems.0.is_empty());
            let rejection = rejection_record(&record, TOPIC, &problems, usize::MAX);
            prop_assert_eq!(&rejection.value, &record.value);
            prop_assert!(rejection.headers.starts_with(&record.headers));
        }
    }

    #[test]
    fn an_accepted_event_goes_through_the_log_unchanged(record in any_record(), command in command()) {
        let record = Record { value: Some(command.into_bytes()), ..record };
        if let Reading::Valid { event, .. } = decider().read(&record).reading {
            let bits = decider().topic_bits();
            let again = Event::from_log(bits, record.coordinates, event.json().to_owned()).unwrap();
            prop_assert_eq!(&again, &event);
            let from_log: Vec<_> = again.notifications("s", &record.headers).collect();
            let decided: Vec<_> = event.notifications("s", &record.headers).collect();
            prop_assert_eq!(from_log, decided);
        }
    }

    /// What is left of another in the memory that is used again does not show, whatever that one was.
    #[test]
    fn a_notification_made_of_another_is_as_if_made_anew(
        commands in vec(command(), 1..6),
        records in vec(any_record(), 6)
    ) {
        let mut reused = Notification::default();
        for (command, record) in commands.into_iter().zip(records) {
            let event = event(command);
            let mut again = event.notifications("s", &record.headers);
            for made_anew in event.notifications("s", &record.headers) {
                prop_assert!(again.next_into(&mut reused));
                prop_assert_eq!(&reused, &made_anew);
            }
            prop_assert!(!again.next_into(&mut reused));
        }
    }

    #[test]
    fn notifications_tell_one_audience_and_not_the_others(command in command()) {
        let event = event(command);
        let notifications: Vec<_> = event.notifications("s", &[]).collect();
        let notified: Vec<_> = event.targets().into_iter().enumerate().filter(|(_, target)| target.notify).collect();
        prop_assert_eq!(event.notification_count(), notifications.len());
        prop_assert_eq!(notified.len(), notifications.len());
        for ((place, target), notification) in notified.iter().zip(&notifications) {
            prop_assert_eq!(&notification.id, &format!("{}/{place}", event.id()));
            prop_assert_eq!(text(notification.record.key.as_deref().unwrap()), &target.audience);
            let value = text(notification.record.value.as_deref().unwrap());
            let parsed: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(value).unwrap();
            prop_assert_eq!(parsed.keys().map(String::as_str).collect::<Vec<_>>(), ["activity", "activityId", "id", "target"]);
            prop_assert!(!parsed["target"].get().contains("\"notify\":"));
            let activity: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(parsed["activity"].get()).unwrap();
            prop_assert!(!activity.contains_key("targets"));
            prop_assert!(activity.contains_key("objectId"));
        }
    }

    #[test]
    fn no_audience_is_there_twice_and_none_is_lost(targets in vec(target(), 1..30)) {
        let alone: BTreeSet<_> = targets.iter().flat_map(|target| audiences(&event(entry(&format!("\"targets\":[{target}]"))))).collect();
        let notified = |event: &Event| -> BTreeSet<String> {
            event.targets().into_iter().filter(|target| target.notify).map(|target| target.audience).collect()
        };
        let notified_alone: BTreeSet<_> = targets.iter().flat_map(|target| notified(&event(entry(&format!("\"targets\":[{target}]"))))).collect();
        let together = event(entry(&format!("\"targets\":[{}]", targets.join(","))));
        prop_assert_eq!(audiences(&together).len(), alone.len());
        prop_assert_eq!(audiences(&together).into_iter().collect::<BTreeSet<_>>(), alone);
        prop_assert_eq!(notified(&together), notified_alone);
    }

    #[test]
    fn problems_stay_within_their_bounds(
        bad in vec(select(vec!["\"\"", "7", "{\"x\":1}", "{\"notify\":\"\\u0000\"}", "\"\\u0001\"", "{\"\\u0002\":2}"]), 1..400),
        name in "[\\u0000-\\u007f]{0,300}",
        problems in 1..150_usize,
        problem_bytes in 4_000..70_000_usize,
    ) {
        let limits = Limits { problems, problem_bytes, ..Limits::default() };
        let value = format!("{{{name}:[],\"targets\":[{}]}}", bad.join(","), name = quote(&name));
        let Reading::Rejected(found) = Decider::new(TOPIC, limits).read(&record(value)).reading else {
            return Err(TestCaseError::fail("accepted"));
        };
        prop_assert!(found.0.len() <= problems + 1);
        prop_assert!(found.to_json().len() <= problem_bytes);
        let last = found.0.iter().position(|problem| problem.code == "too_many_problems");
        prop_assert!(last.is_none_or(|last| last + 1 == found.0.len()));
    }
}

/// As many headers as a record can have, nearly all with another name, or each twice where it may be there once.
#[test]
fn many_different_headers_are_decided_quickly() {
    let names =
        |prefix: &'static str, of: usize| (0..100_000).map(move |number| format!("{prefix}{}", number % of));
    let some = names("header-", 100_000);
    let attributes = names("ce_", 100_000);
    let twice = names("ce_", 50_000);
    let start = std::time::Instant::now();
    for (names, is_accepted) in
        [(some.collect::<Vec<_>>(), true), (attributes.collect(), true), (twice.collect(), false)]
    {
        let headers = names.into_iter().map(|name| Header::new(name, "x")).collect();
        let record = Record { headers, ..record(entry("\"content\":\"x\"")) };
        let reading = decider().read(&record).reading;
        assert_eq!(matches!(reading, Reading::Valid { .. }), is_accepted);
    }
    // Compared each with each it takes minutes.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// Whatever the size, no command may hold a partition up.
#[test]
fn large_and_hostile_commands_are_decided_quickly() {
    let members: Vec<_> = (0..40_000).map(|index| format!("\"k{index}\":0")).collect();
    let members = members.join(",");
    let names = "\"x\":1,".repeat(70_000);
    let hostile = [
        entry(&members),
        entry(&format!("{names}\"x\":1")),
        entry(&format!("\"actor\":{{{members}}}")),
        entry(&format!("\"targets\":[{{\"targetId\":\"x\",{members}}}]")),
        format!("{{{members}}}"),
        entry(&format!("\"targets\":[{}]", vec!["{}"; 100_000].join(","))),
        entry(&format!(
            "\"targets\":[{}]",
            (0..1000).map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",")
        )),
        entry(&format!("\"{}\":1", "targets".repeat(60_000))),
        entry(&format!("\"content\":\"{}\"", "\\u0001".repeat(80_000))),
        "[".repeat(500_000),
    ];
    let start = std::time::Instant::now();
    for value in hostile {
        let _ = decider().read(&record(value));
    }
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
