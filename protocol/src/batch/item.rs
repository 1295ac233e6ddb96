//! One sub-request of a batch, its progress and its result.

use super::Failure;
use crate::{
    codec::{
        DecodeError, Head, Problem, Reader, Result, put_bytes, put_option, put_str, put_u64, varint,
    },
    limits,
    pairs::{Extensions, Pairs},
};

/// A place in the order in which durable outcomes were committed; (0, 0) for what is not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Number {
    /// Changes only when the number space was lost.
    pub epoch: u64,
    /// Rises within an epoch, over all of the tenant's jobs: a reader of some sees steps.
    pub sequence: u64,
}

impl Number {
    #[inline]
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Number { epoch: r.u64("epoch")?, sequence: r.u64("sequence")? })
    }

    #[inline]
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.epoch);
        put_u64(out, self.sequence);
    }
}

/// A request's fields between its recipe and its payload when none of them is given: four options
/// and the number of pairs.
const NO_OPTIONS: [u8; 5] = [0; 5];
/// The longest recipe that a [`Head`] has room for beside all else.
const SHORT_RECIPE_BYTES: usize = 32;

/// One sub-request. The payload is the last field, so that everything else is judged before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Strictly larger than every id before it in the batch.
    pub id: u64,
    /// The recipe to run.
    pub recipe: &'a str,
    /// Running time, in milliseconds; may only shorten the recipe's own.
    pub timeout_ms: Option<u64>,
    /// Makes the item a job that is run once for this key.
    pub idempotency_key: Option<&'a str>,
    /// Makes the item a job that does not start before this time, in milliseconds since the Unix
    /// epoch.
    pub not_before_unix_ms: Option<u64>,
    /// Gateways only: the tenant this item is for.
    pub tenant: Option<&'a str>,
    /// For the recipe.
    pub metadata: Pairs<'a>,
    /// For the recipe.
    pub payload: &'a [u8],
}

impl<'a> Request<'a> {
    /// A request with nothing but a recipe and a payload.
    pub fn new(id: u64, recipe: &'a str, payload: &'a [u8]) -> Self {
        Request {
            id,
            recipe,
            timeout_ms: None,
            idempotency_key: None,
            not_before_unix_ms: None,
            tenant: None,
            metadata: Pairs::EMPTY,
            payload,
        }
    }

    /// Whether it asks for nothing but to be run, for whoever sent it: it has no options but
    /// metadata.
    #[inline]
    pub fn is_bare(&self) -> bool {
        self.timeout_ms.is_none()
            && self.idempotency_key.is_none()
            && self.not_before_unix_ms.is_none()
            && self.tenant.is_none()
    }

    /// Whether it says nothing but its id, its recipe (which is short) and its payload, as most do.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.recipe.len() <= SHORT_RECIPE_BYTES && self.is_bare() && self.metadata.is_empty()
    }

    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        let id = r.u64("id")?;
        Self::read_rest(id, r).map_err(|e| DecodeError { item: Some(id), ..e })
    }

    /// Reads a request that says nothing but its id, its payload and this recipe. None for any other,
    /// well formed or not.
    #[inline]
    pub(crate) fn read_plain(fields: &'a [u8], recipe: &'a str) -> Option<Self> {
        let (id, rest) = varint(fields)?;
        let (&len, rest) = rest.split_first().filter(|(len, _)| **len < 0x80)?;
        let (name, rest) = rest.split_at_checked(len.into())?;
        let (len, payload) = varint(rest.strip_prefix(&NO_OPTIONS)?)?;
        let plain = name == recipe.as_bytes() && len == payload.len() as u64;
        plain.then(|| Request::new(id, recipe, payload))
    }

    #[inline]
    fn read_rest(id: u64, r: &mut Reader<'a>) -> Result<Self> {
        let recipe = r.str("recipe", limits::RECIPE_NAME_BYTES_MAX)?;
        if r.skip(&NO_OPTIONS) {
            let payload = r.bytes("payload", limits::FRAME_BYTES_HARD_MAX)?;
            return Ok(Request::new(id, recipe, payload));
        }
        Ok(Request {
            id,
            recipe,
            timeout_ms: r.option("timeout_ms", |r| r.u64("timeout_ms"))?,
            idempotency_key: r.option("idempotency_key", |r| {
                r.str("idempotency_key", limits::IDEMPOTENCY_KEY_BYTES_MAX)
            })?,
            not_before_unix_ms: r.option("not_before_unix_ms", |r| r.u64("not_before_unix_ms"))?,
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            metadata: Pairs::read("metadata", r)?,
            payload: r.bytes("payload", limits::FRAME_BYTES_HARD_MAX)?,
        })
    }

    /// What a request that [`is_short`](Self::is_short) says before the bytes of its payload.
    #[inline]
    pub(crate) fn put_short(&self, payload_len: usize, head: &mut Head<'_>) {
        head.u64(self.id);
        head.u64(self.recipe.len() as u64);
        head.put(self.recipe.as_bytes());
        head.put(&NO_OPTIONS);
        head.u64(payload_len as u64);
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.id);
        put_str(out, self.recipe);
        put_option(out, self.timeout_ms, put_u64);
        put_option(out, self.idempotency_key, put_str);
        put_option(out, self.not_before_unix_ms, put_u64);
        put_option(out, self.tenant, put_str);
        self.metadata.put(out);
        put_bytes(out, self.payload);
    }
}

/// How far an item has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Which item.
    pub id: u64,
    /// Which attempt, from 1; `done` never falls within one.
    pub attempt: u32,
    /// What is done, in units of the recipe's choice.
    pub done: u64,
    /// What there is to do in all; 0 when that is not known.
    pub total: u64,
    /// When it was reported, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// For people.
    pub message: &'a str,
    /// From the recipe.
    pub metadata: Pairs<'a>,
}

impl<'a> Progress<'a> {
    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Progress {
            id: r.u64("id")?,
            attempt: r.u32("attempt")?,
            done: r.u64("done")?,
            total: r.u64("total")?,
            at_unix_ms: r.u64("at_unix_ms")?,
            message: r.str("message", limits::MESSAGE_BYTES_MAX)?,
            metadata: Pairs::read("metadata", r)?,
        })
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.id);
        put_u64(out, self.attempt.into());
        put_u64(out, self.done);
        put_u64(out, self.total);
        put_u64(out, self.at_unix_ms);
        put_str(out, self.message);
        self.metadata.put(out);
    }
}

/// What an item came to: the last field of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// The recipe's answer.
    Payload(&'a [u8]),
    /// Why there is none.
    Failure(Failure<'a>),
}

/// The end of one item: exactly one for every item that the broker read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemResult<'a> {
    /// Which item.
    pub id: u64,
    /// Gateways only: the tenant it was for.
    pub tenant: Option<&'a str>,
    /// The outcome as an HTTP status: 200 for success.
    pub status: u16,
    /// The outcome as a number of the table of codes: 0 for success.
    pub code: u16,
    /// How many times it was started.
    pub attempts: u32,
    /// How long it waited before its last start, in microseconds.
    pub queued_us: u64,
    /// How long its last attempt ran, in microseconds.
    pub duration_us: u64,
    /// Its place among the durable outcomes; (0, 0) when it is not durable.
    pub number: Number,
    /// From the recipe.
    pub metadata: Pairs<'a>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
    /// Payload or error.
    pub body: Body<'a>,
}

/// The result of an item that ended well, says nothing beside its payload and is not durable, as
/// most are: but for the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Success {
    /// Which item.
    pub id: u64,
    /// How many times it was started.
    pub attempts: u32,
    /// How long it waited before its last start, in microseconds.
    pub queued_us: u64,
    /// How long its last attempt ran, in microseconds.
    pub duration_us: u64,
}

impl Success {
    /// Decodes a broker's frame, without its length prefix, if it is one of these, and gives the
    /// payload beside it. None for any other frame, well formed or not: faster than
    /// [`BrokerFrame::decode`](crate::BrokerFrame::decode), which reads these as well.
    #[inline]
    pub fn decode(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (id, rest) = varint(frame.strip_prefix(&[RESULT])?)?;
        let (attempts, rest) = varint(rest.strip_prefix(&SUCCEEDED)?)?;
        let (queued_us, rest) = varint(rest)?;
        let (duration_us, rest) = varint(rest)?;
        let (len, payload) = varint(rest.strip_prefix(&PLAIN_PAYLOAD)?)?;
        // Four bytes hold no more than 28 bits.
        let success = Success { id, attempts: attempts as u32, queued_us, duration_us };
        (len == payload.len() as u64).then_some((success, payload))
    }

    /// The whole of the result.
    #[inline]
    pub fn result(self, payload: &[u8]) -> ItemResult<'_> {
        let Success { id, attempts, queued_us, duration_us } = self;
        ItemResult {
            id,
            tenant: None,
            status: 200,
            code: 0,
            attempts,
            queued_us,
            duration_us,
            number: Number::default(),
            metadata: Pairs::EMPTY,
            extensions: Extensions::EMPTY,
            body: Body::Payload(payload),
        }
    }

    #[inline]
    pub(crate) fn put(&self, payload_len: usize, head: &mut Head<'_>) {
        head.u64(self.id);
        head.put(&SUCCEEDED);
        head.u64(self.attempts.into());
        head.u64(self.queued_us);
        head.u64(self.duration_us);
        head.put(&PLAIN_PAYLOAD);
        head.u64(payload_len as u64);
    }
}

impl<'a> Body<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(match r.variant("body")? {
            BODY_PAYLOAD => Body::Payload(r.bytes("payload", limits::FRAME_BYTES_HARD_MAX)?),
            BODY_FAILURE => Body::Failure(Failure::read(r)?),
            v => return Err(DecodeError::new("body", Problem::UnknownVariant(v.into()))),
        })
    }
}

/// The variant of a result among the frames of a broker.
pub(crate) const RESULT: u8 = 2;
const BODY_PAYLOAD: u32 = 0;
const BODY_FAILURE: u32 = 1;
/// A result's fields between its id and its attempts when it succeeded and names no tenant.
const SUCCEEDED: [u8; 4] = [0, 0xc8, 0x01, 0];
/// A result's fields between its times and the length of its payload when it is not durable and
/// has no metadata and no extensions.
const PLAIN_PAYLOAD: [u8; 5] = [0; 5];

impl<'a> ItemResult<'a> {
    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        let id = r.u64("id")?;
        let (tenant, status, code) = if r.skip(&SUCCEEDED) {
            (None, 200, 0)
        } else {
            let tenant = r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?;
            (tenant, r.u16("status")?, r.u16("code")?)
        };
        let attempts = r.u32("attempts")?;
        let (queued_us, duration_us) = (r.u64("queued_us")?, r.u64("duration_us")?);
        let (number, metadata, extensions, body) = if r.skip(&PLAIN_PAYLOAD) {
            let payload = r.bytes("payload", limits::FRAME_BYTES_HARD_MAX)?;
            (Number::default(), Pairs::EMPTY, Extensions::EMPTY, Body::Payload(payload))
        } else {
            let (number, metadata) = (Number::read(r)?, Pairs::read("metadata", r)?);
            (number, metadata, Extensions::read(r)?, Body::read(r)?)
        };
        Ok(ItemResult {
            id,
            tenant,
            status,
            code,
            attempts,
            queued_us,
            duration_us,
            number,
            metadata,
            extensions,
            body,
        })
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.put_head(out);
        match &self.body {
            Body::Payload(p) => {
                put_u64(out, BODY_PAYLOAD.into());
                put_bytes(out, p);
            }
            Body::Failure(f) => Self::put_failure(f, out),
        }
    }

    pub(crate) fn put_failure(f: &Failure<'_>, out: &mut Vec<u8>) {
        put_u64(out, BODY_FAILURE.into());
        f.put(out);
    }

    /// Whether it is a success that says nothing but its payload and its times, as most do.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        (self.status, self.code) == (200, 0)
            && self.tenant.is_none()
            && self.number == Number::default()
            && self.metadata.is_empty()
            && self.extensions.is_empty()
    }

    /// What a result that [`is_short`](Self::is_short) says, but for its payload.
    #[inline]
    pub(crate) fn as_success(&self) -> Success {
        Success {
            id: self.id,
            attempts: self.attempts,
            queued_us: self.queued_us,
            duration_us: self.duration_us,
        }
    }

    /// Everything but the body.
    #[inline]
    pub(crate) fn put_head(&self, out: &mut Vec<u8>) {
        put_u64(out, self.id);
        put_option(out, self.tenant, put_str);
        put_u64(out, self.status.into());
        put_u64(out, self.code.into());
        put_u64(out, self.attempts.into());
        put_u64(out, self.queued_us);
        put_u64(out, self.duration_us);
        self.number.put(out);
        self.metadata.put(out);
        self.extensions.put(out);
    }

    /// Everything up to a payload of `payload_len` bytes, whatever `body` is: for a sender that
    /// hands the payload over apart.
    #[inline]
    pub(crate) fn put_before_payload(&self, payload_len: usize, out: &mut Vec<u8>) {
        self.put_head(out);
        put_u64(out, BODY_PAYLOAD.into());
        put_u64(out, payload_len as u64);
    }
}
