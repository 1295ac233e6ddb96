//! The quotas: their names, their values, and the profiles these come in.
//!
//! Nothing is counted here.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::rules::quota::Rate;

/// What a quota allows, in its unit. In files `-1` is unlimited and `0` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit(u64);

impl Limit {
    /// No bound.
    pub const UNLIMITED: Limit = Limit(u64::MAX);
    /// Nothing at all.
    pub const NONE: Limit = Limit(0);

    /// At most `n`.
    pub const fn at_most(n: u64) -> Limit {
        Limit(n)
    }

    /// The number, when there is a bound.
    pub const fn bound(self) -> Option<u64> {
        if self.0 == u64::MAX { None } else { Some(self.0) }
    }

    /// The number; `u64::MAX` when there is no bound.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether `n` is within it.
    pub const fn allows(self, n: u64) -> bool {
        n <= self.0
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bound() {
            Some(n) => write!(f, "{n}"),
            None => f.write_str("unlimited"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.bound() {
            Some(n) => i64::try_from(n).unwrap_or(i64::MAX).serialize(s),
            None => (-1_i64).serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match i64::deserialize(d)? {
            -1 => Ok(Limit::UNLIMITED),
            n => u64::try_from(n).map(Limit).map_err(|_| {
                de::Error::custom(format!("a quota is -1 (unlimited), 0 (none) or more, not {n}"))
            }),
        }
    }
}

macro_rules! quotas {
    ($($(#[$doc:meta])* $field:ident, $variant:ident, $default:expr;)*) => {
        /// What is limited.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Quota {
            $($(#[$doc])* $variant,)*
            /// Streams of a gateway, open at once; no tenant has this quota.
            Streams,
        }

        impl Quota {
            /// Every quota of a tenant.
            pub const ALL: &[Quota] = &[$(Quota::$variant,)*];

            /// The name in files, on the wire and in metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Quota::$variant => stringify!($field),)*
                    Quota::Streams => "streams",
                }
            }

            /// The quota of a name.
            pub fn from_name(name: &str) -> Option<Quota> {
                Quota::ALL.iter().copied().find(|q| q.name() == name)
            }
        }

        /// A tenant's quotas.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub struct Quotas { $($(#[$doc])* pub $field: Limit,)* }

        impl Quotas {
            /// What one quota allows. A tenant has no bound on what is not a tenant's.
            pub const fn get(&self, quota: Quota) -> Limit {
                match quota {
                    $(Quota::$variant => self.$field,)*
                    Quota::Streams => Limit::UNLIMITED,
                }
            }

            /// No bound on anything.
            pub const UNLIMITED: Quotas = Quotas { $($field: Limit::UNLIMITED,)* };

            /// The profile `default`.
            pub const DEFAULT: Quotas = Quotas { $($field: Limit::at_most($default),)* };

            /// These, with what the overrides name.
            #[must_use]
            pub fn with(mut self, overrides: &Overrides) -> Quotas {
                $(if let Some(limit) = overrides.$field { self.$field = limit; })*
                self
            }
        }

        /// Some quotas: those of a profile, or those that a tenant has its own way.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Overrides {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")]
              pub $field: Option<Limit>,)*
        }

        impl Overrides {
            /// No quota at all is overridden.
            pub const NOTHING: Overrides = Overrides { $($field: None,)* };

            /// These, with what the others name.
            #[must_use]
            pub fn with(mut self, others: &Overrides) -> Overrides {
                $(self.$field = others.$field.or(self.$field);)*
                self
            }

            /// What one quota is overridden with, if it is.
            pub const fn get(&self, quota: Quota) -> Option<Limit> {
                match quota {
                    $(Quota::$variant => self.$field,)*
                    Quota::Streams => None,
                }
            }

            /// Overrides one quota, or no longer. A tenant has no quota of what is not a tenant's.
            pub const fn set(&mut self, quota: Quota, limit: Option<Limit>) {
                match quota {
                    $(Quota::$variant => self.$field = limit,)*
                    Quota::Streams => {}
                }
            }

            /// Every quota of a tenant, as it is.
            pub const fn all(quotas: &Quotas) -> Overrides {
                Overrides { $($field: Some(quotas.$field),)* }
            }
        }
    };
}

quotas! {
    /// Connections open at once.
    connections, Connections, 500;
    /// Produce streams open at once.
    producers, Producers, 100;
    /// Consume streams and streams of the tenant's own workers, open at once.
    consumers, Consumers, 200;
    /// Consumer groups.
    consumer_groups, ConsumerGroups, 50;
    /// Topics.
    topics, Topics, 100;
    /// Partitions of all topics.
    partitions, Partitions, 1_000;
    /// Bytes that jobs and topics keep.
    storage_bytes, StorageBytes, 100 * GIB;
    /// The longest retention a topic may have, in hours.
    retention_hours, RetentionHours, 168;
    /// Bytes of payload a second: in, and apart from that out.
    bytes_per_second, BytesPerSecond, 10 * MIB;
    /// Messages a second: produced, and apart from that consumed.
    messages_per_second, MessagesPerSecond, 10_000;
    /// Items a second.
    requests_per_second, RequestsPerSecond, 50_000;
    /// Items of one batch.
    batch_items, BatchItems, 10_000;
    /// Batches open at once.
    batches_in_flight, BatchesInFlight, 256;
    /// Jobs that wait.
    jobs_queued, JobsQueued, 100_000;
    /// Bytes of one payload.
    payload_bytes, PayloadBytes, MIB;
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas::DEFAULT
    }
}

impl Quotas {
    /// A built-in profile: `free`, `default`, `starter`, `pro` or `enterprise`.
    pub fn profile(name: &str) -> Option<Quotas> {
        let (_, part) = PROFILES.iter().find(|(n, _)| *n == name)?;
        Some(Quotas::DEFAULT.with(part))
    }
}

impl From<Rate> for Quota {
    fn from(rate: Rate) -> Quota {
        match rate {
            Rate::Requests => Quota::RequestsPerSecond,
            Rate::BytesIn | Rate::BytesOut => Quota::BytesPerSecond,
            Rate::MessagesIn | Rate::MessagesOut => Quota::MessagesPerSecond,
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The built-in profiles; what one leaves out takes the value of `default`.
pub(super) const PROFILES: &[(&str, Overrides)] = &[
    ("default", Overrides::all(&Quotas::DEFAULT)),
    (
        "free",
        Overrides {
            bytes_per_second: at_most(MIB),
            messages_per_second: at_most(1_000),
            storage_bytes: at_most(10 * GIB),
            topics: at_most(10),
            partitions: at_most(50),
            connections: at_most(10),
            producers: at_most(5),
            consumers: at_most(10),
            ..Overrides::NOTHING
        },
    ),
    (
        "starter",
        Overrides {
            bytes_per_second: at_most(5 * MIB),
            messages_per_second: at_most(5_000),
            storage_bytes: at_most(50 * GIB),
            topics: at_most(50),
            partitions: at_most(500),
            connections: at_most(100),
            ..Overrides::NOTHING
        },
    ),
    (
        "pro",
        Overrides {
            bytes_per_second: at_most(50 * MIB),
            messages_per_second: at_most(50_000),
            storage_bytes: at_most(500 * GIB),
            topics: at_most(500),
            partitions: at_most(5_000),
            connections: at_most(1_000),
            producers: at_most(200),
            consumers: at_most(500),
            ..Overrides::NOTHING
        },
    ),
    ("enterprise", Overrides::all(&Quotas::UNLIMITED)),
];

const fn at_most(n: u64) -> Option<Limit> {
    Some(Limit::at_most(n))
}
