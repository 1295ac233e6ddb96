//! Batches over HTTP: a line of JSON an item in, a line of JSON a result out, streamed.
//!
//! The same engine as on QUIC, driven on the engine's own runtime; the body's bytes cross to it and
//! back through bounded channels, so that what is not read stays with the client.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde::Deserialize;
use tokio::sync::mpsc;
use tollgate_protocol::{
    Code,
    batch::{BatchOpen, Durability, Mode, Order},
    id::BatchId,
    limits,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::{Named, Query, expect_type},
    io::Peer,
    problem::{Answer, Document, Problem},
    trust::Certificate,
};
use crate::{
    batch::{Failure, Holder, Run},
    broker::Drain,
    tenancy::State as Standing,
};

mod drive;
mod ending;
mod input;
mod line;
pub(super) mod news;
pub(super) mod output;
mod timers;

use drive::{Drive, Opened};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(run))
}

/// What is asked of a batch.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct Params {
    /// What one item's failure means for the others: nothing, or that nothing more is started.
    #[param(inline, required = false)]
    mode: Option<BatchMode>,
    /// In which order results come: as each item finishes, or that of the requests.
    #[param(inline, required = false)]
    order: Option<BatchOrder>,
    /// The most items to run at once.
    #[param(minimum = 1)]
    concurrency_max: Option<u32>,
    /// How long the batch may take, in milliseconds.
    deadline_ms: Option<u64>,
    /// From 0 to 7, 7 first.
    #[param(minimum = 0, maximum = 7)]
    priority: Option<u8>,
    /// `1`: the batch outlives this request: every item becomes a job.
    durable: Option<String>,
    /// `1`: the answer ends once every item is kept. Of durable batches.
    detach: Option<String>,
    /// The id of the batch, a UUID: that of a durable batch which is open goes on with it.
    batch_id: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BatchMode {
    BestEffort,
    FailFast,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BatchOrder {
    Completion,
    Submission,
}

impl Params {
    fn open<'a>(&self, traceparent: Option<&'a str>) -> Answer<BatchOpen<'a>> {
        let id = match self.batch_id.as_deref() {
            None => BatchId::random(),
            Some(id) => match uuid::Uuid::parse_str(id) {
                Ok(id) => BatchId(id.into_bytes()),
                Err(_) => return Err(Problem::validation("batch_id", "batch_id is not a UUID")),
            },
        };
        let mut open = BatchOpen::new(id);
        open.traceparent = traceparent.filter(|t| t.len() <= limits::TRACEPARENT_BYTES_MAX);
        if let Some(BatchMode::FailFast) = self.mode {
            open.mode = Mode::FailFast;
        }
        if let Some(BatchOrder::Submission) = self.order {
            open.order = Order::Submission;
        }
        open.concurrency_max = match self.concurrency_max {
            Some(0) => return Err(Problem::validation("concurrency_max", "must be at least 1")),
            asked => asked.unwrap_or(0),
        };
        open.deadline_ms = self.deadline_ms;
        open.priority = match self.priority {
            Some(p) if p > limits::PRIORITY_MAX => {
                return Err(Problem::validation("priority", "must be from 0 to 7"));
            }
            asked => asked.unwrap_or(limits::PRIORITY_DEFAULT),
        };
        if flag("durable", self.durable.as_deref())? {
            open.durability = Durability::Durable;
        }
        if self.detaches()? && open.durability != Durability::Durable {
            return Err(Problem::validation("detach", "only a durable batch can be detached from"));
        }
        Ok(open)
    }

    fn detaches(&self) -> Answer<bool> {
        flag("detach", self.detach.as_deref())
    }
}

fn flag(field: &str, value: Option<&str>) -> Answer<bool> {
    match value {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(Problem::validation(field, "must be 0 or 1")),
    }
}

/// Run a batch
///
/// Newline-delimited JSON both ways, streamed: results come while later items are still sent. A line
/// in is an item, `{"recipe":"echo","payload":<any JSON>}`, with `payload_base64` instead for other
/// bytes, and if wanted `id` (rising; numbered from 1 otherwise), `timeout_ms`, `metadata` (a
/// string map), `idempotency_key` and `not_before` (RFC 3339). An item with one of these two, of a
/// recipe that takes long, or of a durable batch becomes a job, which is kept before `job_accepted`
/// says so and goes on whoever hangs up. A line that is no such item is that item's result, with the number of the `line` in
/// its details, and the others go on; only where the items before it have ids of their own, so that
/// nobody can say which id it has, does it end the batch. Lines out are objects with one member: first `accepted`, then `job_accepted`, `progress`, `result`,
/// `throttled`, `notice` and, in silence, `alive`; last `summary`, or `error` when the batch failed
/// as a whole. The end of the body seals the batch; who hangs up cancels what is no job. A durable batch is
/// detached from instead: cut off before its end, it can be gone on with by its `batch_id` until
/// the broker seals it (`jobs.seal_ttl_ms`). Read while you write:
/// while results are not taken, nothing more is read.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/batches", tag = "batches",
    params(("id" = String, Path, description = "The tenant"), Params,
        ("traceparent" = Option<String>, Header, description = "W3C trace context")),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, description = "The batch was opened: lines of JSON", body = String,
            content_type = "application/x-ndjson"),
        (status = 409, description = "A batch of this id is open, or sealed", body = Document,
            content_type = "application/problem+json"),
        (status = 429, description = "A rate is used up", body = Document,
            content_type = "application/problem+json")))]
async fn run(
    State(api): State<Api>,
    Named(id): Named,
    Query(params): Query<Params>,
    request: Request,
) -> Answer<Response> {
    let tenant = api.tenant(&id).ok_or_else(Problem::no_tenant)?;
    if tenant.state() != Standing::Active {
        return Err(Problem::forbidden("the tenant is suspended"));
    }
    expect_type(request.headers(), LINES[0], |t| LINES.contains(&t))?;
    let traceparent = text(request.headers(), "traceparent").map(str::to_owned);
    let open = params.open(traceparent.as_deref())?;
    let services = &api.services;
    if *services.drain.borrow() != Drain::No {
        return Err(Problem::new(Code::Draining, "the broker is shutting down"));
    }
    services.memory.admit()?;
    let engine = services.engine.clone();
    let permit = engine.permit(&tenant)?;
    let durable = open.durability == Durability::Durable;
    let open_id = services.open_ids.enter(Holder::Tenant(tenant.index()), open.batch_id);
    // A durable batch may be opened again once its other stream is gone.
    let open_id = open_id.map_err(|failure| Failure { retryable: durable, ..failure })?;
    services.tenants.book().seen(&tenant);
    let now = Instant::now();
    let line_bytes_max = api.config().line_bytes_max;
    let (terms, mut accepted) = engine.grant(&open, Some(&tenant), line_bytes_max, now);
    let mut run = Run::new(engine, terms, &open, now);
    if durable {
        let fail_fast = open.mode == Mode::FailFast;
        match services.jobs.open_batch(&tenant, open.batch_id, fail_fast).await {
            Ok(last_id) => accepted.last_id = last_id,
            Err(failure) => {
                run.fails();
                return Err(failure.into());
            }
        }
        run.resume_jobs(&tenant);
    }
    let presented = request.extensions().get::<Peer>().and_then(|peer| peer.certificate.as_ref());
    let expires = presented.map(Certificate::expires);
    let asks_first = request.headers().contains_key(header::EXPECT);
    let body = input::Begun::with(request.into_body(), asks_first).await;
    let (body_in, lines_in) = mpsc::channel(CHUNKS_IN);
    let (chunks_out, mut body_out) = mpsc::channel(CHUNKS_OUT);
    let (permits, batch_id) = ((permit, open_id), open.batch_id);
    let detaches = params.detaches()?;
    let opened = Opened { tenant, run, permits, accepted, batch_id, detaches, expires };
    let drive = Drive::new(Arc::clone(services), opened, lines_in, chunks_out);
    // On the engine's runtime: this thread is for everyone's requests.
    api.engine.spawn(services.batches.track_future(drive.finish()));
    tokio::spawn(input::pump(body, body_in));
    let chunks = stream::poll_fn(move |cx| body_out.poll_recv(cx));
    let chunks = futures::StreamExt::map(chunks, Ok::<_, std::convert::Infallible>);
    let headers = [(header::CONTENT_TYPE, LINES[0]), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// What lines of JSON are called; the first is what ours are.
const LINES: [&str; 4] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
/// Chunks of a body on their way to the engine: of at most 64 KiB each, as the server reads.
const CHUNKS_IN: usize = 2;
/// Chunks of results on their way to the client: of some 32 KiB each, large payloads aside.
const CHUNKS_OUT: usize = 2;
