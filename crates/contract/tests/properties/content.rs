//! Content is kept, and recognized however it is written.

use std::fmt;

use proptest::{collection::vec, prelude::*};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use testing::contract::*;

use crate::strategies::*;

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn normalizing_twice_changes_nothing(command in command()) {
        let once = event(command);
        let twice = event(once.json());
        prop_assert_eq!(once.json(), twice.json());
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_structured_event_is_decided_as_its_entry(command in command()) {
        let value = format!(r#"{{"data":{command},"type":"t","source":"s","id":"i","specversion":"1.0"}}"#);
        let structured = record_with(&value, &[("content-type", "application/cloudevents+json")]);
        prop_assert_eq!(read(&structured).map(|(event, _)| event), Ok(event(command)));
    }

    #[test]
    fn recognizes_content_however_it_is_written(
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
    fn keeps_free_properties_byte_for_byte(value in free_value()) {
        let command = entry(&format!("\"fr\\u0065e\" : {value} "));
        let expected = format!(",\"fr\\u0065e\":{value}}}");
        prop_assert!(event(command).json().ends_with(&expected));
    }
}
