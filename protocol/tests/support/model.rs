//! The frames once more, as serde and postcard see them: the model that the codec is held against.
//!
//! Numbers and layouts come from the order of variants and fields here, never from the crate.

use serde::{Serialize, Serializer};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Extension, Extensions, ExtensionsBuf, Pairs, PairsBuf, batch,
    describe, id::BatchId, topic as wire,
};

macro_rules! enums {
    ($($ty:ident = $real:path { $($variant:ident),* })*) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Serialize)]
        pub enum $ty { $($variant),* }

        impl $ty {
            pub const ALL: &[$ty] = &[$($ty::$variant),*];

            pub fn real(self) -> $real {
                use $real as Real;
                match self { $($ty::$variant => Real::$variant),* }
            }
        }
    )*};
}

// After the macro that they use.
pub mod job;
pub mod topic;
pub mod work;

enums! {
    Durability = batch::Durability { Ephemeral, Durable }
    Mode = batch::Mode { BestEffort, FailFast }
    Order = batch::Order { Completion, Submission }
    CancelScope = batch::CancelScope { Pending, All }
    Scope = batch::Scope { Tenant, Gateway, Broker }
    NoticeKind = batch::NoticeKind { Draining, CertificateExpiring }
    Ended = batch::Ended {
        Sealed, Cancelled, DeadlineExceeded, FailFast, Cut, SealedByBroker, Draining
    }
    Subject = describe::Subject { Recipes, Limits, Usage, Version }
    Encoding = describe::Encoding { Json, Postcard, Bytes }
    RecipeKind = describe::RecipeKind { Embedded, Upstream, Worker }
}

/// Bytes: as they are in a frame, as hex in JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&hex(&self.0))
        } else {
            s.serialize_bytes(&self.0)
        }
    }
}

/// 16 bytes: as they are in a frame, as hex in JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Id16(pub [u8; 16]);

impl Serialize for Id16 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&hex(&self.0)) } else { self.0.serialize(s) }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hex is ASCII");
        u8::from_str_radix(pair, 16).expect("two hex digits")
    };
    digits.chunks(2).map(byte).collect()
}

pub type Map = Vec<(String, String)>;

fn pairs(map: &Map) -> PairsBuf {
    let mut buf = PairsBuf::new();
    for (k, v) in map {
        buf.push(k, v).expect("the model stays in bounds");
    }
    buf
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ext {
    pub number: u32,
    pub critical: bool,
    pub body: Blob,
}

fn extensions(list: &[Ext]) -> ExtensionsBuf {
    let mut buf = ExtensionsBuf::default();
    for e in list {
        buf.push(Extension { number: e.number, critical: e.critical, body: &e.body.0 })
            .expect("the model stays in bounds");
    }
    buf
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchOpen {
    pub batch_id: Id16,
    pub tenant: Option<String>,
    pub durability: Durability,
    pub mode: Mode,
    pub order: Order,
    pub concurrency_max: u32,
    pub deadline_ms: Option<u64>,
    pub priority: u8,
    pub traceparent: Option<String>,
    pub extensions: Vec<Ext>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Describe {
    pub subject: Subject,
    pub tenant: Option<String>,
    pub extensions: Vec<Ext>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Request {
    pub id: u64,
    pub recipe: String,
    pub timeout_ms: Option<u64>,
    pub idempotency_key: Option<String>,
    pub not_before_unix_ms: Option<u64>,
    pub tenant: Option<String>,
    pub metadata: Map,
    pub payload: Blob,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Client {
    Batch(BatchOpen),
    Attach(job::Attach),
    Job(job::JobAsk),
    Produce(topic::ProduceOpen),
    Consume(topic::ConsumeOpen),
    Topic(topic::TopicAsk),
    Group(topic::GroupAsk),
    Work(work::WorkOpen),
    Describe(Describe),
    Request(Request),
    Seal { items: u64 },
    Cancel(CancelScope),
    Detach,
    Fetch(work::Fetch),
    Deliver(work::Deliver),
    Message(topic::Message),
    Ack(topic::Range),
    Nack(topic::Range),
}

impl Client {
    /// The crate's frame with these values.
    pub fn with<R>(&self, f: impl FnOnce(ClientFrame<'_>) -> R) -> R {
        match self {
            Client::Batch(x) => f(ClientFrame::Batch(batch::BatchOpen {
                batch_id: BatchId(x.batch_id.0),
                tenant: x.tenant.as_deref(),
                durability: x.durability.real(),
                mode: x.mode.real(),
                order: x.order.real(),
                concurrency_max: x.concurrency_max,
                deadline_ms: x.deadline_ms,
                priority: x.priority,
                traceparent: x.traceparent.as_deref(),
                extensions: extensions(&x.extensions).as_extensions(),
            })),
            Client::Attach(x) => x.with(|x| f(ClientFrame::Attach(x))),
            Client::Job(x) => x.with(|x| f(ClientFrame::Job(x))),
            Client::Produce(x) => x.with(|x| f(ClientFrame::Produce(x))),
            Client::Consume(x) => x.with(|x| f(ClientFrame::Consume(x))),
            Client::Topic(x) => x.with(|x| f(ClientFrame::Topic(x))),
            Client::Group(x) => x.with(|x| f(ClientFrame::Group(x))),
            Client::Work(x) => x.with(|x| f(ClientFrame::Work(x))),
            Client::Describe(x) => f(ClientFrame::Describe(describe::Describe {
                subject: x.subject.real(),
                tenant: x.tenant.as_deref(),
                extensions: extensions(&x.extensions).as_extensions(),
            })),
            Client::Request(x) => f(ClientFrame::Request(batch::Request {
                id: x.id,
                recipe: &x.recipe,
                timeout_ms: x.timeout_ms,
                idempotency_key: x.idempotency_key.as_deref(),
                not_before_unix_ms: x.not_before_unix_ms,
                tenant: x.tenant.as_deref(),
                metadata: pairs(&x.metadata).as_pairs(),
                payload: &x.payload.0,
            })),
            Client::Seal { items } => f(ClientFrame::Seal { items: *items }),
            Client::Cancel(scope) => f(ClientFrame::Cancel(scope.real())),
            Client::Detach => f(ClientFrame::Detach),
            Client::Fetch(x) => f(ClientFrame::Fetch(x.real())),
            Client::Deliver(x) => x.with(|x| f(ClientFrame::Deliver(x))),
            Client::Message(x) => x.with(|x| f(ClientFrame::Message(x))),
            Client::Ack(x) => f(ClientFrame::Ack(x.ack())),
            Client::Nack(x) => f(ClientFrame::Nack(x.nack())),
        }
    }

    /// The frame without its prefix, as postcard writes it.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("postcard writes every model")
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accepted {
    pub concurrency_max: u32,
    pub items_max: u64,
    pub frame_bytes_max: u32,
    pub payload_bytes_max: u64,
    pub deadline_ms: Option<u64>,
    pub last_id: Option<u64>,
    pub extensions: Vec<Ext>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    pub id: u64,
    pub attempt: u32,
    pub done: u64,
    pub total: u64,
    pub at_unix_ms: u64,
    pub message: String,
    pub metadata: Map,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quota {
    pub quota: String,
    pub scope: Scope,
    pub current: u64,
    pub limit: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    pub message: String,
    pub retryable: bool,
    pub side_effect_free: bool,
    pub retry_after_ms: Option<u64>,
    pub app_code: Option<String>,
    pub quota: Option<Quota>,
    pub details: Map,
}

impl Failure {
    fn with<R>(&self, f: impl FnOnce(batch::Failure<'_>) -> R) -> R {
        f(batch::Failure {
            message: &self.message,
            retryable: self.retryable,
            side_effect_free: self.side_effect_free,
            retry_after_ms: self.retry_after_ms,
            app_code: self.app_code.as_deref(),
            quota: self.quota.as_ref().map(|q| batch::QuotaRefusal {
                quota: &q.quota,
                scope: q.scope.real(),
                current: q.current,
                limit: q.limit,
            }),
            details: pairs(&self.details).as_pairs(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Body {
    Payload(Blob),
    Failure(Failure),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemResult {
    pub id: u64,
    pub tenant: Option<String>,
    pub status: u16,
    pub code: u16,
    pub attempts: u32,
    pub queued_us: u64,
    pub duration_us: u64,
    pub epoch: u64,
    pub sequence: u64,
    pub metadata: Map,
    pub extensions: Vec<Ext>,
    pub body: Body,
}

impl ItemResult {
    pub fn with<R>(&self, f: impl FnOnce(batch::ItemResult<'_>) -> R) -> R {
        let (metadata, extensions) = (pairs(&self.metadata), extensions(&self.extensions));
        let (metadata, extensions) = (metadata.as_pairs(), extensions.as_extensions());
        match &self.body {
            Body::Payload(p) => f(self.real(metadata, extensions, batch::Body::Payload(&p.0))),
            Body::Failure(x) => {
                x.with(|x| f(self.real(metadata, extensions, batch::Body::Failure(x))))
            }
        }
    }

    fn real<'a>(
        &'a self,
        metadata: Pairs<'a>,
        extensions: Extensions<'a>,
        body: batch::Body<'a>,
    ) -> batch::ItemResult<'a> {
        batch::ItemResult {
            id: self.id,
            tenant: self.tenant.as_deref(),
            status: self.status,
            code: self.code,
            attempts: self.attempts,
            queued_us: self.queued_us,
            duration_us: self.duration_us,
            number: batch::Number { epoch: self.epoch, sequence: self.sequence },
            metadata,
            extensions,
            body,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throttled {
    pub quota: String,
    pub scope: Scope,
    pub current: u64,
    pub limit: u64,
    pub resume_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    pub kind: NoticeKind,
    pub at_unix_ms: u64,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub ended: Ended,
    pub total: u64,
    pub succeeded: u64,
    pub failed: Vec<(u16, u64)>,
    pub last_id_read: Option<u64>,
    pub duration_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub throttled_us: u64,
    pub epoch: u64,
    pub sequence: u64,
    pub extensions: Vec<Ext>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    pub name: String,
    pub kind: RecipeKind,
    pub encoding: Encoding,
    pub timeout_ms: u64,
    pub queue_timeout_ms: u64,
    pub estimated_duration_ms: u64,
    pub concurrency_max: u32,
    pub blocking: bool,
    pub idempotent: bool,
    pub attempts_max: u32,
    pub payload_bytes_max: u64,
    pub result_bytes_max: u64,
    pub description: String,
    pub schema: Option<String>,
    pub extensions: Vec<Ext>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limits {
    pub frame_bytes_max: u32,
    pub payload_bytes_max: u64,
    pub batch_items_max: u64,
    pub concurrency_max: u32,
    pub batches_in_flight_max: u64,
    pub extensions: Vec<Ext>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UsageLine {
    pub quota: String,
    pub current: u64,
    pub limit: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Broker {
    Accepted(Accepted),
    Progress(Progress),
    Result(ItemResult),
    Throttled(Throttled),
    Notice(Notice),
    JobAccepted(job::JobAccepted),
    Gap(job::Gap),
    Summary(Summary),
    Error { code: u16, failure: Failure },
    Version { protocol: String, broker: String },
    Recipe(Recipe),
    Limits(Limits),
    Usage { lines: Vec<UsageLine> },
    End,
    Job(job::JobInfo),
    Jobs(job::Jobs),
    Topic(topic::TopicInfo),
    Group(topic::GroupInfo),
    Listed(topic::Listed),
    ProduceAccepted(topic::ProduceAccepted),
    Produced(topic::Produced),
    Received { sequence: u64 },
    ProduceFailed(topic::ProduceFailed),
    ConsumeAccepted(topic::ConsumeAccepted),
    Delivery(topic::Delivery),
    Assigned(topic::Assigned),
    Committed(topic::Committed),
}

impl Broker {
    /// The crate's frame with these values.
    pub fn with<R>(&self, f: impl FnOnce(BrokerFrame<'_>) -> R) -> R {
        match self {
            Broker::Accepted(x) => f(BrokerFrame::Accepted(batch::Accepted {
                concurrency_max: x.concurrency_max,
                items_max: x.items_max,
                frame_bytes_max: x.frame_bytes_max,
                payload_bytes_max: x.payload_bytes_max,
                deadline_ms: x.deadline_ms,
                last_id: x.last_id,
                extensions: extensions(&x.extensions).as_extensions(),
            })),
            Broker::Progress(x) => f(BrokerFrame::Progress(batch::Progress {
                id: x.id,
                attempt: x.attempt,
                done: x.done,
                total: x.total,
                at_unix_ms: x.at_unix_ms,
                message: &x.message,
                metadata: pairs(&x.metadata).as_pairs(),
            })),
            Broker::Result(x) => x.with(|x| f(BrokerFrame::Result(x))),
            Broker::Throttled(x) => f(BrokerFrame::Throttled(batch::Throttled {
                quota: &x.quota,
                scope: x.scope.real(),
                current: x.current,
                limit: x.limit,
                resume_ms: x.resume_ms,
            })),
            Broker::Notice(x) => f(BrokerFrame::Notice(batch::Notice {
                kind: x.kind.real(),
                at_unix_ms: x.at_unix_ms,
                message: &x.message,
            })),
            Broker::JobAccepted(x) => x.with(|x| f(BrokerFrame::JobAccepted(x))),
            Broker::Gap(x) => x.with(|x| f(BrokerFrame::Gap(x))),
            Broker::Summary(x) => f(BrokerFrame::Summary(batch::Summary {
                ended: x.ended.real(),
                total: x.total,
                succeeded: x.succeeded,
                failed: x.failed.clone(),
                last_id_read: x.last_id_read,
                duration_us: x.duration_us,
                bytes_in: x.bytes_in,
                bytes_out: x.bytes_out,
                throttled_us: x.throttled_us,
                number: batch::Number { epoch: x.epoch, sequence: x.sequence },
                extensions: extensions(&x.extensions).as_extensions(),
            })),
            Broker::Error { code, failure } => {
                failure.with(|failure| f(BrokerFrame::Error { code: *code, failure }))
            }
            Broker::Version { protocol, broker } => {
                f(BrokerFrame::Version(describe::Version { protocol, broker }))
            }
            Broker::Recipe(x) => f(BrokerFrame::Recipe(describe::Recipe {
                name: &x.name,
                kind: x.kind.real(),
                encoding: x.encoding.real(),
                timeout_ms: x.timeout_ms,
                queue_timeout_ms: x.queue_timeout_ms,
                estimated_duration_ms: x.estimated_duration_ms,
                concurrency_max: x.concurrency_max,
                blocking: x.blocking,
                idempotent: x.idempotent,
                attempts_max: x.attempts_max,
                payload_bytes_max: x.payload_bytes_max,
                result_bytes_max: x.result_bytes_max,
                description: &x.description,
                schema: x.schema.as_deref(),
                extensions: extensions(&x.extensions).as_extensions(),
            })),
            Broker::Limits(x) => f(BrokerFrame::Limits(describe::Limits {
                frame_bytes_max: x.frame_bytes_max,
                payload_bytes_max: x.payload_bytes_max,
                batch_items_max: x.batch_items_max,
                concurrency_max: x.concurrency_max,
                batches_in_flight_max: x.batches_in_flight_max,
                extensions: extensions(&x.extensions).as_extensions(),
            })),
            Broker::Usage { lines } => f(BrokerFrame::Usage(describe::Usage {
                lines: lines
                    .iter()
                    .map(|l| describe::UsageLine {
                        quota: &l.quota,
                        current: l.current,
                        limit: l.limit,
                    })
                    .collect(),
            })),
            Broker::End => f(BrokerFrame::End),
            Broker::Job(x) => x.with(|x| f(BrokerFrame::Job(x))),
            Broker::Jobs(x) => f(BrokerFrame::Jobs(x.real())),
            Broker::Topic(x) => x.with(|x| f(BrokerFrame::Topic(x))),
            Broker::Group(x) => x.with(|x| f(BrokerFrame::Group(x))),
            Broker::Listed(x) => f(BrokerFrame::Listed(x.real())),
            Broker::ProduceAccepted(x) => x.with(|x| f(BrokerFrame::ProduceAccepted(x))),
            Broker::Produced(x) => f(BrokerFrame::Produced(x.real())),
            Broker::Received { sequence } => {
                f(BrokerFrame::Received(wire::Received { sequence: *sequence }))
            }
            Broker::ProduceFailed(x) => x.with(|x| f(BrokerFrame::ProduceFailed(x))),
            Broker::ConsumeAccepted(x) => x.with(|x| f(BrokerFrame::ConsumeAccepted(x))),
            Broker::Delivery(x) => x.with(|x| f(BrokerFrame::Delivery(x))),
            Broker::Assigned(x) => f(BrokerFrame::Assigned(x.real())),
            Broker::Committed(x) => f(BrokerFrame::Committed(x.real())),
        }
    }

    /// The frame without its prefix, as postcard writes it.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("postcard writes every model")
    }
}
