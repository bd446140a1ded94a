//! Commands of all kinds: every twentieth is a special one, and most of those are rejected.

use super::{
    subject::Promise,
    support::{self, Command},
};

/// A command that no generator of `support` makes.
#[derive(Debug, Clone)]
pub struct Mixed {
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Option<&'static [u8]>)>,
}

/// Where the key of a command begins with one, only who keeps the promise is compared.
const PREFIXES: [(Promise, &str); 2] =
    [(Promise::RepeatedNames, "repeated-names/"), (Promise::Surrogates, "surrogates/")];

/// What has to be kept for this command's outcome to be that of the contract.
pub fn needs(key: &[u8]) -> Option<Promise> {
    PREFIXES.iter().find(|(_, prefix)| key.starts_with(prefix.as_bytes())).map(|(promise, _)| *promise)
}

pub fn mixed(number: u64) -> Mixed {
    let ordinary = |Command { key, value, .. }| Mixed {
        key: Some(key),
        value: Some(value.into()),
        headers: headers(number),
    };
    match number % 100 {
        place if place % 20 == 7 => special(number),
        1 | 51 => ordinary(support::bad(number)),
        2 | 22 | 42 | 62 => ordinary(support::small(number)),
        3 | 23 | 43 | 63 => ordinary(support::usual(number)),
        4 => ordinary(support::large(number)),
        _ => ordinary(support::varied(number)),
    }
}

/// Some that are passed on, some without a value, and one that means nothing.
fn headers(number: u64) -> Vec<(&'static str, Option<&'static [u8]>)> {
    const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    match number % 8 {
        0 => vec![("traceparent", Some(PARENT)), ("tracestate", Some(b"a=1"))],
        1 => vec![("traceparent", Some(PARENT)), ("tracestate", Some(b""))],
        2 => vec![("x", Some(b"y"))],
        _ => Vec::new(),
    }
}

fn special(number: u64) -> Mixed {
    let index = (number / 20) as usize;
    let specials = SPECIAL.len();
    // Each in turn; a few are not text that could stand in the list.
    let (prefix, value) = match index % (specials + 8) {
        place if place < specials => SPECIAL[place],
        place => return built(place - specials, number),
    };
    let key = (!index.is_multiple_of(11) || !prefix.is_empty()).then(|| format!("{prefix}{number}"));
    Mixed { key, value: Some(value.into()), headers: headers(number) }
}

fn built(place: usize, number: u64) -> Mixed {
    let target = |index| format!(r#"{{"targetId":"user-{index}"}}"#);
    let targets = |count: u64| (0..count).map(target).collect::<Vec<_>>().join(",");
    let repeated = |text: &str, count| vec![text; count].join(",");
    let value = match place {
        0 => None,
        1 => Some(b"{\"objectType\":\"case\",\"objectId\":\"\xff\"}".to_vec()),
        2 => Some(format!(r#"{{"objectType":"case","objectId":"7","targets":[{}]}}"#, targets(1001)).into()),
        3 => Some(
            format!(r#"{{"objectType":"case","objectId":"7","attachments":[{}]}}"#, repeated("\"f\"", 101))
                .into(),
        ),
        4 => Some(format!(r#"{{"objectType":"case","objectId":"{}"}}"#, "ä".repeat(513)).into()),
        5 => Some(
            format!(r#"{{"objectType":"case","objectId":"7","deep":{}{}}}"#, "[".repeat(64), "]".repeat(64))
                .into(),
        ),
        6 => Some(
            format!(r#"{{"objectType":"case","objectId":"7","content":"{}"}}"#, "x".repeat(512 << 10)).into(),
        ),
        // As long, as deep and as many as allowed.
        _ => Some(
            format!(
                r#"{{"objectType":"case","objectId":"{}","deep":{}{},"targets":[{}]}}"#,
                "ä".repeat(512),
                "[".repeat(63),
                "]".repeat(63),
                targets(1000)
            )
            .into(),
        ),
    };
    Mixed { key: Some(format!("built-{place}/{number}")), value, headers: headers(number) }
}

const ANY: &str = "";
const NAMES: &str = PREFIXES[0].1;
const HALVES: &str = PREFIXES[1].1;

#[rustfmt::skip]
const SPECIAL: &[(&str, &str)] = &[
    // Accepted.
    (ANY, r#"{"objectId": "42", "objectType": "customer", "content": "Customer is updated."}"#),
    (ANY, r#"{"objectId": "42", "objectType": "customer", "content": "x", "targets": [{"targetId": {"Id": "administrators", "Domain": "nordlys", "Name": "Administrators", "Type": "Group"}}, {"targetId": {"Id": "accounting", "Domain": "nordlys", "Name": "", "Type": "OrganizationUnit"}, "notify": true}]}"#),
    (ANY, r#"{"type":"complete","actor":"anna","objectType":"workitem","objectId":"w-9","publishedAt":"2026-11-24T01:20:00+01:00","targets":[{"targetId":{"id":"a/b:c%d","domain":"n/o"},"notify":true},{"@type":"Members","notify":true},{"@type":"Members","targetId":"ch-1","notify":true},{"@type":"Everyone","notify":true},{"type":"Public","notify":true}],"attachments":["bill.pdf",{"@type":"link","id":"http://x","size":12}],"content":"Approved.","href":"/workitems/w-9","task":{"a":[1,2,{"b":null}]}}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":["anna",{"id":"bo","name":"Bo"},{"targetId":"anna","notify":true},{"targetId":{"id":"bo"},"notify":false}],"attachment":["f"],"actor":null,"content":null}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","publishedAt":"2026-11-24t01:20:00.1234567z","targets":[{"@type":"Identity","targetId":{"id":"ärende \u00e4 \"q\" \ud83d\ude00"},"notify":true}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","published":"2026-11-24T01:20:00.123456789-08:00","targets":[{"targetId":"anna","name":"Anna","notify":true},{"targetId":"anna","name":"Other"}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","from":"open","to":"closed","state":{"cc":["anna"],"n":[1.5,-3,12,1e3]}}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":[{"@type":"Everyone","targetId":null,"notify":null},{"@type":null,"targetId":"anna"},{"type":"Everyone","notify":true}],"content":"tab\tand \u0001"}"#),
    // Rejected.
    (ANY, r#"{"objectType":"case"}"#),
    (ANY, r#"{"objectType":null,"objectId":"7"}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":[]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":null}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":"anna"}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","target":["anna"]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","Targets":["anna"],"tragets":["anna"],"targetts":[],"tarkets":1}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","to":["anna"],"CC":"bo","bto":1,"bcc":2,"Audience":3,"audiences":4,"recipient":5,"recipients":6,"notify":true}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","To":{"id":"anna"}}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":[{"@type":"Nobody"},{"type":5},{"@type":""}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":[{"@type":"Identity"},{"@type":"Identity","targetId":null},{"notify":true},{}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":[{"@type":"Everyone","targetId":"anna","notify":true},{"@type":"Public","targetId":{"id":"anna"}}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":[{"targetId":{"id":"anna","name":"Anna"},"name":"Anna"},{"targetId":{"id":"anna"},"name":"Anna"},{"@type":"Members","name":"x"},{"targetId":"bo","name":7}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":[{"targetId":"anna","notfy":true},{"targetId":7},{"targetId":"","notify":"yes"},{"@type":"Members","targetId":["ch"]},5,null,"",{"targetId":{"Name":"x"}}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","targets":[{"@type":"Identity","type":"Identity","targetId":"anna"},{"id":"bo","Id":"bo"},{"id":"bo","shoe/size~":43,"type":"Person"},{"id":null}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","@type":"share","type":"share"}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","publishedAt":null,"published":"2026-11-24T01:20:00Z"}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","attachment":[],"attachments":[]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","type":""}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","publishedAt":"2026-11-24T01:20:00"}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","published":"2026-02-29T01:20:00Z"}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","publishedAt":""}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","publishedAt":1795478400123}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","actor":{"id":"anna","shoe":43}}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","actor":{"name":"anna"}}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","actor":{"Id":"","Domain":"","Type":"user"}}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","actor":["anna"]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","attachments":[{"@type":"film","id":"f"},{"size":1},"",7,{"@type":1,"id":2}]}"#),
    (ANY, r#"{"objectType":"case","objectId":"7","attachment":"f"}"#),
    (ANY, r#"{"objectType":"case","objectId":7,"content":5}"#),
    (ANY, r#"{"objectType":"ca\nse","objectId":"\u0085"}"#),
    (ANY, r#"[1,2]"#),
    (ANY, r#""case""#),
    (ANY, r#"{"objectType":"case","#),
    (ANY, r#"{"objectType":"case","objectId":"7"} x"#),
    (ANY, " "),
    (NAMES, r#"{"objectType":"case","objectId":"7","objectId":"8"}"#),
    (NAMES, r#"{"objectType":"case","objectId":"7","x":1,"x":2}"#),
    (NAMES, r#"{"objectType":"case","objectId":"7","actor":{"id":"anna","id":"bo"}}"#),
    (HALVES, r#"{"objectType":"case","objectId":"7","content":"\ud83d"}"#),
    (HALVES, r#"{"objectType":"case","objectId":"\ude00","targets":[{"targetId":{"id":"x","name":"\ud83dx"}}]}"#),
];
