//! What a valid command becomes, given what the idempotency window knows of its key.

use super::{Claim, Decision, Event, IdempotencyKey, Problem, Problems};

/// Settles a valid command. `clock` is the highest record timestamp of the partition, this record's included.
#[must_use]
pub fn settle(
    event: Event,
    key: Option<IdempotencyKey>,
    claim: Option<&Claim>,
    clock: i64,
    window_ms: i64,
) -> Decision {
    match (key, claim) {
        (Some(key), Some(claim)) if clock - claim.last_seen < window_ms => {
            if key.fingerprint == claim.fingerprint {
                Decision::Duplicate { of: claim.first }
            } else {
                Decision::Rejected(Problems(vec![Problem {
                    pointer: String::new(),
                    code: "idempotency_key_reused".to_owned(),
                    message: format!("the key belongs to other content, activity {}", claim.first),
                }]))
            }
        }
        _ => Decision::Accepted(event),
    }
}
