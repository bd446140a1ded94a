//! The Rust examples on the pages compile: each is copied here as a module, word for word.

use super::{blocks, pages, root, text_of};

#[allow(dead_code, reason = "it is compiled; nobody is there to call it")]
mod producing {
    use std::time::Duration;

    use activity_stream_client::{ActivityClient, Entry, Identity, Reply, Target};

    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let client = ActivityClient::builder("localhost:9092").reply_topic("my.answers").build()?;
        let entry = Entry::new("workitem", "w-9")
            .verb("complete")
            .actor("anna")
            .content("Approved.")
            .target(Target::identity(Identity::new("accounting").domain("nordlys")).notify())
            .target(Target::members())
            .idempotency_key("approve-w-9");
        println!("{}", client.post(&entry).await?);
        match client.post_and_wait(&entry, Duration::from_secs(10)).await? {
            Reply::Accepted { id } | Reply::Duplicate { id } => println!("{id}"),
            Reply::Rejected { problems } => println!("{problems}"),
        }
        Ok(())
    }
}

#[allow(dead_code, reason = "it is compiled; nobody is there to call it")]
mod consuming {
    use activity_stream_client::{NotificationStream, StreamError};
    use futures::StreamExt as _;

    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let mut notifications = NotificationStream::builder("localhost:9092", "mail").open()?;
        while let Some(received) = notifications.next().await {
            match received {
                Ok(notification) => {
                    println!("{}: {:?}", notification.key, notification.activity.content());
                    notification.acknowledge();
                }
                // Not a notification. Acknowledge it too, or it and all records after it come again after a restart.
                Err(StreamError::NotANotification { what, acknowledgement }) => {
                    eprintln!("{what}");
                    acknowledgement.acknowledge();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The lines of a module of this file, without their indentation.
fn module(source: &str, name: &str) -> String {
    let (_, rest) = source.split_once(&format!("\nmod {name} {{\n")).expect("a module");
    let (inside, _) = rest.split_once("\n}\n").expect("its end");
    inside.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
}

#[test]
fn every_piece_in_rust_is_compiled() {
    let source = std::fs::read_to_string(root().join(file!())).expect("this file");
    let blocks = pages().into_iter().flat_map(|page| blocks(&text_of(&page)));
    let pieces: Vec<String> = blocks.filter(|block| block.info == "rust").map(|block| block.text).collect();
    assert_eq!(pieces, [module(&source, "producing"), module(&source, "consuming")]);
}
