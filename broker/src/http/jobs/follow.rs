//! What becomes of a job, or of all jobs of a batch, as lines: what is kept of it first, then what
//! happens.
//!
//! A reader changes nothing by going away. Driven on the engine's runtime, as batches are.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    body::{Body, Bytes},
    extract::{Extension, Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures::{FutureExt, StreamExt, stream};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tollgate_protocol::{Code, batch::Number, id::BatchId};
use utoipa::IntoParams;

use super::{
    super::{
        api::Api,
        auth::Caller,
        batches::{
            news::{News, changed, drain_changed, expiring},
            output::{FLUSH_BYTES, Output},
        },
        extract::{Both, Query},
        io::Peer,
        problem::{Answer, Problem},
        trust::Certificate,
    },
    job_id, pay, tenant,
};
use crate::{
    batch::{Failure, Sink, Told},
    broker::Drain,
    jobs::{Attached, Subject},
    tenancy::{Changes, Tenant},
};

/// How many read what becomes of jobs, of each tenant. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Readers(Arc<Mutex<HashMap<u32, usize>>>);

/// A reader's place among those of its tenant.
struct Place(Readers, u32);

impl Readers {
    fn enter(&self, tenant: u32, max: usize) -> Answer<Place> {
        let mut readers = self.lock();
        let now = readers.get(&tenant).copied().unwrap_or(0);
        if now >= max {
            let detail = format!("{max} streams of the tenant's jobs are open, as many as may be");
            let problem = Problem::new(Code::Overloaded, detail);
            return Err(problem.detail("config_key", "http.job_streams_max"));
        }
        readers.insert(tenant, now + 1);
        Ok(Place(self.clone(), tenant))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut readers = self.0.lock();
        match readers.get_mut(&self.1) {
            Some(now) if *now > 1 => *now -= 1,
            _ => _ = readers.remove(&self.1),
        }
    }
}

/// From where, and how long.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// The last number that was seen, as `epoch.sequence`: what came after it is told.
    #[param(required = false, pattern = "^[0-9]+\\.[0-9]+$")]
    after: Option<String>,
    /// `false`: only what is kept already. Otherwise what happens follows, until all is over.
    #[param(required = false)]
    follow: Option<bool>,
}

impl Params {
    pub(super) fn after(&self) -> Answer<Number> {
        let Some(text) = &self.after else { return Ok(Number::default()) };
        let wrong = || Problem::validation("after", "after is epoch.sequence, as results have it");
        let (epoch, sequence) = text.split_once('.').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        Ok(Number { epoch: number(epoch)?, sequence: number(sequence)? })
    }
}

/// Follow a job
///
/// Lines as of a batch: `job_accepted`, `progress`, `result`; in silence `alive`. What is kept comes
/// first, from the beginning or from what was seen last. `gap` stands before everything when the
/// number in `after` means nothing any more. The answer ends when the job is over; a line `error` says
/// why it ended sooner.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/jobs/{job}/events", tag = "jobs",
    params(("id" = String, Path, description = "The tenant"),
        ("job" = String, Path, description = "The job"), Params),
    responses((status = 200, description = "Lines of JSON", body = String,
        content_type = "application/x-ndjson")))]
pub(super) async fn job(
    State(api): State<Api>,
    Both(id, job): Both,
    Query(params): Query<Params>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Response> {
    let asked = Asked { subject: Subject::Job(job_id(&job)?), params, caller };
    begin(&api, &id, asked, expires(&request)).await
}

/// Follow the jobs of a batch
///
/// As of one job: the lines of all of them in the order of their numbers, and last the `summary` of a
/// durable batch. Of a batch that is not durable, its jobs only.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/batches/{batch}/events", tag = "jobs",
    params(("id" = String, Path, description = "The tenant"),
        ("batch" = String, Path, description = "The batch"), Params),
    responses((status = 200, description = "Lines of JSON", body = String,
        content_type = "application/x-ndjson")))]
pub(super) async fn batch(
    State(api): State<Api>,
    Both(id, batch): Both,
    Query(params): Query<Params>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Response> {
    let batch = uuid::Uuid::parse_str(&batch);
    let batch = batch.map_err(|_| Problem::new(Code::NotFound, "there is no such batch"))?;
    let subject = Subject::Batch(BatchId(batch.into_bytes()));
    begin(&api, &id, Asked { subject, params, caller }, expires(&request)).await
}

/// What is to be read, and by whom.
struct Asked {
    subject: Subject,
    params: Params,
    caller: Caller,
}

/// When the certificate that the client came with expires.
fn expires(request: &Request) -> Option<SystemTime> {
    let presented = request.extensions().get::<Peer>().and_then(|peer| peer.certificate.as_ref());
    presented.map(Certificate::expires)
}

async fn begin(api: &Api, id: &str, asked: Asked, expires: Option<SystemTime>) -> Answer<Response> {
    let Asked { subject, params, caller } = asked;
    let tenant = tenant(api, id)?;
    let (after, follow) = (params.after()?, params.follow.unwrap_or(true));
    let place = api.readers.enter(tenant.index(), api.config().job_streams_max)?;
    let services = &api.services;
    let attached = services.jobs.attach(&tenant, subject, after, follow).await?;
    let limits = &services.config.limits;
    let ahead = Duration::from_millis(limits.expiry_notice_ms);
    let mut drain = services.drain.subscribe();
    drain.mark_changed();
    let (chunks, mut body) = mpsc::channel(CHUNKS);
    let following = Following {
        attached,
        chunks,
        output: Output::default(),
        drain: Box::pin(drain_changed(drain)),
        changes: Box::pin(changed(tenant.subscribe())),
        expiring: Box::pin(expiring(expires, ahead)),
        alive: Duration::from_millis(limits.alive_interval_ms),
        is_theirs: caller != Caller::Operator,
        is_draining: false,
        tenant,
        _place: place,
    };
    api.engine.spawn(following.run());
    let chunks = stream::poll_fn(move |cx| body.poll_recv(cx));
    let chunks = chunks.map(Ok::<_, std::convert::Infallible>);
    let headers =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// A reader, and who reads.
struct Following {
    attached: Attached,
    chunks: mpsc::Sender<Bytes>,
    output: Output,
    drain: News<watch::Receiver<Drain>>,
    changes: News<Changes>,
    expiring: News<SystemTime>,
    /// A line is said at least so often.
    alive: Duration,
    /// Whether it is the tenant that reads: an operator may while it is suspended.
    is_theirs: bool,
    is_draining: bool,
    tenant: Arc<Tenant>,
    _place: Place,
}

/// Nobody reads any more.
struct Gone;

impl Following {
    async fn run(mut self) {
        if let Some(epoch) = self.attached.gap {
            self.output.gap(epoch);
        }
        // Whoever is gone needs no last word.
        if let Ok(Some(failure)) = self.follow().await {
            self.output.error(&failure);
            let _ = self.hand_on().await;
        }
    }

    /// Tells everything; why it ended too soon, if it did.
    async fn follow(&mut self) -> Result<Option<Failure>, Gone> {
        let mut said = Instant::now();
        loop {
            let mut over = false;
            // What is ready goes out in one piece.
            while self.output.len() < FLUSH_BYTES {
                match poll_fn(|cx| self.attached.poll_next(cx)).now_or_never() {
                    Some(Some(Told::Lost(failure))) => return Ok(Some(failure)),
                    Some(Some(told)) => tell(&mut self.output, told),
                    Some(None) => {
                        over = true;
                        break;
                    }
                    None => break,
                }
            }
            if !self.output.is_empty() {
                self.hand_on().await?;
                said = Instant::now();
            }
            if over {
                return Ok(None);
            }
            tokio::select! {
                told = poll_fn(|cx| self.attached.poll_next(cx)) => match told {
                    Some(Told::Lost(failure)) => return Ok(Some(failure)),
                    Some(told) => tell(&mut self.output, told),
                    None => return Ok(None),
                },
                () = self.chunks.closed() => return Err(Gone),
                changes = &mut self.changes => {
                    self.changes = Box::pin(changed(changes));
                    if self.is_theirs && !self.tenant.may_go_on() {
                        let message = "the tenant was suspended or deleted";
                        return Ok(Some(Failure::new(Code::Forbidden, message)));
                    }
                }
                at = &mut self.expiring => {
                    self.expiring = Box::pin(std::future::pending());
                    let message = "the certificate is about to expire: come again with a new one";
                    self.output.notice("certificate_expiring", at, message);
                }
                drain = &mut self.drain => if let Some(failure) = self.drains(drain) {
                    return Ok(Some(failure));
                },
                () = sleep_until(said + self.alive) => self.output.alive(),
            }
        }
    }

    fn drains(&mut self, mut drain: watch::Receiver<Drain>) -> Option<Failure> {
        let now = *drain.borrow_and_update();
        self.drain = Box::pin(drain_changed(drain));
        let message = "the broker is shutting down: attach again when it is back";
        match now {
            Drain::No => None,
            Drain::Until(at) => {
                if !std::mem::replace(&mut self.is_draining, true) {
                    self.output.notice("draining", at, message);
                }
                None
            }
            Drain::Over => Some(Failure::new(Code::Draining, message)),
        }
    }

    /// Hands on what there is, once it is paid for.
    async fn hand_on(&mut self) -> Result<(), Gone> {
        let unpaid = std::mem::take(&mut self.output.unpaid);
        pay(&self.tenant, unpaid).await;
        self.chunks.send(self.output.take()).await.map_err(|_| Gone)
    }
}

fn tell(output: &mut Output, told: Told) {
    match told {
        Told::Accepted(accepted) => output.accepted(&accepted, None),
        Told::Progress(report) => output.progress(&report),
        Told::Ended(end) => {
            let head = end.head(None);
            let mut outcome = end.outcome;
            output.result(&head, outcome.as_mut().map_err(|f| &*f));
        }
        Told::Over(summary) => output.summary(&summary),
        // The result is not there any more: the others may be.
        Told::Refused { .. } | Told::Contradicts { .. } | Told::Lost(_) => {}
    }
}

/// Chunks on their way to the client.
const CHUNKS: usize = 2;
