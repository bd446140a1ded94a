//! What becomes of a valid command, given what is known of its idempotency key.

use super::{
    code::Code,
    decision::Decision,
    event::Event,
    key::{Claim, IdempotencyKey},
    problem::Problems,
};

/// Accepts the command, unless one with the same key was accepted within the window.
///
/// `claim` is what was left by the commands with that key before, `clock` the highest record timestamp seen in
/// the partition, this record's included. A claim is alive as long as `clock - claim.last_seen < window_ms`; all in
/// milliseconds.
#[must_use]
pub fn settle(
    event: Event,
    key: Option<IdempotencyKey>,
    claim: Option<&Claim>,
    clock: i64,
    window_ms: i64,
) -> Decision {
    let (Some(key), Some(claim)) = (key, claim) else { return Decision::Accepted(event) };
    let alive = clock.saturating_sub(claim.last_seen) < window_ms;
    if !alive {
        Decision::Accepted(event)
    } else if key.has_content_of(claim) {
        Decision::Duplicate { of: claim.first }
    } else {
        let message = format!(
            "the idempotency key was used before, by other content, which became activity {}; give other content another key",
            claim.first
        );
        Decision::Rejected(Problems::one(Code::IdempotencyKeyReused, message))
    }
}
