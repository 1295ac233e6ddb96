//! Bindings: topics that the broker reads itself, each message an item of a recipe.

use std::time::{Duration, UNIX_EPOCH};

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tollgate_protocol::id::{GroupName, RecipeName};
use utoipa::ToSchema;

use super::{
    super::{
        api::Api,
        extract::{Body, Named, Query, Three},
        page,
        problem::{Answer, Document, Problem},
        time::rfc3339,
    },
    OfTopics, active_tenant, group_name, place, tenant, topic_name,
};
use crate::topics::{BindingInfo, Start};

/// A topic that is bound to a recipe.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Binding {
    /// Which topic.
    topic: String,
    /// Its name, and that of the consumer group that it reads as.
    name: String,
    /// Which recipe.
    recipe: String,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// Whether a reader is there: it comes when there is something to read, and goes when there is
    /// nothing for a while.
    awake: bool,
    /// Messages under way.
    in_flight: u32,
    /// Messages that are to come.
    lag: u64,
}

impl From<&BindingInfo> for Binding {
    fn from(b: &BindingInfo) -> Binding {
        Binding {
            topic: b.topic.to_string(),
            name: b.name.to_string(),
            recipe: b.recipe.to_string(),
            created_at: rfc3339(UNIX_EPOCH + Duration::from_millis(b.created)),
            awake: b.awake,
            in_flight: b.in_flight,
            lag: b.lag,
        }
    }
}

/// A page of bindings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BindingPage)]
pub(super) struct Bindings {
    /// Those on this page, in the order of topics and names.
    items: Vec<Binding>,
    /// Where the next page begins: pass it as `cursor`. Null on the last page.
    next_cursor: Option<String>,
}

/// List a tenant's bindings
///
/// Of one topic, or of all.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/bindings", tag = "topics",
    params(("id" = String, Path, description = "The tenant"), OfTopics),
    responses((status = 200, description = "A page of bindings", body = Bindings)))]
pub(super) async fn list(
    State(api): State<Api>,
    Named(id): Named,
    Query(params): Query<OfTopics>,
) -> Answer<Json<Bindings>> {
    let tenant = tenant(&api, &id)?;
    let limit = page::limit(params.limit)?;
    let topic = params.topic.as_deref().map(topic_name).transpose()?;
    let after = page::after(params.cursor.as_deref())?.map(|key| place(&key)).transpose()?;
    let all = api.services.topics.bindings(&tenant, topic.as_ref()).await?;
    let left = all
        .iter()
        .filter(|b| after.as_ref().is_none_or(|(topic, name)| (&b.topic, &b.name) > (topic, name)));
    let items = left.take(limit + 1).map(Binding::from).collect();
    let page = page::Page::of(items, limit, |b: &Binding| format!("{}/{}", b.topic, b.name));
    Ok(Json(Bindings { items: page.items, next_cursor: page.next_cursor }))
}

/// A binding that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBinding {
    /// Which topic.
    topic: String,
    /// Its name, and that of the consumer group that it reads as.
    name: String,
    /// Which recipe; it need not be there yet.
    recipe: String,
    /// Where the group begins, when it is not there.
    #[serde(default)]
    #[schema(inline, required = false)]
    from: FromWhere,
}

/// Where a group begins.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BindingStart)]
enum FromWhere {
    /// With the oldest message that is kept.
    #[default]
    Earliest,
    /// With what comes.
    Latest,
}

/// Bind a topic to a recipe
///
/// The broker reads it from then on: what is in it, and what comes, are items of the recipe, as
/// many at once as the tenant has `workers`. One that fails is tried again as a job is, and goes to
/// the topic's dead letters when that is used up.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/bindings", tag = "topics",
    params(("id" = String, Path, description = "The tenant")), request_body = NewBinding,
    responses((status = 201, description = "The binding", body = Binding),
        (status = 409, description = "There is one of that name, to another recipe",
            body = Document, content_type = "application/problem+json"),
        (status = 429, description = "A quota is used up", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn create(
    State(api): State<Api>,
    Named(id): Named,
    Body(new): Body<NewBinding>,
) -> Answer<(StatusCode, Json<Binding>)> {
    let tenant = active_tenant(&api, &id)?;
    let name = GroupName::parse(&new.name);
    let name = name.map_err(|e| Problem::validation("name", format!("name: {e}")))?;
    let topic = topic_name(&new.topic)?;
    let recipe = RecipeName::parse(&new.recipe);
    let recipe = recipe.map_err(|e| Problem::validation("recipe", format!("recipe: {e}")))?;
    let start = match new.from {
        FromWhere::Earliest => Start::Earliest,
        FromWhere::Latest => Start::Latest,
    };
    let made = api.services.topics.bind(&tenant, &topic, &name, &recipe, start).await?;
    Ok((StatusCode::CREATED, Json(Binding::from(&made))))
}

/// Show a binding
///
/// And whether its reader is there.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/topics/{topic}/bindings/{binding}", tag = "topics",
    params(("id" = String, Path, description = "The tenant"),
        ("topic" = String, Path, description = "The topic"),
        ("binding" = String, Path, description = "The binding")),
    responses((status = 200, description = "The binding", body = Binding)))]
pub(super) async fn show(
    State(api): State<Api>,
    Three(id, topic, binding): Three,
) -> Answer<Json<Binding>> {
    let tenant = tenant(&api, &id)?;
    let (topic, name) = (topic_name(&topic)?, group_name(&binding)?);
    Ok(Json(Binding::from(&api.services.topics.binding(&tenant, &topic, &name).await?)))
}

/// Take a binding back
///
/// What is under way ends first. Its group stays: bound again, it goes on where it was.
#[utoipa::path(delete, path = "/api/v1/tenants/{id}/topics/{topic}/bindings/{binding}",
    tag = "topics",
    params(("id" = String, Path, description = "The tenant"),
        ("topic" = String, Path, description = "The topic"),
        ("binding" = String, Path, description = "The binding")),
    responses((status = 204, description = "It is gone")))]
pub(super) async fn delete(
    State(api): State<Api>,
    Three(id, topic, binding): Three,
) -> Answer<StatusCode> {
    let tenant = tenant(&api, &id)?;
    let (topic, name) = (topic_name(&topic)?, group_name(&binding)?);
    api.services.topics.unbind(&tenant, &topic, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
