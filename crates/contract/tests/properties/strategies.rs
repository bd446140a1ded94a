//! Strategies: valid, mutated and arbitrary commands. They are boxed because types with that many parts overflow a
//! test thread's stack.

use activity_stream_contract::{Coordinates, Header, Record};
use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};
use testing::contract::*;

/// Texts that a contract field takes, as JSON, some of them with escapes.
pub fn id() -> BoxedStrategy<String> {
    let text = prop_oneof![
        4 => "[a-cé/:%]{1,3}",
        1 => "[^\\p{Cc}]{1,20}",
    ];
    (text, any::<bool>())
        .prop_map(|(text, escaped)| if escaped { escape(&text) } else { quote(&text) })
        .boxed()
}

pub fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

pub fn escape(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

/// Any JSON, with whitespace, escapes and odd numbers.
pub fn free_value() -> BoxedStrategy<String> {
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

pub fn object(members: Vec<Option<(&'static str, String)>>) -> String {
    let members: Vec<_> =
        members.into_iter().flatten().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
    format!("{{ {} }}", members.join(" ,\n"))
}

pub fn identity() -> BoxedStrategy<String> {
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

pub fn target() -> BoxedStrategy<String> {
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

pub fn attachment() -> BoxedStrategy<String> {
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
pub fn command() -> BoxedStrategy<String> {
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
pub fn mutated() -> BoxedStrategy<Vec<u8>> {
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
pub fn any_value() -> BoxedStrategy<Value> {
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

pub fn any_name() -> BoxedStrategy<String> {
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
pub fn misspelt_targets() -> BoxedStrategy<String> {
    near_targets()
        .prop_filter("as far away", |name| {
            name != "targets" && strsim::osa_distance(&name.to_lowercase(), "targets") <= 1
        })
        .boxed()
}

/// Names by which other vocabularies name an audience, and `to`, in any case.
pub fn foreign_audience() -> BoxedStrategy<String> {
    let names =
        select(vec!["cc", "bto", "bcc", "audience", "audiences", "recipient", "recipients", "notify", "to"]);
    (names, vec(any::<bool>(), 10))
        .prop_map(|(name, capitals)| {
            let in_case = |(c, capital): (char, bool)| if capital { c.to_ascii_uppercase() } else { c };
            name.chars().zip(capitals).map(in_case).collect()
        })
        .boxed()
}

/// Names that are almost `targets`, or a little further away.
pub fn near_targets() -> BoxedStrategy<String> {
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
pub fn places(value: &Value, at: &str, found: &mut Vec<String>) {
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
pub fn changed() -> BoxedStrategy<Value> {
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

pub fn headers() -> BoxedStrategy<Vec<Header>> {
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
    let header = (names, option::of(values)).prop_map(|(name, value): (&'static str, Option<Vec<u8>>)| {
        Header { name: name.into(), value: value.map(Bytes::from) }
    });
    vec(header, 0..5).boxed()
}

pub fn any_record() -> BoxedStrategy<Record> {
    let value = option::weighted(
        0.95,
        prop_oneof![
            4 => mutated(),
            2 => command().prop_map(String::into_bytes),
            1 => vec(any::<u8>(), 0..60),
            1 => ("[\\[{\":,]{0,9}", 0..3000_usize).prop_map(|(piece, times)| piece.repeat(times).into()),
            1 => (0..300_usize).prop_map(|levels| {
                entry(&format!("\"a\":{}1{}", "[{\"b\":".repeat(levels), "}]".repeat(levels))).into_bytes()
            }),
        ],
    );
    let timestamp = prop_oneof![Just(AT.timestamp), any::<i64>()];
    (option::of(vec(any::<u8>(), 0..4)), value, headers(), any::<i32>(), any::<i64>(), timestamp)
        .prop_map(|(key, value, headers, partition, offset, timestamp)| Record {
            coordinates: Coordinates { partition, offset, timestamp },
            key: key.map(Bytes::from),
            value: value.map(Bytes::from),
            headers,
        })
        .boxed()
}
