//! Creating a tenant, once for an `Idempotency-Key`.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use axum::{
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tollgate_protocol::id::TenantId;
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
use crate::tenancy::{CreateError, NewTenant, Once, Overrides, Settings};

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
            CreateError::KeyUsed | CreateError::KeyGone => Some("idempotency-key"),
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
/// remembered with the tenant for 24 hours, also when the broker is started again. The same key with
/// another body is a conflict.
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
    let id = new.id.as_deref().map(TenantId::parse).transpose().map_err(CreateError::from)?;
    let text = serde_json::to_vec(&new).unwrap_or_default();
    let new = NewTenant { id, settings: new.settings() };
    let tenants = &api.services.tenants;
    let tenant = match key {
        None => tenants.create(new).await?,
        Some(key) => {
            let mut hash = [0; 32];
            hash.copy_from_slice(digest::digest(&digest::SHA256, &text).as_ref());
            tenants.create_once(new, Once { key, digest: hash }).await?
        }
    };
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
        Ok(key) if (1..=Once::KEY_CHARS_MAX).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => {
            let max = Once::KEY_CHARS_MAX;
            let detail = format!("a key has 1 to {max} printable ASCII characters");
            Err(Problem::validation("idempotency-key", detail))
        }
    }
}
