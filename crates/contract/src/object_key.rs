//! The record key that keeps one object's activities in order.

use std::borrow::Cow;

use serde::Deserialize;

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(rename = "objectType", borrow)]
    object_type: Cow<'a, str>,
    #[serde(rename = "objectId", borrow)]
    object_id: Cow<'a, str>,
}

/// `objectType/objectId` of a command's value; `None` where it does not name an object. A wish of the
/// producer's, so nothing else of the command is judged.
#[must_use]
pub fn object_key(value: &[u8]) -> Option<String> {
    let Object { object_type, object_id } = serde_json::from_slice(value).ok()?;
    (!object_type.is_empty() && !object_id.is_empty()).then(|| format!("{object_type}/{object_id}"))
}

#[cfg(test)]
mod tests {
    use super::object_key;

    #[test]
    fn the_key_names_the_object_where_there_is_one() {
        let key = |text: &str| object_key(text.as_bytes());
        assert_eq!(
            key(r#"{"objectId":"4\u0032","objectType":"customer","x":[1]}"#).as_deref(),
            Some("customer/42")
        );
        assert_eq!(key(r#"{"objectId":"42"}"#), None);
        assert_eq!(key(r#"{"objectId":"","objectType":"customer"}"#), None);
        assert_eq!(key(r#"{"objectId":42,"objectType":"customer"}"#), None);
        assert_eq!(key("[]"), None);
        assert_eq!(key("no"), None);
    }
}
