//! What is done to jobs: given up, run again, forgotten; one by its name, or all that a filter means.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        api::Api,
        extract::{Body, Both, Named, Query},
        problem::{Answer, Document, Problem},
    },
    Job, JobState, Wanted, conflict, job_id, tenant,
};
use crate::jobs::{Chosen, Deed, Which, from_states};

/// How much of what is under way is given up.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CancelScope {
    /// What does not run.
    Pending,
    /// What runs, too.
    #[default]
    All,
}

impl From<CancelScope> for Deed {
    fn from(scope: CancelScope) -> Deed {
        match scope {
            CancelScope::Pending => Deed::CancelPending,
            CancelScope::All => Deed::CancelAll,
        }
    }
}

/// How a job is given up.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// `pending`: only if it does not run now.
    #[param(inline, required = false)]
    scope: Option<CancelScope>,
}

/// Cancel a job
///
/// It ends as `cancelled`; what runs of it is stopped.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/jobs/{job}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "The tenant"),
        ("job" = String, Path, description = "The job"), Params),
    responses((status = 200, description = "The job as it is now", body = Job),
        (status = 409, description = "It is over, or runs and is to", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(api): State<Api>,
    Both(id, job): Both,
    Query(params): Query<Params>,
) -> Answer<Json<Job>> {
    let deed = params.scope.unwrap_or_default().into();
    one(&api, &id, &job, deed, "it can not be cancelled").await
}

/// Run a job again
///
/// One that failed, was cancelled, or is dead: from its first attempt, with the payload that it had.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/jobs/{job}/replay", tag = "jobs",
    params(("id" = String, Path, description = "The tenant"),
        ("job" = String, Path, description = "The job")),
    responses((status = 200, description = "The job as it is now", body = Job),
        (status = 409, description = "It is not over, or it succeeded", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn replay(State(api): State<Api>, Both(id, job): Both) -> Answer<Json<Job>> {
    one(&api, &id, &job, Deed::Replay, "only what ended without success runs again").await
}

/// Forget a job
///
/// One that is over: with its payload, its result and its key.
#[utoipa::path(delete, path = "/api/v1/tenants/{id}/jobs/{job}", tag = "jobs",
    params(("id" = String, Path, description = "The tenant"),
        ("job" = String, Path, description = "The job")),
    responses((status = 204, description = "It is gone"),
        (status = 409, description = "It is not over", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn purge(State(api): State<Api>, Both(id, job): Both) -> Answer<StatusCode> {
    let (tenant, job) = (tenant(&api, &id)?, job_id(&job)?);
    let jobs = &api.services.jobs;
    if jobs.act(&tenant, Chosen::One(job), Deed::Purge).await? == 0 {
        let info = jobs.get(&tenant, job).await?;
        return Err(conflict(&info, "it is forgotten once it is over: cancel it first"));
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn one(api: &Api, id: &str, job: &str, deed: Deed, unless: &str) -> Answer<Json<Job>> {
    let (tenant, job) = (tenant(api, id)?, job_id(job)?);
    let jobs = &api.services.jobs;
    let done = jobs.act(&tenant, Chosen::One(job), deed).await?;
    let info = jobs.get(&tenant, job).await?;
    if done == 0 { Err(conflict(&info, unless)) } else { Ok(Json(Job::from(&info))) }
}

/// Which jobs are meant. What is not given does not matter; `all` says that nothing is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JobFilter)]
pub(super) struct Filter {
    /// Every job of the tenant. Instead of the others, never by leaving everything out.
    #[serde(default)]
    all: bool,
    /// Only those in one of these states.
    #[serde(default)]
    state: Vec<JobState>,
    /// Only those of this recipe.
    recipe: Option<String>,
    /// Only those of this batch.
    batch: Option<String>,
}

/// Which jobs are given up, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JobCancel)]
pub(super) struct Cancel {
    /// Every job of the tenant. Instead of the others, never by leaving everything out.
    #[serde(default)]
    all: bool,
    /// Only those in one of these states.
    #[serde(default)]
    state: Vec<JobState>,
    /// Only those of this recipe.
    recipe: Option<String>,
    /// Only those of this batch.
    batch: Option<String>,
    /// Whether those that run are meant, too: they are unless told otherwise.
    #[serde(default)]
    scope: CancelScope,
}

impl Filter {
    pub(super) fn which(&self) -> Answer<Which> {
        let empty = self.state.is_empty() && self.recipe.is_none() && self.batch.is_none();
        if empty && !self.all {
            let detail = "say which jobs are meant: state, recipe or batch, or all with a true";
            return Err(Problem::validation("all", detail));
        }
        if !empty && self.all {
            let detail = "all does not go with state, recipe or batch";
            return Err(Problem::validation("all", detail));
        }
        let states = from_states(self.state.iter().map(|state| (*state).into()));
        let mut wanted = Wanted { states, ..Wanted::default() };
        self.recipe.as_deref().map_or(Ok(()), |recipe| wanted.recipe(recipe))?;
        self.batch.as_deref().map_or(Ok(()), |batch| wanted.batch(batch))?;
        Ok(wanted.into())
    }
}

/// To how many jobs something was done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobCount)]
pub(super) struct Count {
    /// So many. Those to which it can not be done are passed over.
    count: u64,
}

/// Cancel many jobs
///
/// All that the filter means and that are not over.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/jobs/cancel", tag = "jobs",
    params(("id" = String, Path, description = "The tenant")), request_body = Cancel,
    responses((status = 200, description = "How many were cancelled", body = Count)))]
pub(super) async fn cancel_many(
    State(api): State<Api>,
    Named(id): Named,
    Body(cancel): Body<Cancel>,
) -> Answer<Json<Count>> {
    let Cancel { all, state, recipe, batch, scope } = cancel;
    many(&api, &id, &Filter { all, state, recipe, batch }, scope.into()).await
}

/// Run many jobs again
///
/// All that the filter means and that failed, were cancelled, or are dead.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/jobs/replay", tag = "jobs",
    params(("id" = String, Path, description = "The tenant")), request_body = Filter,
    responses((status = 200, description = "How many run again", body = Count)))]
pub(super) async fn replay_many(
    State(api): State<Api>,
    Named(id): Named,
    Body(filter): Body<Filter>,
) -> Answer<Json<Count>> {
    many(&api, &id, &filter, Deed::Replay).await
}

/// Forget many jobs
///
/// All that the filter means and that are over.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/jobs/purge", tag = "jobs",
    params(("id" = String, Path, description = "The tenant")), request_body = Filter,
    responses((status = 200, description = "How many are gone", body = Count)))]
pub(super) async fn purge_many(
    State(api): State<Api>,
    Named(id): Named,
    Body(filter): Body<Filter>,
) -> Answer<Json<Count>> {
    many(&api, &id, &filter, Deed::Purge).await
}

async fn many(api: &Api, id: &str, filter: &Filter, deed: Deed) -> Answer<Json<Count>> {
    let tenant = tenant(api, id)?;
    let chosen = Chosen::All(filter.which()?);
    let count = api.services.jobs.act(&tenant, chosen, deed).await?;
    Ok(Json(Count { count }))
}
