//! Posts a command and prints its id, from the delivery report. The processor decides whether it becomes an activity: run
//! twice, the second command is a duplicate, as `post_and_wait` says.
//!
//! `cargo run --example post -- [BOOTSTRAP_SERVERS [TOPIC [OBJECT_ID]]]`.

use activity_stream_client::{ActivityClient, Entry, Target};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (servers, topic) = (argument("localhost:9092"), argument("activity.commands"));
    let object_id = argument("w-9");

    let client = ActivityClient::builder(servers).commands_topic(topic).build()?;
    let entry = Entry::new("workitem", object_id.as_str())
        .verb("complete")
        .content("Approved.")
        .target(Target::identity("anna").notify())
        .idempotency_key(format!("complete-workitem-{object_id}"));
    let posted = client.post(&entry).await?;
    println!("{posted}");
    eprintln!("sent, not yet accepted: 'activity-stream log show {posted}' says what it became");
    Ok(())
}
