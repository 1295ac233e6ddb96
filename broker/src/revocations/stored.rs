//! A revocation as it is stored: a frozen layout, and the way there and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tollgate_certs::deny::{Entry, EntryError};
use uuid::Uuid;

use super::{Revocation, RevocationId};

/// Why stored bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// They do not decode.
    #[error("a record does not decode: {0}")]
    Encoding(#[from] postcard::Error),
    /// Something follows the end.
    #[error("{0} bytes follow the end of a record")]
    Trailing(usize),
    /// It has a layout of a newer program.
    #[error("a record has the layout {0}, which this program does not know")]
    Layout(u8),
    /// What it revokes is neither a certificate nor a holder.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// Layout 1, in postcard.
#[derive(Serialize, Deserialize)]
struct RevocationV1<'a> {
    id: [u8; 16],
    created_ms: u64,
    /// A serial number in hex, or a SPIFFE ID.
    entry: &'a str,
    reason: &'a str,
}

/// The layout that is written.
pub(super) const LAYOUT: u8 = 1;

/// The bytes of a revocation, in the layout that is written now.
pub(super) fn encode(r: &Revocation) -> Vec<u8> {
    let created_ms = to_ms(r.created_at);
    let (id, entry) = (r.id.0.into_bytes(), r.entry.to_string());
    let v1 = RevocationV1 { id, created_ms, entry: &entry, reason: &r.reason };
    postcard::to_allocvec(&v1).expect("text and numbers can always be written")
}

/// Reads a revocation back.
pub(super) fn decode(layout: u8, bytes: &[u8]) -> Result<Revocation, BadRecord> {
    if layout != LAYOUT {
        return Err(BadRecord::Layout(layout));
    }
    let v1: RevocationV1<'_> = whole(bytes)?;
    Ok(Revocation {
        id: RevocationId(Uuid::from_bytes(v1.id)),
        entry: v1.entry.parse::<Entry>()?,
        reason: v1.reason.to_owned(),
        created_at: UNIX_EPOCH
            .checked_add(Duration::from_millis(v1.created_ms))
            .unwrap_or(UNIX_EPOCH),
    })
}

/// The bytes of what is noted when a revocation is taken back.
pub(super) fn encode_removal(id: RevocationId) -> Vec<u8> {
    id.0.into_bytes().to_vec()
}

/// Reads that back.
pub(super) fn decode_removal(layout: u8, bytes: &[u8]) -> Result<RevocationId, BadRecord> {
    if layout != LAYOUT {
        return Err(BadRecord::Layout(layout));
    }
    whole(bytes).map(|id| RevocationId(Uuid::from_bytes(id)))
}

fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadRecord> {
    let (value, rest) = postcard::take_from_bytes(bytes)?;
    match rest.len() {
        0 => Ok(value),
        n => Err(BadRecord::Trailing(n)),
    }
}

fn to_ms(at: SystemTime) -> u64 {
    let ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(ms).unwrap_or(u64::MAX)
}

/// A moment to the millisecond, as it is stored.
pub(super) fn precision(at: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(to_ms(at))
}
