//! Prints a line for each notification, until it is stopped or has printed COUNT of them:
//! `cargo run --example follow_notifications -- [BOOTSTRAP_SERVERS [TOPIC [GROUP [COUNT]]]]`.

use activity_stream_client::{NotificationStream, StreamError};
use futures::StreamExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (servers, topic) = (argument("localhost:9092"), argument("activity.notifications"));
    let group = argument("activity-printer-rust");
    let wanted: u64 = arguments.next().map_or(Ok(u64::MAX), |count| count.parse())?;

    let mut notifications = NotificationStream::builder(servers, group).topic(topic).open()?;
    let mut printed = 0;
    while printed < wanted {
        let received = tokio::select! {
            received = notifications.next() => received,
            _ = tokio::signal::ctrl_c() => break,
        };
        match received {
            Some(Ok(notification)) => {
                let activity = &notification.activity;
                let (kind, id) = (activity.object_type(), activity.object_id());
                println!("{} {} {kind}/{id}", notification.id, notification.key);
                printed += 1;
                // After the work: a crash then repeats work rather than losing it.
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
