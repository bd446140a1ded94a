//! Rows of a log.

use super::*;

#[test]
fn finds_each_fault_in_a_logs_events() {
    // Another row needs a position, and the cursors' counts must agree with it or the log is not even opened.
    let insert = |columns: &str, filter: &str| {
        format!(
            "INSERT INTO events SELECT (SELECT max(position) + 1 FROM events), {columns}, 0 FROM events WHERE {filter}; \
             UPDATE cursors SET events = events + 1 WHERE partition = 0;"
        )
    };
    let copy = "partition, offset, timestamp, checksum, object_type, object_id, json";
    let faults: &[Fault<'_>] = &[
        (
            "lost",
            &|world| world.sql(0, "DELETE FROM events WHERE position = 17"),
            &[(Lost, Event), (Miscounted, Event)],
        ),
        (
            "doubled",
            &|world| world.sql(0, &insert(copy, "position = 17")),
            // The second one is not where the log looks for it.
            &[(Doubled, Event), (Misplaced, Event)],
        ),
        (
            "foreign",
            &|world| {
                // Offset 1 of partition 0 is a control record.
                let columns = copy.replace("offset", "1");
                world.sql(0, &insert(&columns, "position = 1"));
            },
            &[(Foreign, Event), (Misplaced, Event)],
        ),
        (
            "of an unknown partition",
            &|world| {
                let columns = copy.replace("partition", "7");
                world.sql(0, &insert(&columns, "position = 1"));
            },
            &[(Foreign, Event), (Miscounted, Event)],
        ),
        (
            "content",
            &|world| {
                world.sql(0, "UPDATE events SET json = replace(json, '\"n\"', '\"m\"') WHERE position = 17");
            },
            &[(Altered, Event)],
        ),
        (
            "object",
            &|world| world.sql(0, "UPDATE events SET object_id = 'x' WHERE position = 17"),
            &[(Altered, Event)],
        ),
        (
            "checksum",
            &|world| world.sql(0, "UPDATE events SET checksum = checksum + 1 WHERE position = 17"),
            &[(Altered, Event)],
        ),
        (
            "timestamp",
            &|world| world.sql(0, "UPDATE events SET timestamp = timestamp + 1 WHERE position = 17"),
            &[(Altered, Event)],
        ),
        (
            "a batch that is gone",
            &|world| world.sql(0, "DELETE FROM batches WHERE first_position = 1"),
            &[(Misplaced, Event); 4],
        ),
        (
            "two that changed places",
            &|world| {
                world.sql(
                    0,
                    "UPDATE events SET position = -1 WHERE position = 17; UPDATE events SET position = 17 WHERE position = 18; \
                     UPDATE events SET position = 18 WHERE position = -1;",
                );
            },
            &[(Misplaced, Event)],
        ),
        (
            "an event of what is a duplicate",
            &|world| {
                let of = "(SELECT min(offset) FROM duplicates WHERE partition = 0)";
                world.sql(0, &insert(&copy.replace("offset", of), "position = 17 AND partition = 0"));
            },
            &[(Doubled, Event), (Misplaced, Event)],
        ),
        (
            "what is said to be a duplicate",
            &|world| {
                world.sql(
                    0,
                    "INSERT INTO duplicates SELECT partition, offset, timestamp, checksum, 0, 0, 0 FROM events WHERE position = 1;",
                );
            },
            &[(Doubled, Duplicate)],
        ),
    ];
    let reported = plant(faults);
    let lost = reported.iter().find(|deviation| deviation.kind == Lost).unwrap();
    assert!(matches!(lost.place, Place::Log { position: None, .. }) && lost.command.is_some(), "{lost:?}");
    let doubled = reported.iter().find(|deviation| deviation.kind == Doubled).unwrap();
    assert!(matches!(doubled.place, Place::Log { position: Some(_), .. }), "{doubled:?}");
}

#[test]
fn finds_each_fault_in_a_logs_duplicates_and_rejections() {
    let first = "(partition, offset) = (SELECT partition, offset FROM TABLE LIMIT 1)";
    let sql = |text: &str, table: &str| {
        let text = text.replace("FIRST", first).replace("TABLE", table);
        move |world: &mut World| world.sql(0, &text)
    };
    let delete = "DELETE FROM TABLE WHERE FIRST";
    // Offset 1 of partition 0 is a control record.
    let foreign = "INSERT INTO TABLE SELECT 0, 1, timestamp, checksum, REST, 0 FROM TABLE LIMIT 1";
    plant(&[
        ("lost", &sql(delete, "duplicates"), &[(Lost, Duplicate)]),
        ("lost", &sql(delete, "rejections"), &[(Lost, Rejection)]),
        (
            "foreign",
            &sql(&foreign.replace("REST", "of_offset, of_timestamp"), "duplicates"),
            &[(Foreign, Duplicate)],
        ),
        ("foreign", &sql(&foreign.replace("REST", "problems"), "rejections"), &[(Foreign, Rejection)]),
        (
            "of another",
            &sql("UPDATE TABLE SET of_offset = of_offset - 1 WHERE FIRST", "duplicates"),
            &[(Altered, Duplicate)],
        ),
        (
            "of another time",
            &sql("UPDATE TABLE SET of_timestamp = 0 WHERE FIRST", "duplicates"),
            &[(Altered, Duplicate)],
        ),
        (
            "checksum",
            &sql("UPDATE TABLE SET checksum = 0 WHERE FIRST", "duplicates"),
            &[(Altered, Duplicate)],
        ),
        (
            "checksum",
            &sql("UPDATE TABLE SET checksum = 0 WHERE FIRST", "rejections"),
            &[(Altered, Rejection)],
        ),
        (
            "timestamp",
            &sql("UPDATE TABLE SET timestamp = 0 WHERE FIRST", "rejections"),
            &[(Altered, Rejection)],
        ),
        (
            "a rejection of what is a duplicate",
            &|world| {
                world.sql(
                    0,
                    "INSERT INTO rejections SELECT partition, offset, timestamp, checksum, (SELECT problems FROM rejections), 0 \
                     FROM duplicates LIMIT 1;",
                );
            },
            &[(Doubled, Rejection)],
        ),
        (
            "beyond the log's own end",
            &|world| {
                world.sql_uncounted(
                    0,
                    "INSERT INTO rejections SELECT 0, 100000, timestamp, checksum, problems, 0 FROM rejections LIMIT 1",
                );
            },
            &[(Foreign, Rejection)],
        ),
        (
            "in a gap",
            &|world| {
                world.sql(
                    0,
                    "INSERT INTO gaps SELECT partition, offset, offset + 1, 'x', 0 FROM rejections LIMIT 1",
                );
            },
            // The topic holds it still, so the log has no business to have a gap there.
            &[(Lost, What::Commands), (Foreign, Rejection)],
        ),
        (
            "miscounted",
            &|world| {
                world.sql_uncounted(0, "UPDATE cursors SET rejections = rejections + 1 WHERE partition = 1");
            },
            &[(Miscounted, Rejection)],
        ),
    ]);
}

/// The first rejection with two problems.
#[test]
fn compares_the_problems_of_a_logs_rejections_without_their_messages() {
    let set = |problems: &'static str| {
        move |world: &mut World| {
            let first =
                "SELECT partition, offset FROM rejections WHERE json_array_length(problems) = 2 LIMIT 1";
            let row = format!("(partition, offset) = ({first})");
            world.sql(0, &format!("UPDATE rejections SET problems = {problems} WHERE {row}"));
        }
    };
    let altered = &[(Altered, Rejection)];
    plant(&[
        ("messages", &set(r#"json_set(problems, '$[0].message', 'a "word"', '$[1].message', '')"#), &[]),
        ("first code", &set("json_set(problems, '$[0].code', 'missing')"), altered),
        ("second code", &set("json_set(problems, '$[1].code', 'missing')"), altered),
        ("pointer", &set("json_set(problems, '$[1].pointer', '/targets/0')"), altered),
        ("order", &set("json_array(problems -> 1, problems -> 0)"), altered),
        ("one problem less", &set("json_remove(problems, '$[1]')"), altered),
        ("one problem more", &set("json_insert(problems, '$[#]', problems -> 1)"), altered),
        ("no problems", &set("json_array()"), altered),
        ("unreadable", &set("substr(problems, 2)"), altered),
    ]);
}
