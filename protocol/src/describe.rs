//! The frames of `Describe`: what a client may ask about the broker and about itself.
//!
//! Answers speak of the asking tenant alone.

use crate::{
    batch::plain_enum,
    codec::{Reader, Result, put_bool, put_option, put_str, put_u64},
    limits,
    pairs::{Extension, Extensions, ExtensionsBuf},
};

plain_enum! {
    /// What is asked for.
    Subject, "subject" {
        /// The recipes the tenant can name: a `Recipe` frame each.
        Recipes = 0,
        /// The limits that apply to the tenant: one `Limits` frame.
        Limits = 1,
        /// What the tenant uses of its quotas: one `Usage` frame.
        Usage = 2,
        /// The broker's version: one `Version` frame.
        Version = 3,
    }
}

/// Asks a question: the first frame of its stream. The answer ends with an `End` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Describe<'a> {
    /// What is asked for.
    pub subject: Subject,
    /// Gateways only: the tenant in whose name it is asked.
    pub tenant: Option<&'a str>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> Describe<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Describe {
            subject: Subject::read(r)?,
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.subject.put(out);
        put_option(out, self.tenant, put_str);
        self.extensions.put(out);
    }
}

/// The version of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// The protocol, as its ALPN name.
    pub protocol: &'a str,
    /// The broker's own version.
    pub broker: &'a str,
}

impl<'a> Version<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Version {
            protocol: r.str("protocol", limits::VERSION_BYTES_MAX)?,
            broker: r.str("broker", limits::VERSION_BYTES_MAX)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.protocol);
        put_str(out, self.broker);
    }
}

plain_enum! {
    /// How a recipe reads its payload.
    Encoding, "encoding" {
        /// JSON text.
        Json = 0,
        /// postcard.
        Postcard = 1,
        /// Whatever the recipe makes of it.
        Bytes = 2,
    }
}

plain_enum! {
    /// Where a recipe runs.
    RecipeKind, "kind" {
        /// Inside the broker.
        Embedded = 0,
        /// An HTTP upstream.
        Upstream = 1,
        /// A worker.
        Worker = 2,
    }
}

/// A recipe and what it promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it runs.
    pub kind: RecipeKind,
    /// How it reads its payload.
    pub encoding: Encoding,
    /// The longest an attempt may run, in milliseconds.
    pub timeout_ms: u64,
    /// The longest an item waits to be started, in milliseconds.
    pub queue_timeout_ms: u64,
    /// How long it usually takes, in milliseconds.
    pub estimated_duration_ms: u64,
    /// How many run at once; 0 when only the tenant's and the broker's bounds apply.
    pub concurrency_max: u32,
    /// Whether it blocks a core while it runs.
    pub blocking: bool,
    /// Whether running it twice does no more than running it once.
    pub idempotent: bool,
    /// How often a job of it is tried.
    pub attempts_max: u32,
    /// The largest payload it takes, in bytes.
    pub payload_bytes_max: u64,
    /// The largest result it may give, in bytes.
    pub result_bytes_max: u64,
    /// For people.
    pub description: &'a str,
    /// JSON Schema of its payload.
    pub schema: Option<&'a str>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> Recipe<'a> {
    /// How many workers serve it now, if the broker says so: it does for recipes of workers.
    pub fn workers(&self) -> Option<u32> {
        let extension = self.extensions.iter().find(|e| e.number == WORKERS_EXTENSION)?;
        Reader::new(extension.body).u32("workers").ok()
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Recipe {
            name: r.str("name", limits::RECIPE_NAME_BYTES_MAX)?,
            kind: RecipeKind::read(r)?,
            encoding: Encoding::read(r)?,
            timeout_ms: r.u64("timeout_ms")?,
            queue_timeout_ms: r.u64("queue_timeout_ms")?,
            estimated_duration_ms: r.u64("estimated_duration_ms")?,
            concurrency_max: r.u32("concurrency_max")?,
            blocking: r.bool("blocking")?,
            idempotent: r.bool("idempotent")?,
            attempts_max: r.u32("attempts_max")?,
            payload_bytes_max: r.u64("payload_bytes_max")?,
            result_bytes_max: r.u64("result_bytes_max")?,
            description: r.str("description", limits::DESCRIPTION_BYTES_MAX)?,
            schema: r.option("schema", |r| r.str("schema", limits::SCHEMA_BYTES_MAX))?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.name);
        self.kind.put(out);
        self.encoding.put(out);
        put_u64(out, self.timeout_ms);
        put_u64(out, self.queue_timeout_ms);
        put_u64(out, self.estimated_duration_ms);
        put_u64(out, self.concurrency_max.into());
        put_bool(out, self.blocking);
        put_bool(out, self.idempotent);
        put_u64(out, self.attempts_max.into());
        put_u64(out, self.payload_bytes_max);
        put_u64(out, self.result_bytes_max);
        put_str(out, self.description);
        put_option(out, self.schema, put_str);
        self.extensions.put(out);
    }
}

/// The extension of a [`Recipe`] that says how many workers serve it.
pub fn workers_extension(workers: u32) -> ExtensionsBuf {
    let (mut body, mut extensions) = (Vec::new(), ExtensionsBuf::default());
    put_u64(&mut body, workers.into());
    let extension = Extension { number: WORKERS_EXTENSION, critical: false, body: &body };
    extensions.push(extension).expect("one short extension fits");
    extensions
}

/// The limits that apply to a tenant on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits<'a> {
    /// The largest frame the broker reads, in bytes after the prefix.
    pub frame_bytes_max: u32,
    /// The largest payload of an item, in bytes.
    pub payload_bytes_max: u64,
    /// Items a batch may have.
    pub batch_items_max: u64,
    /// Items of the tenant that run at once.
    pub concurrency_max: u32,
    /// Batches of the tenant that are open at once.
    pub batches_in_flight_max: u64,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> Limits<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Limits {
            frame_bytes_max: r.u32("frame_bytes_max")?,
            payload_bytes_max: r.u64("payload_bytes_max")?,
            batch_items_max: r.u64("batch_items_max")?,
            concurrency_max: r.u32("concurrency_max")?,
            batches_in_flight_max: r.u64("batches_in_flight_max")?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.frame_bytes_max.into());
        put_u64(out, self.payload_bytes_max);
        put_u64(out, self.batch_items_max);
        put_u64(out, self.concurrency_max.into());
        put_u64(out, self.batches_in_flight_max);
        self.extensions.put(out);
    }
}

/// What a tenant uses of one quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageLine<'a> {
    /// The quota's name.
    pub quota: &'a str,
    /// What is used now, in the quota's unit.
    pub current: u64,
    /// What is allowed; `None` when there is no limit.
    pub limit: Option<u64>,
}

/// What a tenant uses of its quotas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage<'a> {
    /// A line a quota.
    pub lines: Vec<UsageLine<'a>>,
}

impl<'a> Usage<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        let n = r.count("lines", limits::USAGE_LINES_MAX)?;
        let line = |r: &mut Reader<'a>| {
            Ok(UsageLine {
                quota: r.str("quota", limits::QUOTA_NAME_BYTES_MAX)?,
                current: r.u64("current")?,
                limit: r.option("limit", |r| r.u64("limit"))?,
            })
        };
        Ok(Usage { lines: (0..n).map(|_| line(r)).collect::<Result<_>>()? })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.lines.len() as u64);
        for l in &self.lines {
            put_str(out, l.quota);
            put_u64(out, l.current);
            put_option(out, l.limit, put_u64);
        }
    }
}

/// Of a `Recipe`: how many workers serve it.
const WORKERS_EXTENSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode::encode, frame::BrokerFrame};

    fn recipe(extensions: Extensions<'_>) -> Recipe<'_> {
        Recipe {
            name: "resize",
            kind: RecipeKind::Worker,
            encoding: Encoding::Bytes,
            timeout_ms: 5_000,
            queue_timeout_ms: 30_000,
            estimated_duration_ms: 0,
            concurrency_max: 0,
            blocking: false,
            idempotent: false,
            attempts_max: 5,
            payload_bytes_max: 1,
            result_bytes_max: 1,
            description: "",
            schema: None,
            extensions,
        }
    }

    #[test]
    fn the_number_of_workers_travels_as_an_extension() {
        for workers in [0, 1, 300, u32::MAX] {
            let extensions = workers_extension(workers);
            let mut frame = Vec::new();
            encode(&BrokerFrame::Recipe(recipe(extensions.as_extensions())), &mut frame);
            let Ok(BrokerFrame::Recipe(read)) = BrokerFrame::decode(&frame[4..]) else {
                panic!("a recipe")
            };
            assert_eq!(read.workers(), Some(workers));
        }
        assert_eq!(recipe(Extensions::EMPTY).workers(), None);
    }

    #[test]
    fn what_is_no_number_of_workers_is_none() {
        for body in [&[][..], &[0x80], &[0xff; 10]] {
            let mut extensions = ExtensionsBuf::default();
            let extension = Extension { number: WORKERS_EXTENSION, critical: false, body };
            extensions.push(extension).expect("it fits");
            assert_eq!(recipe(extensions.as_extensions()).workers(), None, "{body:?}");
        }
    }
}
