//! Prints notifications, and acknowledges each: `cargo run --example follow_notifications -- localhost:9092 my-group`.

use activity_stream::client::{NotificationStream, StreamError};
use futures::StreamExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let servers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let group = arguments.next().unwrap_or_else(|| "my-group".to_owned());
    let mut notifications = NotificationStream::builder(servers, group).open()?;
    loop {
        let received = tokio::select! {
            received = notifications.next() => received,
            _ = tokio::signal::ctrl_c() => break,
        };
        match received {
            Some(Ok(notification)) => {
                let activity = &notification.activity;
                println!(
                    "{}: {} {}/{} {}",
                    notification.key,
                    activity.verb(),
                    activity.object_type(),
                    activity.object_id(),
                    activity.content().unwrap_or_default()
                );
                // Only now: where this program ends before it, the notification comes again.
                notification.acknowledge();
            }
            Some(Err(StreamError::NotANotification { what, acknowledgement })) => {
                eprintln!("{what}");
                acknowledgement.acknowledge();
            }
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }
    notifications.close().await;
    Ok(())
}
