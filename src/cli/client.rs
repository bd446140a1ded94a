//! The client library for the subcommands that post.

use activity_stream_client::{ActivityClient, ClientBuilder, PostError};
use anyhow::{Context as _, anyhow};
use kafka::Settings;
use tokio::runtime::Runtime;

use super::output::{StdoutError, count};

/// Configures a client for these brokers and this commands topic.
#[must_use]
pub fn builder(kafka: &Settings) -> ClientBuilder {
    let builder = ActivityClient::builder(kafka.bootstrap_servers.as_str())
        .commands_topic(kafka.topics.commands.as_str());
    kafka.properties.iter().fold(builder, |builder, (name, value)| builder.property(name, value))
}

/// The runtime for a client.
pub fn runtime() -> anyhow::Result<Runtime> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().context("can't start the asynchronous runtime")
}

/// Why a command was not posted, or may not have been.
#[must_use]
pub fn reason(error: &PostError) -> String {
    match error {
        PostError::Invalid(problems) => problems.to_string(),
        PostError::NotPosted(reason) | PostError::Unconfirmed(reason) => reason.clone(),
    }
}

/// A closed standard output, as after `| head`, is an error of a command that posts, because the results are lost.
/// `is_complete`: the whole input was posted by then.
pub fn unshown(error: anyhow::Error, posted: u64, failed: u64, is_complete: bool) -> anyhow::Error {
    if !StdoutError::is_unread(&error) {
        return error;
    }
    let posted = format!("{} posted, {failed} not", count(posted, "command"));
    if is_complete {
        return anyhow!("standard output was closed before all results were shown: {posted}");
    }
    anyhow!(
        "standard output was closed, so not all commands were posted: {posted}, and the rest was not read. Redirect the \
         output to a file to post everything"
    )
}
