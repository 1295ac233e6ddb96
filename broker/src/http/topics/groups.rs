//! Consumer groups: who they are and how far, moved and forgotten.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    super::{
        api::Api,
        extract::{Body, Named, Query, Three},
        page,
        problem::{Answer, Document, Problem},
    },
    Group, OfTopics, group_name, place, tenant, topic_name,
};
use crate::topics::Start;

/// A page of groups.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupPage)]
pub(super) struct Groups {
    /// Those on this page, in the order of topics and names.
    items: Vec<Group>,
    /// Where the next page begins: pass it as `cursor`. Null on the last page.
    next_cursor: Option<String>,
}

/// List a tenant's consumer groups
///
/// Of one topic, or of all.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/groups", tag = "topics",
    params(("id" = String, Path, description = "The tenant"), OfTopics),
    responses((status = 200, description = "A page of groups", body = Groups)))]
pub(super) async fn list(
    State(api): State<Api>,
    Named(id): Named,
    Query(params): Query<OfTopics>,
) -> Answer<Json<Groups>> {
    let tenant = tenant(&api, &id)?;
    let limit = page::limit(params.limit)?;
    let topic = params.topic.as_deref().map(topic_name).transpose()?;
    let after = page::after(params.cursor.as_deref())?.map(|key| place(&key)).transpose()?;
    let topics = &api.services.topics;
    let listed = topics.groups(&tenant, topic.as_ref(), after.as_ref(), limit).await?;
    let items = listed.groups.iter().map(Group::from).collect();
    let next_cursor = listed.next.map(|(topic, group)| page::cursor(&format!("{topic}/{group}")));
    Ok(Json(Groups { items, next_cursor }))
}

/// Show a consumer group
///
/// How far it is in each partition, and who has that.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/topics/{topic}/groups/{group}", tag = "topics",
    params(("id" = String, Path, description = "The tenant"),
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The group")),
    responses((status = 200, description = "The group", body = Group)))]
pub(super) async fn show(
    State(api): State<Api>,
    Three(id, topic, group): Three,
) -> Answer<Json<Group>> {
    let tenant = tenant(&api, &id)?;
    let (topic, group) = (topic_name(&topic)?, group_name(&group)?);
    Ok(Json(Group::from(&api.services.topics.group(&tenant, &topic, &group).await?)))
}

/// Forget a consumer group
///
/// And its positions. Only while it has no members.
#[utoipa::path(delete, path = "/api/v1/tenants/{id}/topics/{topic}/groups/{group}", tag = "topics",
    params(("id" = String, Path, description = "The tenant"),
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The group")),
    responses((status = 204, description = "It is gone"),
        (status = 409, description = "It has members", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(api): State<Api>,
    Three(id, topic, group): Three,
) -> Answer<StatusCode> {
    let tenant = tenant(&api, &id)?;
    let (topic, group) = (topic_name(&topic)?, group_name(&group)?);
    api.services.topics.delete_group(&tenant, &topic, &group).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a group is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reset {
    /// To where: `earliest`, `latest`, or one of the two below.
    #[serde(default)]
    #[schema(inline, required = false)]
    to: Option<Place>,
    /// To this offset; no further than the end.
    #[serde(default)]
    offset: Option<u64>,
    /// To the first message of this time or later, in milliseconds since the Unix epoch.
    #[serde(default)]
    time_unix_ms: Option<u64>,
    /// Only in this partition.
    #[serde(default)]
    partition: Option<u32>,
}

/// An end of a partition.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Place {
    Earliest,
    Latest,
}

/// Move a consumer group
///
/// In one partition or all. Only while it has no members.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/topics/{topic}/groups/{group}/reset",
    tag = "topics",
    params(("id" = String, Path, description = "The tenant"),
        ("topic" = String, Path, description = "The topic"),
        ("group" = String, Path, description = "The group")),
    request_body = Reset,
    responses((status = 200, description = "The group as it is now", body = Group),
        (status = 409, description = "It has members", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn reset(
    State(api): State<Api>,
    Three(id, topic, group): Three,
    Body(reset): Body<Reset>,
) -> Answer<Json<Group>> {
    let tenant = tenant(&api, &id)?;
    let (topic, group) = (topic_name(&topic)?, group_name(&group)?);
    let to = match (reset.to, reset.offset, reset.time_unix_ms) {
        (Some(Place::Earliest), None, None) => Start::Earliest,
        (Some(Place::Latest), None, None) => Start::Latest,
        (None, Some(offset), None) => Start::Offset(offset),
        (None, None, Some(at)) => Start::Time(at),
        _ => return Err(Problem::validation("to", "exactly one of to, offset and time_unix_ms")),
    };
    let topics = &api.services.topics;
    let moved = topics.move_group(&tenant, &topic, &group, reset.partition, to).await?;
    Ok(Json(Group::from(&moved)))
}
