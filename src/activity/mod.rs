//! The pure core: what the contract says about one command.
//!
//! Nothing here reads a clock, draws a random number or does I/O, so the same record gives the same
//! decision, id included, on every machine, every time.

mod decision;
mod event;
mod id;
mod key;
mod limits;
mod problem;
mod record;
mod settle;

pub use decision::{Decision, Reading, Verdict};
pub use event::{Event, NotNormalForm};
pub use id::ActivityId;
pub use key::{Claim, IdempotencyKey};
pub use limits::Limits;
pub use problem::{Problem, Problems};
pub use record::{Coordinates, Header, OutputRecord, Record};
pub use settle::settle;
