//! Messages, one at a time: appended, found by their id, listed, deleted.
//!
//! A tenant's own messages are found with its credential; whoever runs the broker says whose are
//! meant.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tollgate_protocol::{Code, PairsBuf, id::MessageId, topic};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::Caller,
    extract::{Body, Named, Query},
    page,
    problem::{Answer, Document, Problem},
    time::rfc3339,
    topics::{active_tenant, topic_name},
};
use crate::{
    batch::Failure,
    tenancy::{Cost, Quota, Tenant},
    topics::{Fate, Got},
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(append, show, delete))
        .routes(routes!(stats))
}

/// The topic of messages that name none.
const INBOX: &str = "inbox";

/// A message to be appended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    /// Any JSON.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
    /// Which topic; `inbox` is made when it is not there.
    #[serde(default)]
    topic: Option<String>,
    /// Messages of one key go into one partition, in their order.
    #[serde(default)]
    key: Option<String>,
    /// For who reads it.
    #[serde(default)]
    #[schema(required = false)]
    headers: BTreeMap<String, String>,
    /// Into this partition, whatever its key.
    #[serde(default)]
    partition: Option<u32>,
}

/// Where a message was appended.
#[derive(Debug, Serialize, ToSchema)]
struct Appended {
    /// Its id.
    id: String,
    /// To which topic.
    topic: String,
    /// In which partition.
    partition: u32,
    /// Its place there.
    offset: u64,
}

/// Append a message
///
/// Answered once it is on stable storage.
#[utoipa::path(post, path = "/api/v1/messages/{id}", tag = "messages",
    params(("id" = String, Path, description = "The tenant")), request_body = NewMessage,
    responses((status = 201, description = "Where it is", body = Appended),
        (status = 429, description = "A quota is used up", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
async fn append(
    State(api): State<Api>,
    Named(id): Named,
    Body(new): Body<NewMessage>,
) -> Answer<Response> {
    let tenant = active_tenant(&api, &id)?;
    let name = topic_name(new.topic.as_deref().unwrap_or(INBOX))?;
    let payload = new.payload.get().as_bytes();
    let len = payload.len() as u64;
    tenant.check(Quota::PayloadBytes, len).map_err(|refusal| {
        Failure::over(refusal, "the payload is larger than the tenant may send")
    })?;
    let mut headers = PairsBuf::new();
    for (key, value) in &new.headers {
        let bad = |e| Problem::validation("headers", format!("headers.{key}: {e}"));
        headers.push(key, value).map_err(bad)?;
    }
    let key = new.key.as_deref().map(str::as_bytes);
    let most = tollgate_protocol::limits::MESSAGE_KEY_BYTES_MAX;
    if key.is_some_and(|key| key.len() > most) {
        return Err(Problem::validation("key", format!("key: at most {most} bytes are allowed")));
    }
    let producing = api.services.topics.produce(&tenant, &name, None).await?;
    let message = topic::Message {
        // Without a key, partitions take turns.
        sequence: uuid::Uuid::now_v7().as_u128() as u64,
        partition: new.partition,
        key,
        headers: headers.as_pairs(),
        ..topic::Message::new(0, payload)
    };
    let ready = producing.ready(&message)?;
    let charged = tenant.charge_messages(std::time::Instant::now(), [Cost::one(len)].into_iter());
    if let Some(stop) = charged.stop {
        return Err(Failure::rate(&stop).into());
    }
    let room = tenant.reserve_bytes_wait(ready.stored_len()).await;
    let fates = producing.append(vec![ready], room).fates().await;
    match fates.into_iter().next() {
        Some(Fate::Kept { partition, offset, .. }) => {
            let id = producing.id_at(partition, offset).await?;
            let id = MessageId(id).to_string();
            let place = HeaderValue::from_str(&format!("/api/v1/messages/{id}"));
            let told = Appended { id, topic: name.to_string(), partition, offset };
            let mut response = (StatusCode::CREATED, Json(told)).into_response();
            if let Ok(place) = place {
                response.headers_mut().insert(LOCATION, place);
            }
            Ok(response)
        }
        Some(Fate::Refused { failure, .. }) => Err(failure.into()),
        None => Err(Problem::new(Code::InternalError, "the message has no answer")),
    }
}

/// A message of a topic.
#[derive(Debug, Serialize, ToSchema)]
struct Message {
    /// Its id: rises within its partition.
    id: String,
    /// Of which topic.
    topic: String,
    /// In which partition it is.
    partition: u32,
    /// Its place there.
    offset: u64,
    /// When it happened, as its producer said, or when it arrived.
    #[schema(format = DateTime)]
    timestamp: String,
    /// Its key, when it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Its key, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// From its producer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    headers: BTreeMap<String, String>,
    /// Its payload, when it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    /// Its payload, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl Message {
    fn of(topic: &str, got: &Got) -> Answer<Message> {
        let (delivery, payload) = got.delivery()?;
        let text = std::str::from_utf8(&payload).ok();
        let json = text.and_then(|text| RawValue::from_string(text.to_owned()).ok());
        let payload_base64 = json.is_none().then(|| STANDARD.encode(&payload));
        let key = delivery.key.map(|key| std::str::from_utf8(key).map_err(|_| key));
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(delivery.timestamp_unix_ms));
        Ok(Message {
            id: MessageId(delivery.id).to_string(),
            topic: topic.to_owned(),
            partition: delivery.partition,
            offset: delivery.offset,
            timestamp: rfc3339(at.unwrap_or(SystemTime::UNIX_EPOCH)),
            key: key.and_then(Result::ok).map(str::to_owned),
            key_base64: key.and_then(Result::err).map(|key| STANDARD.encode(key)),
            headers: delivery.headers.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            payload: json,
            payload_base64,
        })
    }
}

/// Whose messages are meant: the caller's own; who runs the broker says so.
fn whose(api: &Api, caller: &Caller, named: Option<&str>) -> Answer<Arc<Tenant>> {
    let id = match (caller, named) {
        (Caller::Tenant { id, .. }, Some(named)) if named != id => {
            return Err(Problem::no_tenant());
        }
        (Caller::Tenant { id, role }, _) => {
            if *role != super::config::TokenRole::Client {
                return Err(Problem::forbidden("this is for the tenant's clients"));
            }
            id.as_str()
        }
        (_, Some(named)) => named,
        (_, None) => {
            return Err(Problem::validation("tenant_id", "tenant_id: say whose messages"));
        }
    };
    api.tenant(id).ok_or_else(Problem::no_tenant)
}

/// The message of a path. What is no id of a message is none's.
fn message_id(text: &str) -> Answer<[u8; 16]> {
    let id = uuid::Uuid::parse_str(text).map(uuid::Uuid::into_bytes);
    id.map_err(|_| Problem::new(Code::NotFound, "there is no such message"))
}

/// Which page of which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// Whose; a tenant's own credential says so by itself.
    tenant_id: Option<String>,
    /// Of which topic; `inbox` when it is left out.
    topic: Option<String>,
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before. It stays good while messages come
    /// and go.
    cursor: Option<String>,
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MessagePage)]
struct Messages {
    /// Those on this page: partition after partition, in the order of their offsets.
    items: Vec<Message>,
    /// Where the next page begins: pass it as `cursor`. Null on the last page.
    next_cursor: Option<String>,
}

/// List the messages of a topic
///
/// Each once, however many come and go meanwhile. A page holds about 1 MiB at most.
#[utoipa::path(get, path = "/api/v1/messages", tag = "messages", params(Params),
    responses((status = 200, description = "A page of messages", body = Messages),
        (status = 404, description = "There is no such message, topic or tenant", body = Document,
            content_type = "application/problem+json")))]
async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(params): Query<Params>,
) -> Answer<Json<Messages>> {
    let tenant = whose(&api, &caller, params.tenant_id.as_deref())?;
    let name = topic_name(params.topic.as_deref().unwrap_or(INBOX))?;
    let limit = page::limit(params.limit)?;
    let after = page::after(params.cursor.as_deref())?;
    let listed = api.services.topics.messages(&tenant, &name, after.as_deref(), limit).await?;
    let items = listed.messages.iter().map(|got| Message::of(name.as_str(), got));
    let items = items.collect::<Answer<Vec<_>>>()?;
    let next_cursor = listed.next.map(|next| page::cursor(&next));
    Ok(Json(Messages { items, next_cursor }))
}

/// Whose message.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    /// Whose; a tenant's own credential says so by itself.
    tenant_id: Option<String>,
}

/// Show a message
///
/// By its id, whichever topic it is of.
#[utoipa::path(get, path = "/api/v1/messages/{id}", tag = "messages",
    params(("id" = String, Path, description = "The message"), Of),
    responses((status = 200, description = "The message", body = Message),
        (status = 404, description = "There is no such message, topic or tenant", body = Document,
            content_type = "application/problem+json")))]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Query(of): Query<Of>,
) -> Answer<Json<Message>> {
    let tenant = whose(&api, &caller, of.tenant_id.as_deref())?;
    let message = api.services.topics.message(&tenant, message_id(&id)?).await?;
    Ok(Json(Message::of(message.topic.as_str(), &message.got)?))
}

/// Delete a message
///
/// Nobody reads it any more. Its bytes are given back once all before it are gone.
#[utoipa::path(delete, path = "/api/v1/messages/{id}", tag = "messages",
    params(("id" = String, Path, description = "The message"), Of),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is no such message, topic or tenant", body = Document,
            content_type = "application/problem+json")))]
async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Query(of): Query<Of>,
) -> Answer<StatusCode> {
    let tenant = whose(&api, &caller, of.tenant_id.as_deref())?;
    api.services.topics.delete_message(&tenant, message_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a tenant's topics come to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MessageStats)]
struct Stats {
    /// The tenant.
    tenant_id: String,
    /// Topics that there are, dead letters and `inbox` among them.
    topics: u64,
    /// Partitions of all of them.
    partitions: u64,
    /// Consumer groups.
    groups: u64,
    /// Messages that are kept, deleted ones among them.
    messages: u64,
    /// Bytes that they take of the tenant's storage.
    bytes: u64,
}

/// Count a tenant's messages
///
/// Those of all of its topics.
#[utoipa::path(get, path = "/api/v1/stats/tenants/{id}/messages", tag = "messages",
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, description = "How many there are", body = Stats)))]
async fn stats(State(api): State<Api>, Named(id): Named) -> Answer<Json<Stats>> {
    let tenant = api.tenant(&id).ok_or_else(Problem::no_tenant)?;
    let amounts = api.services.topics.amounts(&tenant).await?;
    Ok(Json(Stats {
        tenant_id: tenant.id().to_string(),
        topics: amounts.topics,
        partitions: amounts.partitions,
        groups: amounts.groups,
        messages: amounts.messages,
        bytes: amounts.bytes,
    }))
}
