//! The client library for Rust programs that post activities and receive notifications.
//!
//! - [`ActivityClient`] posts an [`Entry`]. It returns the activity's id as soon as the broker has the command, and can
//!   wait for the processor's verdict.
//! - [`NotificationStream`] delivers [`Notification`]s, and redelivers unacknowledged ones after a restart or a rebalance.
//!
//! Types and names are those of the contract: an entry has [`Target`]s, [`Identity`]s and
//! [`Attachment`]s. Everything is asynchronous and runs in [Tokio](https://tokio.rs).
//!
//! ```no_run
//! use activity_stream_client::{ActivityClient, Entry, Identity, Target};
//!
//! # async fn post() -> Result<(), Box<dyn std::error::Error>> {
//! let client = ActivityClient::builder("localhost:9092").build()?;
//! let entry = Entry::new("customer", "42")
//!     .content("Customer is updated.")
//!     .target(Target::identity(Identity::new("administrators").domain("nordlys")))
//!     .target(Target::identity(Identity::new("accounting").domain("nordlys")).notify());
//! let posted = client.post(&entry).await?;
//! println!("{posted}");
//! # Ok(())
//! # }
//! ```

mod acks;
mod attachment;
mod connection;
mod entry;
mod error;
mod member;
mod notification;
mod outbox;
mod posted;
mod posting;
mod replies;
mod reports;
mod seen;
mod stream;
mod target;
mod thread;
mod verdict;

pub use attachment::{Attachment, AttachmentKind};
pub use contract::{ActivityId, Coordinates, Header, Limits, Problem, Problems, Record, Reply};
pub use entry::Entry;
pub use error::{PostError, SetupError, WaitError};
pub use notification::{Activity, NotANotification, Notification, NotificationId};
pub use posted::Posted;
pub use posting::{ActivityClient, ClientBuilder};
pub use stream::{Acknowledgement, NotificationStream, Received, StreamBuilder, StreamError};
pub use target::{Audience, Identity, IdentityKind, Target};
