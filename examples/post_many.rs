//! Posts many commands at once, and one that would be rejected:
//! `cargo run --example post_many -- [BOOTSTRAP_SERVERS [TOPIC]]`.

use std::collections::HashSet;

use activity_stream_client::{ActivityClient, Entry, Identity, PostError, Target};
use futures::future::try_join_all;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let client = ActivityClient::builder(argument("localhost:9092"))
        .commands_topic(argument("activity.commands"))
        .property("delivery.timeout.ms", "10000")
        .build()?;

    // They are sent in batches, and each gets its own answer. Commands about one customer keep their order.
    let entries: Vec<_> = (0..100).map(|number| bill(number, "is new")).collect();
    let posted = try_join_all(entries.iter().map(|entry| client.post(entry))).await?;
    let ids: HashSet<_> = posted.iter().filter_map(|posted| posted.id()).collect();
    println!("{} commands posted, {} ids", posted.len(), ids.len());

    // A command that would be rejected is not sent.
    match client.post(&bill(100, "is new").property("Targets", "anna")).await {
        Err(PostError::Invalid(problems)) => println!("not posted: {problems}"),
        other => return Err(format!("expected problems, found {other:?}").into()),
    }
    Ok(())
}

fn bill(number: u32, what: &str) -> Entry {
    let nordlys = |id: &str| Identity::new(id).domain("nordlys");
    Entry::new("customer", (number % 10).to_string())
        .verb("update")
        .actor("anna")
        .content(format!("Bill {number} {what}."))
        .target(nordlys("administrators"))
        .target(Target::identity(nordlys("accounting")).notify())
        .property("href", format!("/bills/{number}"))
}
