//! Creating a tenant, once for an `Idempotency-Key`.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use axum::{
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tollgate_protocol::{Code, id::TenantId};
use utoipa::ToSchema;

use super::{
    super::{
        api::Api,
        extract::Body,
        problem::{Answer, Document, Problem},
        quotas::SomeQuotas,
    },
    Policy, Tenant,
};
use crate::tenancy::{CreateError, NewTenant, Overrides, Settings};

/// A tenant to be. What is left out has its default.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTenant)]
pub(super) struct New {
    /// Its id; left out, it gets a UUID.
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    id: Option<String>,
    /// For people.
    #[schema(max_length = 255)]
    name: Option<String>,
    /// The profile that its quotas come from: `default` if none is named.
    profile: Option<String>,
    /// The quotas that it has its own way, whatever the profile says.
    #[schema(value_type = Option<SomeQuotas>)]
    quotas: Option<Overrides>,
    /// What happens to items beyond a rate: `pace` if nothing is said.
    policy: Option<Policy>,
    /// Items that run at once: 256.
    concurrency: Option<u32>,
    /// Items that run at once for its bindings, each: 3.
    workers: Option<u32>,
    /// Its share among tenants that wait: 1.
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<u32>,
    /// The gateways that may act for it.
    gateways: Option<Vec<String>>,
    /// Whatever the operator likes to note.
    metadata: Option<BTreeMap<String, String>>,
}

impl New {
    fn settings(self) -> Settings {
        let mut s = Settings::default();
        let New { id: _, name, profile, quotas, policy, concurrency, .. } = self;
        s.name = name.unwrap_or(s.name);
        s.profile = profile.map_or(s.profile, Into::into);
        s.overrides = quotas.unwrap_or(s.overrides);
        s.policy = policy.map_or(s.policy, Into::into);
        s.concurrency = concurrency.unwrap_or(s.concurrency);
        s.workers = self.workers.unwrap_or(s.workers);
        s.weight = self.weight.unwrap_or(s.weight);
        s.gateways = self.gateways.unwrap_or(s.gateways);
        s.metadata = self.metadata.unwrap_or(s.metadata);
        s
    }
}

impl From<CreateError> for Problem {
    fn from(e: CreateError) -> Self {
        let field = match &e {
            CreateError::Id(_) | CreateError::Exists(_) => Some("id"),
            CreateError::Invalid(bad) => Some(bad.field),
            _ => None,
        };
        let problem = Problem::new(e.code(), e.to_string());
        match field {
            Some(field) => problem.detail("field", field),
            None => problem,
        }
    }
}

/// Create a tenant
///
/// With an `Idempotency-Key` it is created once, however often that is asked for: the key is
/// remembered for as long as the process lives, the newest 1,024 of them.
#[utoipa::path(post, path = "/api/v1/tenants", tag = "tenants", request_body = New,
    params(("idempotency-key" = Option<String>, Header,
        description = "Up to 256 characters: the same request with the same key creates one tenant")),
    responses(
        (status = 201, description = "It was created, or had been with this key", body = Tenant,
            headers(("location" = String, description = "Where it is"),
                ("etag" = String, description = "Its revision, in quotes"))),
        (status = 409, description = "The id is in use, or the key is another request's",
            body = Document, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn create(State(api): State<Api>, request: Request) -> Answer<Response> {
    let key = key(request.headers())?;
    let Body(new) = Body::<New>::from_request(request, &()).await?;
    let Some(key) = key else { return make(&api, new).await };
    let text = serde_json::to_vec(&new).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, &text);
    let begun = match api.keys.begin(&key, hash.as_ref())? {
        Begun::First(begun) => begun,
        Begun::Done(id) => {
            let tenant = api.tenant(id.as_str()).ok_or_else(|| {
                Problem::new(Code::Conflict, "the tenant that was created with this key is gone")
            })?;
            return Ok(created(Tenant::from(&*tenant)));
        }
    };
    // The key is free again when this fails.
    let response = make(&api, new).await?;
    begun.done(&response);
    Ok(response)
}

async fn make(api: &Api, new: New) -> Answer<Response> {
    let id = new.id.as_deref().map(TenantId::parse).transpose().map_err(CreateError::from)?;
    let new = NewTenant { id, settings: new.settings() };
    let tenant = api.services.tenants.create(new).await?;
    Ok(created(Tenant::from(&*tenant)))
}

fn created(tenant: Tenant) -> Response {
    let location = HeaderValue::from_str(&format!("/api/v1/tenants/{}", tenant.id));
    let mut response = (StatusCode::CREATED, tenant).into_response();
    response.headers_mut().extend(location.ok().map(|l| (header::LOCATION, l)));
    response
}

fn key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=KEY_CHARS_MAX).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => {
            let detail = format!("a key has 1 to {KEY_CHARS_MAX} printable ASCII characters");
            Err(Problem::validation("idempotency-key", detail))
        }
    }
}

/// What was asked for with a key, and what came of it. Bounded: the oldest are forgotten.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Keys(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<String, Asked>,
    /// The keys whose tenants were created, the oldest first.
    done: VecDeque<String>,
}

#[derive(Debug)]
struct Asked {
    /// Of what was asked for.
    hash: Vec<u8>,
    /// The tenant, once it was created.
    tenant: Option<TenantId>,
}

enum Begun {
    /// Nobody has asked with this key.
    First(Creating),
    /// It was created.
    Done(TenantId),
}

/// A key whose tenant is being created.
struct Creating {
    keys: Keys,
    key: String,
}

impl Keys {
    fn begin(&self, key: &str, hash: &[u8]) -> Answer<Begun> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.by_key.get(key) {
            Some(asked) if asked.hash != hash => {
                Err(Problem::new(Code::Conflict, "the key was used for another request")
                    .detail("field", "idempotency-key"))
            }
            Some(Asked { tenant: Some(id), .. }) => Ok(Begun::Done(id.clone())),
            Some(_) => {
                Err(Problem::new(Code::Conflict, "the request with this key is still under way")
                    .detail("field", "idempotency-key"))
            }
            None => {
                known.by_key.insert(key.to_owned(), Asked { hash: hash.to_vec(), tenant: None });
                Ok(Begun::First(Creating { keys: self.clone(), key: key.to_owned() }))
            }
        }
    }
}

impl Creating {
    fn done(self, response: &Response) {
        let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        let id = location.and_then(|l| TenantId::parse(l.rsplit('/').next()?).ok());
        let mut known = self.keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = known.by_key.get_mut(&self.key) {
            asked.tenant = id;
        }
        known.done.push_back(self.key.clone());
        while known.done.len() > KEYS_MAX {
            if let Some(oldest) = known.done.pop_front() {
                known.by_key.remove(&oldest);
            }
        }
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        let mut known = self.keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.by_key.get(&self.key).is_some_and(|asked| asked.tenant.is_none()) {
            known.by_key.remove(&self.key);
        }
    }
}

const KEY_CHARS_MAX: usize = 256;
/// Keys that are remembered once their tenants were created.
const KEYS_MAX: usize = 1_024;
