//! The contract for machines: the documents in `config/` are those that the program prints, follow the rules of their
//! formats, and agree with decisions about sample commands. (`crates/contract/tests/properties/schemas.rs` tests this for
//! any command.)
//!
//! `SCHEMA_UPDATE=1 cargo test --test schema` regenerates the stored documents.

use std::{fs, path::PathBuf};

use activity_stream::{
    cli::schema::{self, Document},
    config::{Config, Override, Sources},
};
use clap::ValueEnum;
use contract::{Code, Decision, Header, Limits, Problems, Reply, Schema, outside_schema, rejection_record};
use jsonschema::Validator;
use serde_json::{Value, json};
use testing::contract::*;

fn file_of(document: Document) -> PathBuf {
    let name = document.to_possible_value().expect("a name").get_name().to_owned();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config");
    if document == Document::Asyncapi {
        folder.join("asyncapi.json")
    } else {
        folder.join("schema").join(name + ".json")
    }
}

fn printed(document: Document) -> String {
    schema::text(document, &Config::default()).expect("a document")
}

fn asyncapi() -> Value {
    serde_json::from_str(&printed(Document::Asyncapi)).expect("JSON")
}

#[test]
fn the_stored_documents_equal_the_printed_ones() {
    for document in Document::value_variants() {
        let (file, printed) = (file_of(*document), printed(*document));
        if std::env::var_os("SCHEMA_UPDATE").is_some() {
            fs::write(&file, &printed).expect("written");
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            kept == printed,
            "{} is not what the program prints; update it with SCHEMA_UPDATE=1 cargo test --test schema",
            file.display()
        );
    }
    let files = fs::read_dir(file_of(Document::Schema(Schema::Command)).parent().expect("a folder"))
        .expect("config/schema");
    assert_eq!(files.count(), Schema::ALL.len(), "a file in config/schema is no schema's");
}

#[test]
fn schemas_are_schemas() {
    for schema in Schema::ALL {
        let document = schema.document(&Limits::default());
        jsonschema::draft202012::meta::validate(&document)
            .unwrap_or_else(|error| panic!("{}: {error}", schema.name()));
    }
    let asyncapi = asyncapi();
    for (name, schema) in asyncapi["components"]["schemas"].as_object().expect("schemas") {
        jsonschema::draft7::meta::validate(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// The schema is AsyncAPI's own: see `tests/asyncapi/README.md`.
#[test]
fn the_asyncapi_document_is_one() {
    let official: Value =
        serde_json::from_str(include_str!("asyncapi/3.0.0-without-$id.json")).expect("JSON");
    let official = jsonschema::draft7::new(&official).expect("a schema");
    let document = asyncapi();
    let errors: Vec<_> =
        official.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut wrong = document;
    wrong["channels"]["commands"]["adress"] = json!("x");
    assert!(!official.is_valid(&wrong));
}

/// A reference that leads nowhere is no error of a document by the official schema.
#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(to)) = members.get("$ref") {
                    found.push(to.clone());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(elements) => elements.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut count = 0;
    for document in Document::value_variants() {
        let document: Value = serde_json::from_str(&printed(*document)).expect("JSON");
        let mut found = Vec::new();
        references(&document, &mut found);
        for to in &found {
            let pointer = to.strip_prefix('#').expect("a place in the same document");
            assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
        }
        count += found.len();
    }
    assert!(count > 40, "only {count} found");
}

const TLS: bool = cfg!(feature = "ssl");

#[test]
fn the_configuration_counts() {
    let set = [
        ("topics.commands", "in"),
        ("topics.replies", "a,b"),
        ("limits.text_characters", "7"),
        ("kafka.bootstrap_servers", "one:1,two:2"),
        // Without TLS built in, the other one is refused.
        ("kafka.properties.security.protocol", if TLS { "sasl_ssl" } else { "sasl_plaintext" }),
    ];
    let overrides = set.map(|(key, value)| Override {
        key: key.to_owned(),
        value: value.to_owned(),
        flag: "--set".to_owned(),
    });
    let config =
        Config::load(Sources { overrides: overrides.into(), ..Sources::default() }).expect("a configuration");
    let of = |document| -> Value {
        serde_json::from_str(&schema::text(document, &config).expect("a document")).expect("JSON")
    };
    assert_eq!(of(Document::Schema(Schema::Command))["properties"]["objectId"]["maxLength"], 7);
    let asyncapi = of(Document::Asyncapi);
    assert_eq!(asyncapi["channels"]["commands"]["address"], "in");
    assert!(asyncapi["channels"]["replies"]["description"].as_str().expect("text").contains("`a`, `b`"));
    let protocol = if TLS { "kafka-secure" } else { "kafka" };
    assert_eq!(asyncapi["servers"]["kafka-2"], json!({ "host": "two:2", "protocol": protocol }));
}

fn validator(schema: Schema) -> Validator {
    jsonschema::draft202012::new(&schema.document(&Limits::default())).expect("a schema")
}

/// Validators of draft 7, and some of 2020-12, refuse what is not of a format; others only name the format.
fn with_formats() -> Validator {
    let document = Schema::Command.document(&Limits::default());
    jsonschema::draft202012::options().should_validate_formats(true).build(&document).expect("a schema")
}

/// Rules of the contract, each with an entry that keeps it (`true`) or breaks it.
const RULES: &[(&str, bool)] = &[
    (r#""@type":"update""#, true),
    (r#""type":"update""#, true),
    (r#""@type":"a","type":"b""#, false),
    (r#""@type":null"#, true),
    (r#""@type":"""#, false),
    (r#""@type":"a\u0085""#, false),
    (r#""@type":7"#, false),
    (r#""actor":"a""#, true),
    (r#""actor":null"#, true),
    (r#""actor":[]"#, false),
    (r#""actor":{"id":"a","domain":null,"name":"","type":"User"}"#, true),
    (r#""actor":{"Id":"a","Domain":"d","Name":"n","Type":"Group"}"#, true),
    (r#""actor":{"id":"a","Id":"a"}"#, false),
    (r#""actor":{"id":null}"#, false),
    (r#""actor":{"name":"a"}"#, false),
    (r#""actor":{"id":"a","type":"user"}"#, false),
    (r#""actor":{"id":"a","mail":"b"}"#, false),
    (r#""publishedAt":"2026-11-24t01:20:00.1234567+01:00""#, true),
    (r#""publishedAt":"2016-12-31T23:59:60Z""#, true),
    (r#""publishedAt":null"#, true),
    (r#""publishedAt":"2026-11-24T01:20:00""#, false),
    (r#""publishedAt":"2026-11-24 01:20:00Z""#, false),
    (r#""publishedAt":"2026-11-24T01:20:00.1234567890Z""#, false),
    (r#""publishedAt":1795478400"#, false),
    (r#""targets":null"#, false),
    (r#""targets":[]"#, false),
    (r#""targets":"a""#, false),
    (r#""targets":[null]"#, false),
    (r#""targets":["a",{"id":"b"},{"Id":"c","Type":"Group"}]"#, true),
    (r#""targets":[{"id":"a","type":"User"}]"#, true),
    (r#""targets":[{"id":"a","type":"Everyone"}]"#, false),
    (r#""targets":[{"id":"a","notify":true}]"#, false),
    (r#""targets":[{}]"#, false),
    (r#""targets":[{"notify":true}]"#, false),
    (r#""targets":[{"targetId":"a","notify":null}]"#, true),
    (r#""targets":[{"targetId":"a","notify":"yes"}]"#, false),
    (r#""targets":[{"targetId":"a","notfy":true}]"#, false),
    (r#""targets":[{"@type":null,"targetId":{"id":"a"}}]"#, true),
    (r#""targets":[{"@type":"Identity"}]"#, false),
    (r#""targets":[{"@type":"Identity","targetId":null}]"#, false),
    (r#""targets":[{"@type":null}]"#, false),
    (r#""targets":[{"type":"Everyone","targetId":null,"name":null}]"#, true),
    (r#""targets":[{"type":"Everyone","targetId":[1]}]"#, false),
    (r#""targets":[{"type":"Public","targetId":"x"}]"#, false),
    (r#""targets":[{"targetId":"x","name":""}]"#, true),
    (r#""targets":[{"@type":"Identity","targetId":"x","name":"X","notify":true}]"#, true),
    (r#""targets":[{"targetId":"x","name":"\n"}]"#, false),
    (r#""targets":[{"targetId":"x","name":7}]"#, false),
    (r#""targets":[{"targetId":"x","Name":"X"}]"#, false),
    (r#""targets":[{"targetId":{"id":"x","name":"X"},"name":null}]"#, true),
    (r#""targets":[{"targetId":{"id":"x"},"name":"X"}]"#, false),
    (r#""targets":[{"@type":"Members","targetId":"c","name":"X"}]"#, false),
    (r#""targets":[{"@type":"Public","name":"X"}]"#, false),
    (r#""targets":[{"@type":"Public","type":"Public"}]"#, false),
    (r#""targets":[{"@type":"Public"},{"@type":"Members"},{"type":"Members","targetId":"c"}]"#, true),
    (r#""targets":[{"@type":"Members","targetId":null}]"#, true),
    (r#""targets":[{"@type":"Members","targetId":{"id":"c"}}]"#, false),
    (r#""targets":[{"@type":"Nobody","targetId":"a"}]"#, false),
    (r#""attachments":[]"#, true),
    (r#""attachments":null"#, true),
    (r#""attachment":["a",{"id":"b","@type":"link","type":7}]"#, true),
    (r#""attachments":[],"attachment":[]"#, false),
    (r#""attachments":[{"id":""}]"#, false),
    (r#""attachments":[{"@type":"file"}]"#, false),
    (r#""attachments":[{"id":"a","@type":"image"}]"#, false),
    (r#""attachments":"a""#, false),
    (r#""content":"\u0001""#, true),
    (r#""content":null"#, true),
    (r#""content":7"#, false),
    (r#""Targets":["a"]"#, false),
    (r#""target":["a"]"#, false),
    (r#""tragets":["a"]"#, false),
    (r#""TARGETSS":["a"]"#, false),
    (r#""cc":["a"]"#, false),
    (r#""Bcc":null"#, false),
    (r#""NOTIFY":true"#, false),
    (r#""Audience":"a""#, false),
    (r#""recipients":{}"#, false),
    (r#""To":["a"]"#, false),
    (r#""to":{"id":"a"}"#, false),
    (r#""from":"open","to":"closed","TO":null,"tO":7"#, true),
    (r#""ccs":["a"],"\u01b0cc":["a"],"tofu":["a"],"recipientes":7"#, true),
    (r#""published":"2016-12-31T23:59:60Z""#, true),
    (r#""published":"2026-11-24T01:20:00""#, false),
    (r#""published":null,"publishedAt":null"#, false),
    (r#""targetId":"a","trgts":"a","Content":7"#, true),
    (r#""targets\u0130":7"#, true),
    (r#""targe\u0130s":7"#, true),
    (r#""targe\ud83d\ude00s":7"#, false),
];

#[test]
fn schema_and_decision_keep_the_same_rules() {
    let (command, with_formats) = (validator(Schema::Command), with_formats());
    for &(more, kept) in RULES {
        let value = entry(more);
        let parsed: Value = serde_json::from_str(&value).expect("JSON");
        assert_eq!(with_formats.is_valid(&parsed), kept, "the schema with formats, of {value}");
        assert_eq!(command.is_valid(&parsed), kept, "the schema, of {value}");
        assert_eq!(read(&record(value.as_str())).is_ok(), kept, "the decision, of {value}");
    }
    for (text, kept) in [
        (r#"{"objectType":"case"}"#, false),
        (r#"{"objectId":"1"}"#, false),
        (r#"{"objectType":null,"objectId":"1"}"#, false),
        ("[]", false),
        ("null", false),
    ] {
        assert_eq!(command.is_valid(&serde_json::from_str(text).expect("JSON")), kept, "{text}");
        assert_eq!(read(&record(text)).is_ok(), kept, "{text}");
    }
}

#[test]
fn counts_and_lengths_are_those_of_the_limits() {
    let limits = Limits { text_characters: 3, targets: 2, attachments: 1, ..Limits::default() };
    let command = jsonschema::draft202012::new(&Schema::Command.document(&limits)).expect("a schema");
    let decider = contract::Decider::new(TOPIC, limits);
    for (more, kept) in [
        (r#""actor":"ééé""#, true),
        (r#""actor":"éééé""#, false),
        (r#""actor":"😀😀😀""#, true),
        (r#""targets":["a","b"]"#, true),
        (r#""targets":["a","a","a"]"#, false),
        (r#""attachments":["a"]"#, true),
        (r#""attachments":["a","a"]"#, false),
    ] {
        let value = format!(r#"{{"objectType":"t","objectId":"1",{more}}}"#);
        assert_eq!(command.is_valid(&serde_json::from_str(&value).expect("JSON")), kept, "{value}");
        assert_eq!(read_with(&decider, &record(value.as_str())).is_ok(), kept, "{value}");
    }
}

/// What docs/producing.md shows as accepted or rejected is so by the schema too; none of it is beyond a schema.
#[test]
fn examples_are_as_they_say() {
    let command = validator(Schema::Command);
    for (name, call) in CALLS {
        assert!(command.is_valid(&serde_json::from_str(call).expect("JSON")), "{name}");
    }
    let page = include_str!("../docs/producing.md");
    let mut seen = [0, 0];
    for (kind, block) in page.split("```json ").skip(1).filter_map(|rest| rest.split_once('\n')) {
        let block = block.split("\n```").next().expect("an end");
        let accepted = match kind {
            "accepted" => true,
            "rejected" => false,
            _ => continue,
        };
        assert_eq!(command.is_valid(&serde_json::from_str(block).expect("JSON")), accepted, "{block}");
        seen[usize::from(accepted)] += 1;
    }
    assert!(seen.iter().all(|seen| *seen > 1), "{seen:?}");
}

#[test]
fn the_schema_lists_the_rules_outside_it() {
    let document = Schema::Command.document(&Limits::default());
    let description = document["description"].as_str().expect("text");
    for code in Code::ALL {
        let mut words = description.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        assert_eq!(words.any(|word| word == code.as_str()), outside_schema(*code).is_some(), "{code}");
    }
}

#[test]
fn replies_and_problems_satisfy_their_schemas() {
    let [rejection, reply] = [Schema::Rejection, Schema::Reply].map(validator);
    let problems = read(&record(entry(r#""targets":[]"#))).expect_err("accepted");
    let id = event(entry("")).id();
    let written =
        [Reply::Accepted { id }, Reply::Duplicate { id }, Reply::Rejected { problems: problems.clone() }];
    for each in &written {
        let value: Value = serde_json::from_str(&each.to_json()).expect("JSON");
        assert!(reply.is_valid(&value), "{value}");
        let mut other = value;
        other["status"] = json!("lost");
        assert!(!reply.is_valid(&other), "{other}");
    }
    assert!(rejection.is_valid(&serde_json::from_str(&problems.to_json()).expect("JSON")));
    for code in Code::ALL {
        let problems = Problems::one(*code, "x");
        assert!(rejection.is_valid(&serde_json::from_str(&problems.to_json()).expect("JSON")), "{code}");
    }
    for wrong in [json!([]), json!([{ "pointer": "", "code": "other", "message": "" }])] {
        assert!(!rejection.is_valid(&wrong), "{wrong}");
    }
}

/// As an object of texts, which is what AsyncAPI takes headers for.
fn as_object(headers: &[Header]) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers
        .iter()
        .map(|header| (text(&header.name), text(header.value.as_deref().expect("a value")).into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn headers_of_records_are_those_of_the_asyncapi_document() {
    let document = asyncapi();
    let check = |message: &str, headers: &[Header]| {
        let schema = &document["components"]["messages"][message]["headers"];
        let headers = as_object(headers);
        let known = schema["properties"].as_object().expect("properties");
        for name in headers.as_object().expect("headers").keys() {
            assert!(known.contains_key(name), "{message}: {name}");
        }
        assert!(
            jsonschema::draft7::new(schema).expect("a schema").is_valid(&headers),
            "{message}: {headers}"
        );
    };
    let given = [
        ("traceparent", "t"),
        ("tracestate", "s"),
        ("kafka_replyTopic", "answers"),
        ("kafka_correlationId", "c"),
    ];
    let command = record_with(CALLS[2].1, &given);
    let (event, _) = read_with(&answering(), &command).expect("accepted");
    check("command", &command.headers);
    check("notification", &event.notifications("s", &command.headers).next().expect("one").record.headers);
    let reply = answering().reply_topics().reply(&command, &Decision::Accepted(event)).expect("a reply");
    check("reply", &reply.record.headers);
    let bad = record(entry(r#""targets":[]"#));
    let problems = read(&bad).expect_err("accepted");
    check("rejection", &rejection_record(&bad, TOPIC, &problems, usize::MAX).headers);
    check("rejection", &rejection_record(&bad, TOPIC, &problems, 600).headers);
}
