//! A tenant as it is stored: frozen layouts, and the way there and back.
//!
//! A layout that is on disks never changes. What comes after it is another one, with a number of
//! its own in the store's table of kinds; the old one is read for ever.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tollgate_protocol::id::{NameError, TenantId};

use super::{
    quotas::{Limit, Overrides, Quota},
    registry::{Once, Used},
    settings::{Record, Settings, State},
};
use crate::rules::quota::Policy;

/// What is stored of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredTenant {
    pub id: TenantId,
    pub number: u32,
    pub settings: Settings,
    pub revision: u64,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

/// What is stored of a tenant that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredDeletion<'a> {
    pub id: &'a str,
    pub number: u32,
}

/// Why stored bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// They do not decode.
    #[error("it does not decode: {0}")]
    Encoding(#[from] postcard::Error),
    /// Something follows the end.
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    /// It has a layout of a newer program.
    #[error("it has the layout {0}, which this program does not know")]
    Layout(u8),
    /// The id is not one.
    #[error(transparent)]
    Id(#[from] NameError),
    /// A field has a value that means nothing.
    #[error("its {field} has the unknown value {value}")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// What it has.
        value: String,
    },
}

/// Layout 1, in postcard.
#[derive(Serialize, Deserialize)]
struct TenantV1<'a> {
    number: u32,
    id: &'a str,
    revision: u64,
    created_ms: u64,
    updated_ms: u64,
    /// 0 active, 1 suspended.
    state: u8,
    /// 0 pace, 1 reject.
    policy: u8,
    concurrency: u32,
    workers: u32,
    weight: u32,
    name: &'a str,
    profile: &'a str,
    /// By the name of the quota; -1 is unlimited.
    overrides: Vec<(&'a str, i64)>,
    gateways: Vec<&'a str>,
    metadata: Vec<(&'a str, &'a str)>,
}

/// The layout that is written.
pub(super) const LAYOUT: u8 = 1;

/// The bytes of a tenant, in the layout that is written now.
pub(super) fn encode(id: &TenantId, number: u32, record: &Record) -> Vec<u8> {
    let s = &record.settings;
    let number_of =
        |limit: Limit| limit.bound().map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
    let own = |&quota: &Quota| Some((quota.name(), number_of(s.overrides.get(quota)?)));
    let v1 = TenantV1 {
        number,
        id: id.as_str(),
        revision: record.revision,
        created_ms: to_ms(record.created_at),
        updated_ms: to_ms(record.updated_at),
        state: match s.state {
            State::Active => 0,
            // One that is deleted is not stored as a tenant.
            State::Suspended | State::Deleted => 1,
        },
        policy: match s.policy {
            Policy::Pace => 0,
            Policy::Reject => 1,
        },
        concurrency: s.concurrency,
        workers: s.workers,
        weight: s.weight,
        name: &s.name,
        profile: &s.profile,
        overrides: Quota::ALL.iter().filter_map(own).collect(),
        gateways: s.gateways.iter().map(String::as_str).collect(),
        metadata: s.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
    };
    postcard::to_allocvec(&v1).expect("text and numbers can always be written")
}

/// Reads a tenant back.
pub(super) fn decode(layout: u8, bytes: &[u8]) -> Result<StoredTenant, BadRecord> {
    if layout != LAYOUT {
        return Err(BadRecord::Layout(layout));
    }
    let v1: TenantV1<'_> = whole(bytes)?;
    let unknown =
        |field, value: &dyn ToString| BadRecord::Unknown { field, value: value.to_string() };
    let mut overrides = Overrides::NOTHING;
    for (name, n) in v1.overrides {
        let quota = Quota::from_name(name).ok_or_else(|| unknown("quota", &name))?;
        // Below zero there is only -1.
        let limit = u64::try_from(n).map_or(Limit::UNLIMITED, Limit::at_most);
        overrides.set(quota, Some(limit));
    }
    let owned = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
    Ok(StoredTenant {
        id: TenantId::parse(v1.id)?,
        number: v1.number,
        revision: v1.revision,
        created_at: from_ms(v1.created_ms),
        updated_at: from_ms(v1.updated_ms),
        settings: Settings {
            name: v1.name.to_owned(),
            state: match v1.state {
                0 => State::Active,
                1 => State::Suspended,
                n => return Err(unknown("state", &n)),
            },
            profile: Arc::from(v1.profile),
            overrides,
            policy: match v1.policy {
                0 => Policy::Pace,
                1 => Policy::Reject,
                n => return Err(unknown("policy", &n)),
            },
            concurrency: v1.concurrency,
            workers: v1.workers,
            weight: v1.weight,
            gateways: v1.gateways.into_iter().map(str::to_owned).collect(),
            metadata: v1.metadata.into_iter().map(owned).collect::<BTreeMap<_, _>>(),
        },
    })
}

impl StoredDeletion<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("text and numbers can always be written")
    }
}

/// Reads a deletion back.
pub(super) fn decode_deletion(layout: u8, bytes: &[u8]) -> Result<StoredDeletion<'_>, BadRecord> {
    if layout != LAYOUT {
        return Err(BadRecord::Layout(layout));
    }
    whole(bytes)
}

/// Layout 1 of a key, in postcard.
#[derive(Serialize, Deserialize)]
struct KeyV1<'a> {
    key: &'a str,
    digest: [u8; 32],
    tenant: &'a str,
    number: u32,
    at_ms: u64,
}

/// The bytes of a key that a tenant was created with.
pub(super) fn encode_key(used: &Used) -> Vec<u8> {
    let Used { once, tenant, number, at } = used;
    let (key, tenant, at_ms) = (once.key.as_str(), tenant.as_str(), to_ms(*at));
    let v1 = KeyV1 { key, digest: once.digest, tenant, number: *number, at_ms };
    postcard::to_allocvec(&v1).expect("text and numbers can always be written")
}

/// Reads a key back.
pub(super) fn decode_key(layout: u8, bytes: &[u8]) -> Result<Used, BadRecord> {
    if layout != LAYOUT {
        return Err(BadRecord::Layout(layout));
    }
    let v1: KeyV1<'_> = whole(bytes)?;
    Ok(Used {
        once: Once { key: v1.key.to_owned(), digest: v1.digest },
        tenant: TenantId::parse(v1.tenant)?,
        number: v1.number,
        at: from_ms(v1.at_ms),
    })
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

fn from_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH)
}

/// A moment to the millisecond, as it is stored.
pub(super) fn stored_precision(at: SystemTime) -> SystemTime {
    from_ms(to_ms(at))
}

#[cfg(test)]
mod tests;
