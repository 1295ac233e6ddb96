//! Jobs on their streams: reading on from a job or a batch, and asking about jobs.
//!
//! A reader never changes anything by going away: only a `Cancel` in its stream does.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, UNIX_EPOCH},
};

use futures::FutureExt;
use tokio::time::{sleep, sleep_until, timeout};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, Extensions,
    batch::{CancelScope, Notice, NoticeKind, Number},
    close::StreamCode,
    id::{JobId, RecipeName},
    job,
    job::{
        Attach, Gap, JobAction, JobAsk, JobError, JobFilter, JobState, JobTarget, JobWhich, Jobs,
    },
    limits,
};

use super::{
    config::ms,
    connection::{Caller, Peer},
    output::FULL_BYTES,
    signals::{State, Watch},
    stream::{End, Stream, error_frame, refuse_critical, too_large, varint},
};
use crate::{
    batch::{Failure, Sink, Told, foreign},
    jobs::{Attached, Chosen, Deed, JobInfo, Subject, Which},
    tenancy::{Kind, Tenant},
};

/// Jobs of one page when the client does not say.
const LISTED_BY_DEFAULT: u32 = 100;

/// A reader as it was asked for.
pub(super) struct Reads {
    tenant: Arc<Tenant>,
    names_tenant: bool,
    subject: Subject,
    after: Number,
    follow: bool,
}

/// A question, or a deed, as it was asked for.
pub(super) struct Asks {
    tenant: Arc<Tenant>,
    what: What,
}

enum What {
    Get(JobId),
    List { which: Which, after: Option<JobId>, limit: usize },
    Act(Chosen, Deed),
}

/// Judges the first frame of a reader.
pub(super) fn attach(peer: &Peer, attach: &Attach<'_>) -> Result<Reads, Failure> {
    peer.services.memory.admit()?;
    refuse_critical(&attach.extensions)?;
    Ok(Reads {
        tenant: tenant(peer, attach.tenant)?,
        names_tenant: matches!(peer.caller, Caller::Gateway(_)),
        subject: match attach.target {
            JobTarget::Job(id) => Subject::Job(id),
            JobTarget::Batch(id) => Subject::Batch(id),
        },
        after: attach.after,
        follow: attach.follow,
    })
}

/// Judges a question about jobs.
pub(super) fn ask(peer: &Peer, ask: &JobAsk<'_>) -> Result<Asks, Failure> {
    refuse_critical(&ask.extensions)?;
    let tenant = tenant(peer, ask.tenant)?;
    let what = match ask.action {
        JobAction::Get { job_id } => What::Get(job_id),
        JobAction::List { filter, cursor, limit } => What::List {
            which: which(&filter)?,
            after: cursor.map(cursor_of).transpose()?,
            limit: if limit == 0 { LISTED_BY_DEFAULT } else { limit } as usize,
        },
        JobAction::Cancel { which, scope } => What::Act(
            chosen(&which)?,
            match scope {
                CancelScope::Pending => Deed::CancelPending,
                CancelScope::All => Deed::CancelAll,
            },
        ),
        JobAction::Replay { which } => What::Act(chosen(&which)?, Deed::Replay),
        JobAction::Purge { which } => What::Act(chosen(&which)?, Deed::Purge),
    };
    Ok(Asks { tenant, what })
}

fn tenant(peer: &Peer, named: Option<&str>) -> Result<Arc<Tenant>, Failure> {
    match (&peer.caller, named) {
        (Caller::Tenant(tenant), None) => Ok(tenant.clone()),
        (Caller::Tenant(_), Some(_)) => Err(Failure::only_gateways()),
        (Caller::Worker(_), _) => {
            let message = "the certificate of a worker may serve recipes, not ask about jobs";
            Err(Failure::new(Code::Forbidden, message))
        }
        (Caller::Gateway(_), None) => {
            Err(Failure::validation("tenant", "a gateway names the tenant whose jobs it means"))
        }
        (Caller::Gateway(gateway), Some(id)) => peer.tenant_of(gateway, id).ok_or_else(foreign),
    }
}

fn which(filter: &JobFilter<'_>) -> Result<Which, Failure> {
    let recipe = filter.recipe.map(RecipeName::parse).transpose();
    let recipe = recipe.map_err(|e| Failure::validation("recipe", e.to_string()))?;
    Ok(Which { states: filter.states.bits(), recipe, batch: filter.batch_id })
}

fn chosen(which_jobs: &JobWhich<'_>) -> Result<Chosen, Failure> {
    match which_jobs {
        JobWhich::One(id) => Ok(Chosen::One(*id)),
        JobWhich::Filter(filter) => which(filter).map(Chosen::All),
    }
}

/// A cursor is the name of the last job of the page before: opaque to clients all the same.
fn cursor_of(text: &str) -> Result<JobId, Failure> {
    let bad = || Failure::validation("cursor", "this is no cursor that a list gave");
    uuid::Uuid::parse_str(text).map(|id| JobId(id.into_bytes())).map_err(|_| bad())
}

/// Answers a question about jobs.
pub(super) async fn answer(peer: &Arc<Peer>, mut stream: Stream, asked: Asks) -> End {
    let jobs = &peer.services.jobs;
    let Asks { tenant, what } = asked;
    let answered = match what {
        What::Get(id) => jobs.get(&tenant, id).await.map(|info| put(&mut stream, &info)),
        What::List { which, after, limit } => {
            jobs.list(&tenant, &which, after, limit).await.map(|listed| {
                listed.jobs.iter().for_each(|info| put(&mut stream, info));
                let next = listed.next.map(|id| id.to_string());
                let (count, next) = (listed.jobs.len() as u64, next.as_deref());
                stream.output.frame(&BrokerFrame::Jobs(Jobs { count, next }));
            })
        }
        What::Act(chosen, deed) => jobs.act(&tenant, chosen, deed).await.map(|count| {
            stream.output.frame(&BrokerFrame::Jobs(Jobs { count, next: None }));
        }),
    };
    match answered {
        Ok(()) => {
            stream.output.frame(&BrokerFrame::End);
            stream.finish(End::Completed).await
        }
        Err(failure) => stream.refuse(failure).await,
    }
}

fn put(stream: &mut Stream, info: &JobInfo) {
    let errors = info.errors.iter().map(|e| JobError {
        attempt: e.attempt,
        at_unix_ms: e.at,
        code: e.code,
        message: tollgate_protocol::truncate(&e.message, limits::JOB_ERROR_MESSAGE_BYTES_MAX),
    });
    let progress = info.progress.as_ref();
    stream.output.frame(&BrokerFrame::Job(job::JobInfo {
        job_id: info.id,
        batch_id: info.batch,
        item_id: info.item,
        recipe: info.recipe.as_str(),
        state: state(info),
        priority: info.priority,
        attempts: info.attempts,
        attempts_max: info.attempts_max,
        payload_bytes: info.payload_bytes,
        result_bytes: info.result_bytes,
        created_unix_ms: info.created,
        started_unix_ms: info.started,
        due_unix_ms: info.due,
        ended_unix_ms: info.ended,
        expires_unix_ms: info.expires,
        done: progress.map_or(0, |p| p.done),
        total: progress.map_or(0, |p| p.total),
        message: progress.map_or("", |p| &p.message),
        idempotency_key: info.key.as_deref(),
        accepted: info.accepted,
        ended: info.finished,
        errors: errors.collect(),
        extensions: Extensions::EMPTY,
    }));
}

fn state(info: &JobInfo) -> JobState {
    let number = usize::from(info.state.number());
    JobState::ALL.get(number).copied().unwrap_or(JobState::Queued)
}

/// Replays what is kept, then tells what happens, until all is over or nobody reads.
pub(super) async fn follow(peer: &Arc<Peer>, stream: Stream, reads: Reads) -> End {
    let Reads { tenant, names_tenant, subject, after, follow } = reads;
    let attached = peer.services.jobs.attach(&tenant, subject, after, follow).await;
    let attached = match attached {
        Ok(attached) => attached,
        Err(failure) => return stream.refuse(failure).await,
    };
    let mut following = Following { peer, stream, tenant, names_tenant, subject, attached };
    match following.run().await {
        Ended::All => {
            if !following.stream.is_final {
                following.stream.output.frame(&BrokerFrame::End);
            }
            following.stream.finish(End::Completed).await
        }
        Ended::Failed(failure) => {
            error_frame(&mut following.stream.output, &failure);
            following.stream.finish(End::Unfinished).await
        }
        Ended::Gone => {
            let _ = following.stream.send.reset(varint(StreamCode::ReaderGone));
            let _ = following.stream.recv.stop(varint(StreamCode::Done));
            End::Completed
        }
    }
}

struct Following<'a> {
    peer: &'a Arc<Peer>,
    stream: Stream,
    tenant: Arc<Tenant>,
    names_tenant: bool,
    subject: Subject,
    attached: Attached,
}

/// How a reader's stream is over.
enum Ended {
    /// All was told.
    All,
    Failed(Failure),
    /// Nobody reads.
    Gone,
}

/// What came from the client.
enum Input {
    Bytes,
    /// Its side is over: it only reads.
    Fin,
    Gone,
}

impl Following<'_> {
    async fn run(&mut self) -> Ended {
        if let Some(epoch) = self.attached.gap {
            let gap = Gap { epoch, extensions: Extensions::EMPTY };
            self.stream.output.frame(&BrokerFrame::Gap(gap));
        }
        // What came with the first frame is heeded first: then there is room for more.
        if let Err(failure) = self.heed().await {
            return Ended::Failed(failure);
        }
        let limits = &self.peer.services.config.limits;
        let (alive, reader) = (ms(limits.alive_interval_ms), ms(limits.reader_timeout_ms));
        let peer = self.peer.clone();
        let mut watch = Watch::new(&peer.signals);
        let (mut heeded, mut reads) = (State::default(), true);
        let frame = ms(limits.frame_timeout_ms);
        let mut since = Instant::now();
        loop {
            // What is ready goes out in one write.
            let mut over = false;
            while self.stream.output.len() < FULL_BYTES {
                match poll_fn(|cx| self.attached.poll_next(cx)).now_or_never() {
                    Some(Some(told)) => {
                        if let Err(failure) = self.tell(told) {
                            return Ended::Failed(failure);
                        }
                    }
                    Some(None) => {
                        over = true;
                        break;
                    }
                    None => break,
                }
            }
            if !self.stream.output.is_empty() {
                self.pay().await;
                let Stream { send, output, .. } = &mut self.stream;
                if !matches!(timeout(reader, output.write_all(send)).await, Ok(Ok(()))) {
                    return Ended::Gone;
                }
            }
            if over {
                return Ended::All;
            }
            let Stream { recv, splitter, send, .. } = &mut self.stream;
            // All whole frames are heeded: what is left is the beginning of one.
            let within = reads && splitter.buffered() > 0;
            let input = async {
                match recv.read_chunks(splitter.buffers()).await {
                    Ok(Some(n)) => {
                        splitter.filled(n);
                        Input::Bytes
                    }
                    Ok(None) => Input::Fin,
                    Err(_) => Input::Gone,
                }
            };
            let changed = poll_fn(|cx| match watch.changed() {
                Some(state) => Poll::Ready(state),
                None if watch.register(cx.waker()) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                None => Poll::Pending,
            });
            tokio::select! {
                told = poll_fn(|cx| self.attached.poll_next(cx)) => match told {
                    Some(told) => if let Err(failure) = self.tell(told) {
                        return Ended::Failed(failure);
                    },
                    None => return Ended::All,
                },
                input = input, if reads => match input {
                    Input::Bytes => {
                        since = Instant::now();
                        if let Err(failure) = self.heed().await {
                            return Ended::Failed(failure);
                        }
                    }
                    Input::Fin => reads = false,
                    Input::Gone => return Ended::Gone,
                },
                _ = send.stopped() => return Ended::Gone,
                () = sleep_until((since + frame).into()), if within => {
                    let message = format!("a frame stalled for {} ms", frame.as_millis());
                    let failure = Failure::new(Code::Timeout, message);
                    let key = "limits.frame_timeout_ms";
                    return Ended::Failed(failure.detail("config_key", key));
                }
                state = changed => {
                    if let Some(at) = state.draining.filter(|_| heeded.draining.is_none()) {
                        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                        self.stream.output.frame(&BrokerFrame::Notice(Notice {
                            kind: NoticeKind::Draining,
                            at_unix_ms: at.as_millis() as u64,
                            message: "the broker is shutting down: attach again when it is back",
                        }));
                    }
                    heeded = state;
                    if state.over {
                        let message = "the broker is shutting down: attach again when it is back";
                        return Ended::Failed(Failure::new(Code::Draining, message));
                    }
                }
                () = sleep(alive) => self.stream.output.frame(&BrokerFrame::Alive),
            }
        }
    }

    fn tell(&mut self, told: Told) -> Result<(), Failure> {
        let output = &mut self.stream.output;
        let tenant = self.names_tenant.then(|| self.tenant.id().as_str());
        match told {
            Told::Accepted(accepted) => output.accepted(&accepted, tenant),
            Told::Progress(report) => output.progress(&report),
            Told::Ended(end) => {
                let head = end.head(tenant);
                let mut outcome = end.outcome;
                output.result(&head, outcome.as_mut().map_err(|f| &*f));
            }
            Told::Over(summary) => {
                output.frame(&BrokerFrame::Summary(*summary));
                self.stream.is_final = true;
            }
            // The result is not there any more: the others may be.
            Told::Refused { .. } | Told::Contradicts { .. } => {}
            Told::Lost(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Charges what results weigh to the tenant, and waits while its rate is used up.
    async fn pay(&mut self) {
        while self.stream.output.unpaid > 0 {
            let (paid, stop) = self.tenant.take_out(Instant::now(), self.stream.output.unpaid);
            self.stream.output.unpaid -= paid;
            match stop.map(|stop| stop.kind) {
                Some(Kind::Wait(wait)) => sleep(wait.max(Duration::from_millis(1))).await,
                Some(Kind::Never) => sleep(Duration::from_secs(1)).await,
                None => {}
            }
        }
    }

    /// Does what the client asks for in its stream.
    async fn heed(&mut self) -> Result<(), Failure> {
        loop {
            let scope = match self.stream.splitter.peek() {
                Err(e) => return Err(too_large(e)),
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => match ClientFrame::decode(frame) {
                    Ok(ClientFrame::Cancel(scope)) => scope,
                    Ok(other) => {
                        let message =
                            format!("{} does not belong into a reader's stream", other.name());
                        return Err(Failure::new(Code::InvalidAction, message));
                    }
                    Err(e) => return Err(e.into()),
                },
            };
            self.stream.splitter.advance();
            let deed = match scope {
                CancelScope::Pending => Deed::CancelPending,
                CancelScope::All => Deed::CancelAll,
            };
            let chosen = match self.subject {
                Subject::Job(id) => Chosen::One(id),
                Subject::Batch(id) => Chosen::All(Which { batch: Some(id), ..Which::default() }),
            };
            self.peer.services.jobs.act(&self.tenant, chosen, deed).await?;
        }
    }
}
