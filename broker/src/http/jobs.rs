//! Jobs: what they are, what became of them, and what is done to them.
//!
//! The same handle as on QUIC; whose jobs are meant stands in the path, and nobody's are found there
//! but that tenant's.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tollgate_protocol::{
    Code,
    batch::Number,
    id::{BatchId, JobId, RecipeName},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    batches::output::{self, Outcome},
    extract::{Both, Named, Pairs},
    page,
    problem::{Answer, Document, Problem},
    time::rfc3339,
};
use crate::{
    batch::Failure,
    jobs::{JobInfo, State as Standing, Which, from_states},
    tenancy::{Kind, Tenant},
};

mod act;
mod follow;
#[cfg(test)]
mod tests;

pub(super) use follow::Readers;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(stats))
        .routes(routes!(act::cancel_many))
        .routes(routes!(act::replay_many))
        .routes(routes!(act::purge_many))
        .routes(routes!(show, act::purge))
        .routes(routes!(result))
        .routes(routes!(act::cancel))
        .routes(routes!(act::replay))
        .routes(routes!(follow::job))
        .routes(routes!(follow::batch))
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum JobState {
    Queued,
    Running,
    Retrying,
    Succeeded,
    Failed,
    Cancelled,
    Dead,
}

impl From<JobState> for Standing {
    fn from(state: JobState) -> Standing {
        match state {
            JobState::Queued => Standing::Queued,
            JobState::Running => Standing::Running,
            JobState::Retrying => Standing::Retrying,
            JobState::Succeeded => Standing::Succeeded,
            JobState::Failed => Standing::Failed,
            JobState::Cancelled => Standing::Cancelled,
            JobState::Dead => Standing::Dead,
        }
    }
}

/// A job: an item that outlives its connection.
#[derive(Debug, Serialize, ToSchema)]
struct Job {
    /// Its name, a UUID of version 7.
    id: String,
    /// The batch that it came in.
    batch_id: String,
    /// Its id there.
    item_id: u64,
    /// What it runs.
    recipe: String,
    /// Where it stands.
    #[schema(value_type = JobState)]
    state: &'static str,
    /// From 0 to 7, 7 first.
    priority: u8,
    /// How often it was begun.
    attempts: u32,
    /// How often it may be; 0 while its recipe is not known.
    attempts_max: u32,
    /// Bytes of its payload.
    payload_bytes: u64,
    /// Bytes of its result, once there is one.
    result_bytes: u64,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// When its newest attempt began.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When it may start, while it waits for that.
    #[schema(format = DateTime)]
    due_at: Option<String>,
    /// When it was over.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// When it will be forgotten, once it is over; a dead one is kept until it is purged.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// How it ended, by the name of the code.
    code: Option<Cow<'static, str>>,
    /// How far it is.
    progress: Option<Progress>,
    /// The key that it was submitted with.
    idempotency_key: Option<String>,
    /// The number with which it was accepted, as `epoch.sequence`.
    accepted: Option<String>,
    /// The number of its result, as `epoch.sequence`.
    finished: Option<String>,
    /// What its attempts failed with, the oldest first: the last 32.
    errors: Vec<AttemptError>,
}

/// How far a job is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobProgress)]
struct Progress {
    /// Units done.
    done: u64,
    /// Units in all; 0 while that is not known.
    total: u64,
    /// When it said so.
    #[schema(format = DateTime)]
    at: String,
    /// For people.
    message: String,
}

/// What an attempt failed with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobError)]
struct AttemptError {
    /// Which attempt, from 1.
    attempt: u32,
    /// When it ended.
    #[schema(format = DateTime)]
    at: String,
    /// The name of the code.
    code: Cow<'static, str>,
    /// For people.
    message: String,
}

impl From<&JobInfo> for Job {
    fn from(j: &JobInfo) -> Job {
        let progress = j.progress.as_ref().map(|p| Progress {
            done: p.done,
            total: p.total,
            at: moment(p.at),
            message: p.message.to_string(),
        });
        let errors = j.errors.iter().map(|e| AttemptError {
            attempt: e.attempt,
            at: moment(e.at),
            code: code(e.code),
            message: e.message.to_string(),
        });
        Job {
            id: j.id.to_string(),
            batch_id: j.batch.to_string(),
            item_id: j.item,
            recipe: j.recipe.to_string(),
            state: j.state.name(),
            priority: j.priority,
            attempts: j.attempts,
            attempts_max: j.attempts_max,
            payload_bytes: j.payload_bytes,
            result_bytes: j.result_bytes,
            created_at: moment(j.created),
            started_at: j.started.map(moment),
            due_at: j.due.map(moment),
            ended_at: j.ended.map(moment),
            expires_at: j.expires.map(moment),
            code: j.state.is_over().then(|| code(j.code)),
            progress,
            idempotency_key: j.key.as_deref().map(str::to_owned),
            accepted: place(j.accepted),
            finished: place(j.finished),
            errors: errors.collect(),
        }
    }
}

fn moment(unix_ms: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_millis(unix_ms))
}

fn code(number: u16) -> Cow<'static, str> {
    match Code::from_number(number) {
        Some(code) => code.name().into(),
        None => number.to_string().into(),
    }
}

fn place(n: Number) -> Option<String> {
    (n.sequence > 0).then(|| format!("{}.{}", n.epoch, n.sequence))
}

/// The tenant of a path.
fn tenant(api: &Api, id: &str) -> Answer<Arc<Tenant>> {
    api.tenant(id).ok_or_else(Problem::no_tenant)
}

/// The job of a path. What is no name of a job names none.
fn job_id(text: &str) -> Answer<JobId> {
    let id = uuid::Uuid::parse_str(text).map(|id| JobId(id.into_bytes()));
    id.map_err(|_| Problem::new(Code::NotFound, "there is no such job"))
}

/// Which jobs are meant, as text.
#[derive(Debug, Default)]
struct Wanted {
    states: u8,
    recipe: Option<RecipeName>,
    batch: Option<BatchId>,
}

impl Wanted {
    fn state(&mut self, names: &str) -> Answer<()> {
        for name in names.split(',') {
            let state = Standing::ALL.into_iter().find(|state| state.name() == name.trim());
            let state = state.ok_or_else(|| {
                let known = Standing::ALL.map(Standing::name).join(", ");
                Problem::validation("state", format!("state: there is no {name:?}, but {known}"))
            })?;
            self.states |= from_states([state]);
        }
        Ok(())
    }

    fn recipe(&mut self, name: &str) -> Answer<()> {
        let recipe = RecipeName::parse(name);
        self.recipe = Some(recipe.map_err(|e| Problem::validation("recipe", e.to_string()))?);
        Ok(())
    }

    fn batch(&mut self, id: &str) -> Answer<()> {
        let batch = uuid::Uuid::parse_str(id).map(|id| BatchId(id.into_bytes()));
        let wrong = |_| Problem::validation("batch", "batch is the id of a batch, a UUID");
        self.batch = Some(batch.map_err(wrong)?);
        Ok(())
    }
}

impl From<Wanted> for Which {
    fn from(w: Wanted) -> Which {
        Which { states: w.states, recipe: w.recipe, batch: w.batch }
    }
}

/// Which page of which jobs.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document: `state` may stand in a query more than once")]
struct Params {
    /// Only those in this state: more than once, or several with commas between.
    #[param(required = false, explode = true)]
    state: Option<Vec<JobState>>,
    /// Only those of this recipe.
    recipe: Option<String>,
    /// Only those of this batch.
    batch: Option<String>,
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobPage)]
struct Jobs {
    /// Those on this page. There may be fewer than asked for, even none, though more follow.
    items: Vec<Job>,
    /// Where the next page begins: pass it as `cursor`. Null on the last page.
    next_cursor: Option<String>,
}

/// List a tenant's jobs
///
/// The oldest first, those that are over too as long as they are kept.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/jobs", tag = "jobs",
    params(("id" = String, Path, description = "The tenant"), Params),
    responses((status = 200, description = "A page of jobs", body = Jobs)))]
async fn list(State(api): State<Api>, Named(id): Named, Pairs(pairs): Pairs) -> Answer<Json<Jobs>> {
    let tenant = tenant(&api, &id)?;
    let mut wanted = Wanted::default();
    let (mut limit, mut cursor) = (None, None);
    for (key, value) in &pairs {
        match key.as_str() {
            "state" => wanted.state(value)?,
            "recipe" => wanted.recipe(value)?,
            "batch" => wanted.batch(value)?,
            "limit" => {
                let number = value.parse::<usize>();
                limit = Some(number.map_err(|_| Problem::validation("limit", "no number"))?);
            }
            "cursor" => cursor = Some(value.as_str()),
            other => {
                let detail = format!("{other}: jobs are not listed by this");
                return Err(Problem::validation(other, detail));
            }
        }
    }
    let limit = page::limit(limit)?;
    let after = match page::after(cursor)? {
        None => None,
        Some(id) => match uuid::Uuid::parse_str(&id) {
            Ok(id) => Some(JobId(id.into_bytes())),
            Err(_) => return Err(Problem::validation("cursor", "the cursor is another list's")),
        },
    };
    let listed = api.services.jobs.list(&tenant, &wanted.into(), after, limit).await?;
    let items = listed.jobs.iter().map(Job::from).collect();
    let next_cursor = listed.next.map(|id| page::cursor(&id.to_string()));
    Ok(Json(Jobs { items, next_cursor }))
}

/// How many jobs a tenant has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobStats)]
struct Stats {
    /// The tenant.
    tenant_id: String,
    /// Those that wait for their start.
    queued: u64,
    /// Those of which an attempt runs.
    running: u64,
    /// Those whose attempt failed and that wait for the next.
    retrying: u64,
    /// Those that succeeded and are kept.
    succeeded: u64,
    /// Those that failed and are kept.
    failed: u64,
    /// Those that were given up and are kept.
    cancelled: u64,
    /// Those whose attempts are used up.
    dead: u64,
    /// Bytes that all of them take of the tenant's storage.
    bytes: u64,
}

/// Count a tenant's jobs
///
/// Those there are now, by their state.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/jobs/stats", tag = "jobs",
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, description = "How many there are", body = Stats)))]
async fn stats(State(api): State<Api>, Named(id): Named) -> Answer<Json<Stats>> {
    let tenant = tenant(&api, &id)?;
    let (counts, bytes) = api.services.jobs.counts(&tenant).await?;
    let [queued, running, retrying, succeeded, failed, cancelled, dead] = counts;
    let tenant_id = tenant.id().to_string();
    Ok(Json(Stats {
        tenant_id,
        queued,
        running,
        retrying,
        succeeded,
        failed,
        cancelled,
        dead,
        bytes,
    }))
}

/// Show a job
///
/// With what each of its attempts failed with.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/jobs/{job}", tag = "jobs",
    params(("id" = String, Path, description = "The tenant"),
        ("job" = String, Path, description = "The job")),
    responses((status = 200, description = "The job", body = Job)))]
async fn show(State(api): State<Api>, Both(id, job): Both) -> Answer<Json<Job>> {
    let (tenant, job) = (tenant(&api, &id)?, job_id(&job)?);
    Ok(Json(Job::from(&api.services.jobs.get(&tenant, job).await?)))
}

/// Read the result of a job
///
/// That of a job which is over, as its batch is told: the payload of a success, or what it ended
/// with.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/jobs/{job}/result", tag = "jobs",
    params(("id" = String, Path, description = "The tenant"),
        ("job" = String, Path, description = "The job")),
    responses((status = 200, description = "How it ended, well or not", body = Outcome),
        (status = 409, description = "It is not over", body = Document,
            content_type = "application/problem+json")))]
async fn result(State(api): State<Api>, Both(id, job): Both) -> Answer<Response> {
    let (tenant, job) = (tenant(&api, &id)?, job_id(&job)?);
    let end = api.services.jobs.result(&tenant, job).await?;
    if let Ok(reply) = &end.outcome {
        pay(&tenant, reply.payload().len() as u64).await;
    }
    let document = output::document(&end.head(None), end.outcome.as_ref());
    Ok(([(CONTENT_TYPE, "application/json")], document).into_response())
}

/// Charges bytes of results to the tenant, and waits while its rate is used up.
async fn pay(tenant: &Arc<Tenant>, mut unpaid: u64) {
    while unpaid > 0 {
        let (paid, stop) = tenant.take_out(Instant::now(), unpaid);
        unpaid -= paid;
        let wait = match stop.map(|stop| stop.kind) {
            Some(Kind::Wait(wait)) => wait.max(Duration::from_millis(1)),
            // An operator may raise it.
            Some(Kind::Never) => Duration::from_secs(1),
            None => continue,
        };
        tokio::time::sleep(wait).await;
    }
}

/// A job that is not in the state in which this can be done to it.
fn conflict(info: &JobInfo, what: &str) -> Problem {
    let state = info.state.name();
    let message = format!("the job is {state}: {what}");
    Failure::new(Code::Conflict, message).detail("state", state).into()
}
