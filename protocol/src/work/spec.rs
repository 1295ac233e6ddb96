//! What a worker promises about a recipe that it registers.

use crate::{
    codec::{Reader, Result, put_bool, put_option, put_str, put_u64},
    describe::Encoding,
    limits,
    pairs::Extensions,
};

/// A recipe as its worker describes it. What is left out takes the broker's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it reads its payload.
    pub encoding: Encoding,
    /// The longest an attempt may run, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The longest an item waits to be started, in milliseconds.
    pub queue_timeout_ms: Option<u64>,
    /// How long it usually takes, in milliseconds.
    pub estimated_duration_ms: u64,
    /// How many run at once, on all workers together.
    pub concurrency_max: Option<u32>,
    /// Whether running it twice does no more than running it once.
    pub idempotent: bool,
    /// How often a job of it is tried.
    pub attempts_max: u32,
    /// How long a job waits before its second attempt, in milliseconds.
    pub retry_first_ms: u64,
    /// By how much each wait is longer than the one before, in per cent: 200 doubles it.
    pub retry_factor_percent: u32,
    /// The longest such wait, in milliseconds.
    pub retry_cap_ms: u64,
    /// The largest payload it takes, in bytes.
    pub payload_bytes_max: Option<u64>,
    /// The largest result it may give, in bytes.
    pub result_bytes_max: Option<u64>,
    /// For people.
    pub description: &'a str,
    /// JSON Schema of its payload.
    pub schema: Option<&'a str>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> RecipeSpec<'a> {
    /// A recipe of bytes with every choice left at its default.
    pub fn new(name: &'a str) -> Self {
        RecipeSpec {
            name,
            encoding: Encoding::Bytes,
            timeout_ms: None,
            queue_timeout_ms: None,
            estimated_duration_ms: 0,
            concurrency_max: None,
            idempotent: false,
            attempts_max: 5,
            retry_first_ms: 1_000,
            retry_factor_percent: 200,
            retry_cap_ms: 300_000,
            payload_bytes_max: None,
            result_bytes_max: None,
            description: "",
            schema: None,
            extensions: Extensions::EMPTY,
        }
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(RecipeSpec {
            name: r.str("name", limits::RECIPE_NAME_BYTES_MAX)?,
            encoding: Encoding::read(r)?,
            timeout_ms: r.option("timeout_ms", |r| r.u64("timeout_ms"))?,
            queue_timeout_ms: r.option("queue_timeout_ms", |r| r.u64("queue_timeout_ms"))?,
            estimated_duration_ms: r.u64("estimated_duration_ms")?,
            concurrency_max: r.option("concurrency_max", |r| r.u32("concurrency_max"))?,
            idempotent: r.bool("idempotent")?,
            attempts_max: r.u32("attempts_max")?,
            retry_first_ms: r.u64("retry_first_ms")?,
            retry_factor_percent: r.u32("retry_factor_percent")?,
            retry_cap_ms: r.u64("retry_cap_ms")?,
            payload_bytes_max: r.option("payload_bytes_max", |r| r.u64("payload_bytes_max"))?,
            result_bytes_max: r.option("result_bytes_max", |r| r.u64("result_bytes_max"))?,
            description: r.str("description", limits::DESCRIPTION_BYTES_MAX)?,
            schema: r.option("schema", |r| r.str("schema", limits::SCHEMA_BYTES_MAX))?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.name);
        self.encoding.put(out);
        put_option(out, self.timeout_ms, put_u64);
        put_option(out, self.queue_timeout_ms, put_u64);
        put_u64(out, self.estimated_duration_ms);
        put_option(out, self.concurrency_max.map(u64::from), put_u64);
        put_bool(out, self.idempotent);
        put_u64(out, self.attempts_max.into());
        put_u64(out, self.retry_first_ms);
        put_u64(out, self.retry_factor_percent.into());
        put_u64(out, self.retry_cap_ms);
        put_option(out, self.payload_bytes_max, put_u64);
        put_option(out, self.result_bytes_max, put_u64);
        put_str(out, self.description);
        put_option(out, self.schema, put_str);
        self.extensions.put(out);
    }
}
