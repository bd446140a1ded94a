//! Schemas and decisions agree.

use std::sync::LazyLock;

use activity_stream_contract::{Channels, Code, Limits, ReplyTopics, Schema, asyncapi, outside_schema};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};
use testing::contract::*;

use crate::strategies::*;

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
            let rejection = serde_json::from_str(&problems.to_json()).unwrap();
            prop_assert!(REJECTION.is_valid(&rejection), "{}", rejection);
            let excused = |code: &str| {
                let code = *Code::ALL.iter().find(|known| known.as_str() == code).expect("a code");
                outside_schema(code).is_some() && (by_text.contains(&code) || code == Code::BadDateTime)
            };
            let excused = problems.0.iter().all(|problem| excused(&problem.code));
            prop_assert!(!valid || excused, "rejected, and taken by the schema: {} {}", problems, text);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn schema_and_decision_agree(value in changed()) {
        agree(&value.to_string(), &value, &[])?;
    }

    /// Among these are names that stand twice in one object, and what is nested too deep.
    #[test]
    fn schema_and_decision_agree_on_mutated_text(text in mutated()) {
        if let Ok((text, value)) = str::from_utf8(&text).map(|text| (text, serde_json::from_str(text)))
            && let Ok(value) = value
        {
            agree(text, &value, &[Code::DuplicateProperty, Code::TooManyProblems])?;
        }
    }

    #[test]
    fn schema_and_decision_agree_on_misspelt_audiences(name in near_targets()) {
        let value = json!({ "objectType": "case", "objectId": "1", name: ["x"] });
        agree(&value.to_string(), &value, &[])?;
    }

    #[test]
    fn schema_and_decision_agree_on_foreign_audiences(name in foreign_audience(), new in any_value()) {
        let value = json!({ "objectType": "case", "objectId": "1", name: new });
        agree(&value.to_string(), &value, &[])?;
    }
}
