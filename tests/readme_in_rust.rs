//! The README's pieces in Rust compile: each stands here as a module, word for word.

#![allow(dead_code, reason = "they are compiled; nobody is there to call them")]

use std::{fs, path::Path};

mod producing {
    use std::time::Duration;

    use client::{ActivityClient, Entry, Identity, Reply, Target};

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

mod consuming {
    use client::{NotificationStream, StreamError};
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
                // Somebody else's record. It comes again, and nothing behind it counts as done, until it is acknowledged.
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
fn every_piece_of_the_readme_is_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let source = fs::read_to_string(root.join(file!())).expect("this file");
    let pieces: Vec<&str> = readme
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split_once("```").expect("the end of a block").0)
        .collect();
    assert_eq!(pieces, [module(&source, "producing"), module(&source, "consuming")]);
}
