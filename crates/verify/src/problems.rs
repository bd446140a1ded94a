//! Reads problems as they are compared: without their messages, which any release may reword.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The parts of a problem that the contract keeps stable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProblemKey<'a> {
    pub(crate) pointer: Cow<'a, str>,
    pub(crate) code: Cow<'a, str>,
}

/// `None` if the text is anything but a JSON array of problems.
pub(crate) fn problem_keys(json: &[u8]) -> Option<Vec<ProblemKey<'_>>> {
    serde_json::from_slice(json).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for ProblemKey<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Accepts objects only: a derived `Deserialize` accepts arrays as well.
struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = ProblemKey<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a problem")
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        let Members { pointer, code, message: AnyText } =
            Members::deserialize(MapAccessDeserializer::new(object))?;
        Ok(ProblemKey { pointer, code })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow)]
    pointer: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
    message: AnyText,
}

/// A string that is checked and not kept.
struct AnyText;

impl<'de> Deserialize<'de> for AnyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyTextVisitor)
    }
}

struct AnyTextVisitor;

impl Visitor<'_> for AnyTextVisitor {
    type Value = AnyText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<AnyText, E> {
        Ok(AnyText)
    }
}

#[cfg(test)]
mod tests {
    use contract::{Code, Problems};

    use super::*;

    #[test]
    fn reads_pointers_and_codes_in_their_order() {
        let mut problems = Problems::one(Code::Tombstone, "a \"word\"\n");
        problems.0.push(problems.0[0].clone());
        problems.0[1].pointer = "/a\"b".into();
        let json = problems.to_json();
        let keys = problem_keys(json.as_bytes()).unwrap();
        let read: Vec<_> = keys.iter().map(|key| (&*key.pointer, &*key.code)).collect();
        assert_eq!(read, [("", "tombstone"), ("/a\"b", "tombstone")]);
        assert!(matches!(keys[0].code, Cow::Borrowed(_)));
    }

    #[test]
    fn reads_nothing_but_problems() {
        let others = [
            "",
            "{}",
            "null",
            r#"[["","tombstone","m"]]"#,
            r#"[{"pointer":"","code":"tombstone"}]"#,
            r#"[{"pointer":"","code":"tombstone","message":1}]"#,
            r#"[{"pointer":"","code":"tombstone","message":null}]"#,
            r#"[{"pointer":"","code":"tombstone","message":"\ud800"}]"#,
            r#"[{"pointer":"","code":"tombstone","message":"m","more":1}]"#,
            r#"[{"pointer":"","code":"tombstone","message":"m","message":"m"}]"#,
            r#"[{"pointer":"","code":"tombstone","message":"m"}"#,
            r#"[{"pointer":"","code":"tombstone","message":"m"}] []"#,
        ];
        for json in others {
            assert_eq!(problem_keys(json.as_bytes()), None, "{json}");
        }
        assert_eq!(problem_keys(b"[{\"pointer\":\"\",\"code\":\"c\",\"message\":\"\xff\"}]"), None);
    }
}
