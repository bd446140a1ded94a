//! Posts an activity, and says which id it has: `cargo run --example post -- localhost:9092`.

use std::time::Duration;

use activity_stream::client::{ActivityClient, Entry, Identity, PostError, Target};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let servers = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".to_owned());
    let client = ActivityClient::builder(servers).property("delivery.timeout.ms", "10000").build()?;

    let entry = Entry::new("customer", "42")
        .verb("update")
        .actor("anna")
        .content("Customer is updated.")
        .target(Identity::new("administrators").domain("nordlys"))
        .target(Target::identity(Identity::new("accounting").domain("nordlys")).notify())
        .property("href", "/customers/42");
    println!("{}", client.post(&entry).await?);

    // What would be rejected is not sent.
    match client.post(&Entry::new("customer", "")).await {
        Err(PostError::Invalid(problems)) => println!("not sent: {problems}"),
        other => println!("{other:?}"),
    }

    // Many at once: they travel together, and each answers for itself.
    let entries: Vec<_> = (0..100).map(|number| Entry::new("case", number.to_string())).collect();
    let posted = futures::future::try_join_all(entries.iter().map(|entry| client.post(entry))).await?;
    println!("{} more", posted.len());

    client.flush(Duration::from_secs(10)).await?;
    Ok(())
}
