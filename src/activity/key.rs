//! Idempotency keys: how a command that is sent again is told from a new one.

use super::ActivityId;

/// The key of one command and the fingerprint of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// BLAKE3 of the key with its kind, each part length-prefixed, cut to 128 bits.
    pub hash: [u8; 16],
    /// BLAKE3 of the normal form before `publishedAt` gets its default, cut to 128 bits.
    pub fingerprint: [u8; 16],
}

/// What the first command with a key left behind, as the next one with that key finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The activity that the first command became.
    pub first: ActivityId,
    pub fingerprint: [u8; 16],
    /// The partition's clock when a valid command last carried the key, in milliseconds since 1970.
    pub last_seen: i64,
}
