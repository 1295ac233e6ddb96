//! Topics and consumer groups: what there is of them, and what is done to them.
//!
//! The same handle as on QUIC; whose topics are meant stands in the path, and nobody's are found
//! there but that tenant's.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tollgate_protocol::id::{GroupName, NameError, TopicName};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::{Body, Both, Named, Query},
    page,
    problem::{Answer, Document, Problem},
    time::rfc3339,
};
use crate::{
    tenancy::{State as Standing, Tenant},
    topics::{self, GroupInfo, TopicInfo},
};

mod bindings;
mod groups;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, delete))
        .routes(routes!(groups::list))
        .routes(routes!(groups::show, groups::delete))
        .routes(routes!(groups::reset))
        .routes(routes!(bindings::list, bindings::create))
        .routes(routes!(bindings::show, bindings::delete))
}

/// Which page of a list of what belongs to topics.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfTopics {
    /// Only those of this topic.
    topic: Option<String>,
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// What a cursor names. No name has a slash.
fn place(key: &str) -> Answer<(TopicName, GroupName)> {
    let (topic, group) = key.split_once('/').unwrap_or_default();
    match (TopicName::parse(topic), GroupName::parse(group)) {
        (Ok(topic), Ok(group)) => Ok((topic, group)),
        _ => Err(Problem::validation("cursor", "the cursor is another list's")),
    }
}

/// How long messages are kept. What is left out is bounded by the tenant's quotas alone.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct Retention {
    /// Messages older than this go, in milliseconds.
    age_ms: Option<u64>,
    /// The oldest messages of a partition go while it holds more bytes than this.
    bytes: Option<u64>,
}

impl From<Retention> for topics::Retention {
    fn from(r: Retention) -> topics::Retention {
        topics::Retention { age_ms: r.age_ms, bytes: r.bytes }
    }
}

/// A topic: a tenant's durable log.
#[derive(Debug, Serialize, ToSchema)]
struct Topic {
    /// Its name.
    name: String,
    /// Every partition, in order.
    partitions: Vec<Partition>,
    /// Messages that are kept, deleted ones among them.
    messages: u64,
    /// What it holds of the tenant's `storage_bytes`.
    bytes: u64,
    /// How long messages are kept.
    retention: Retention,
    /// Consumer groups that it has.
    groups: u32,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
}

/// One partition of a topic.
#[derive(Debug, Serialize, ToSchema)]
struct Partition {
    /// Its number.
    partition: u32,
    /// The offset of the oldest message that is kept.
    first_offset: u64,
    /// The offset that the next message will get.
    next_offset: u64,
    /// What it holds of the tenant's `storage_bytes`.
    bytes: u64,
}

impl From<&TopicInfo> for Topic {
    fn from(t: &TopicInfo) -> Topic {
        let part = |(partition, p): (u32, &topics::PartInfo)| Partition {
            partition,
            first_offset: p.first,
            next_offset: p.next,
            bytes: p.bytes,
        };
        Topic {
            name: t.name.to_string(),
            partitions: (0..).zip(&t.partitions).map(part).collect(),
            messages: t.partitions.iter().map(|p| p.next - p.first).sum(),
            bytes: t.partitions.iter().map(|p| p.bytes).sum(),
            retention: Retention { age_ms: t.retention.age_ms, bytes: t.retention.bytes },
            groups: t.groups,
            created_at: rfc3339(UNIX_EPOCH + Duration::from_millis(t.created)),
        }
    }
}

/// The tenant of a path.
fn tenant(api: &Api, id: &str) -> Answer<Arc<Tenant>> {
    api.tenant(id).ok_or_else(Problem::no_tenant)
}

/// The tenant of a path, for which something new is to be made: not while it is suspended.
pub(super) fn active_tenant(api: &Api, id: &str) -> Answer<Arc<Tenant>> {
    let tenant = tenant(api, id)?;
    match tenant.state() {
        Standing::Active => Ok(tenant),
        _ => Err(Problem::forbidden("the tenant is suspended")),
    }
}

fn bad_name(field: &'static str) -> impl Fn(NameError) -> Problem {
    move |error| Problem::validation(field, format!("{field}: {error}"))
}

/// The topic that a request names.
pub(super) fn topic_name(text: &str) -> Answer<TopicName> {
    TopicName::parse(text).map_err(bad_name("topic"))
}

fn group_name(text: &str) -> Answer<GroupName> {
    GroupName::parse(text).map_err(bad_name("group"))
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopicPage)]
struct Topics {
    /// Those on this page, in the order of their names.
    items: Vec<Topic>,
    /// Where the next page begins: pass it as `cursor`. Null on the last page.
    next_cursor: Option<String>,
}

/// List a tenant's topics
///
/// In the order of their names; dead letters are topics, too.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/topics", tag = "topics",
    params(("id" = String, Path, description = "The tenant"), Params),
    responses((status = 200, description = "A page of topics", body = Topics)))]
async fn list(
    State(api): State<Api>,
    Named(id): Named,
    Query(params): Query<Params>,
) -> Answer<Json<Topics>> {
    let tenant = tenant(&api, &id)?;
    let limit = page::limit(params.limit)?;
    let after = page::after(params.cursor.as_deref())?;
    let after = after.map(|name| TopicName::parse(&name)).transpose();
    let after = after.map_err(|_| Problem::validation("cursor", "the cursor is another list's"))?;
    let listed = api.services.topics.list(&tenant, after.as_ref(), limit).await?;
    let items = listed.topics.iter().map(Topic::from).collect();
    let next_cursor = listed.next.map(|name| page::cursor(name.as_str()));
    Ok(Json(Topics { items, next_cursor }))
}

/// A topic that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTopic {
    /// Its name: `[a-z0-9][a-z0-9._-]{0,122}`, and not ending with `.dead`.
    name: String,
    /// How many partitions.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1024, default = 1)]
    partitions: u32,
    /// How long messages are kept.
    #[serde(default)]
    #[schema(required = false)]
    retention: Retention,
}

fn one() -> u32 {
    1
}

/// Create a topic
///
/// Its partitions are as many for good.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/topics", tag = "topics",
    params(("id" = String, Path, description = "The tenant")), request_body = NewTopic,
    responses((status = 201, description = "The topic", body = Topic),
        (status = 409, description = "There is one of that name", body = Document,
            content_type = "application/problem+json"),
        (status = 429, description = "A quota is used up", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
async fn create(
    State(api): State<Api>,
    Named(id): Named,
    Body(new): Body<NewTopic>,
) -> Answer<(StatusCode, Json<Topic>)> {
    let tenant = active_tenant(&api, &id)?;
    let name = TopicName::parse(&new.name).map_err(bad_name("name"))?;
    if new.partitions == 0 {
        return Err(Problem::validation("partitions", "partitions: at least 1"));
    }
    let retention = new.retention.into();
    let made = api.services.topics.create(&tenant, &name, new.partitions, retention).await?;
    Ok((StatusCode::CREATED, Json(Topic::from(&made))))
}

/// Show a topic
///
/// With what each of its partitions holds.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/topics/{topic}", tag = "topics",
    params(("id" = String, Path, description = "The tenant"),
        ("topic" = String, Path, description = "The topic")),
    responses((status = 200, description = "The topic", body = Topic)))]
async fn show(State(api): State<Api>, Both(id, topic): Both) -> Answer<Json<Topic>> {
    let (tenant, name) = (tenant(&api, &id)?, topic_name(&topic)?);
    Ok(Json(Topic::from(&api.services.topics.get(&tenant, &name).await?)))
}

/// How a topic is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TopicChange {
    /// How long messages are kept from now on: all of it, what is left out is not bounded any more.
    retention: Retention,
}

/// Change how long a topic's messages are kept
///
/// What is kept too long by that goes soon after.
#[utoipa::path(patch, path = "/api/v1/tenants/{id}/topics/{topic}", tag = "topics",
    params(("id" = String, Path, description = "The tenant"),
        ("topic" = String, Path, description = "The topic")),
    request_body = TopicChange,
    responses((status = 200, description = "The topic as it is now", body = Topic),
        (status = 429, description = "A quota is used up", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
async fn update(
    State(api): State<Api>,
    Both(id, topic): Both,
    Body(change): Body<TopicChange>,
) -> Answer<Json<Topic>> {
    let (tenant, name) = (tenant(&api, &id)?, topic_name(&topic)?);
    let kept = api.services.topics.keep(&tenant, &name, change.retention.into()).await?;
    Ok(Json(Topic::from(&kept)))
}

/// Delete a topic
///
/// With its messages, its groups and its dead letters.
#[utoipa::path(delete, path = "/api/v1/tenants/{id}/topics/{topic}", tag = "topics",
    params(("id" = String, Path, description = "The tenant"),
        ("topic" = String, Path, description = "The topic")),
    responses((status = 204, description = "It is gone")))]
async fn delete(State(api): State<Api>, Both(id, topic): Both) -> Answer<StatusCode> {
    let (tenant, name) = (tenant(&api, &id)?, topic_name(&topic)?);
    api.services.topics.delete(&tenant, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A consumer group of a topic.
#[derive(Debug, Serialize, ToSchema)]
struct Group {
    /// Of which topic.
    topic: String,
    /// Its name.
    name: String,
    /// Members that are connected.
    members: u32,
    /// Rises with every change of its members; 0 when it has had none since the broker's start.
    generation: u64,
    /// Messages from its positions to the ends.
    lag: u64,
    /// Every partition, in order.
    partitions: Vec<GroupPartition>,
}

/// How far a group is in one partition.
#[derive(Debug, Serialize, ToSchema)]
struct GroupPartition {
    /// Its number.
    partition: u32,
    /// The lowest offset that is not acknowledged.
    position: u64,
    /// The offset that the next message will get.
    next_offset: u64,
    /// Messages delivered and not acknowledged.
    in_flight: u32,
    /// The member that has it: a number within the group.
    member: Option<u64>,
}

impl From<&GroupInfo> for Group {
    fn from(g: &GroupInfo) -> Group {
        let part = |(partition, p): (u32, &topics::GroupPart)| GroupPartition {
            partition,
            position: p.position,
            next_offset: p.next,
            in_flight: p.in_flight,
            member: p.member,
        };
        Group {
            topic: g.topic.to_string(),
            name: g.group.to_string(),
            members: g.members,
            generation: g.generation,
            lag: g.partitions.iter().map(|p| p.next.saturating_sub(p.position)).sum(),
            partitions: (0..).zip(&g.partitions).map(part).collect(),
        }
    }
}
