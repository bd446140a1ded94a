//! Posts a command, and waits for the processor's verdict:
//! `cargo run --example post_and_wait -- [BOOTSTRAP_SERVERS [TOPIC [REPLY_TOPIC]]]`.
//!
//! The reply topic must exist, and must be one of the processor's `topics.replies`.

use std::time::Duration;

use activity_stream_client::{ActivityClient, Entry, Reply, WaitError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let client = ActivityClient::builder(argument("localhost:9092"))
        .commands_topic(argument("activity.commands"))
        .reply_topic(argument("my.answers"))
        .build()?;

    // With an idempotency key, the command can safely be sent again, whatever its outcome.
    let entry = Entry::new("workitem", "w-9").verb("complete").idempotency_key("approve-w-9");
    match client.post_and_wait(&entry, Duration::from_secs(10)).await {
        Ok(Reply::Accepted { id }) => println!("accepted: {id}"),
        Ok(Reply::Duplicate { id }) => println!("came before: {id}"),
        Ok(Reply::Rejected { problems }) => println!("rejected: {problems}"),
        Err(WaitError::TimedOut { posted: Some(posted), .. }) => println!("sent, no verdict yet: {posted}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
