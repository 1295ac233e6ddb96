//! Quotas as JSON: a number each, -1 for unlimited; and the profiles they come in.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Type,
        schema::{AdditionalProperties, Schema, SchemaType},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::api::Api;
use crate::tenancy::{Quota, Quotas};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(profiles))
}

/// Every quota of a tenant, as the document describes it.
pub(super) struct AllQuotas;

/// Some quotas.
pub(super) struct SomeQuotas;

/// Some quotas, those that are null among them.
pub(super) struct QuotasPatch;

impl ToSchema for AllQuotas {
    fn name() -> std::borrow::Cow<'static, str> {
        "Quotas".into()
    }
}

impl PartialSchema for AllQuotas {
    fn schema() -> RefOr<Schema> {
        Quota::ALL.iter().fold(numbers(false), |object, q| object.required(q.name())).into()
    }
}

impl ToSchema for SomeQuotas {
    fn name() -> std::borrow::Cow<'static, str> {
        "QuotaOverrides".into()
    }
}

impl PartialSchema for SomeQuotas {
    fn schema() -> RefOr<Schema> {
        numbers(false).into()
    }
}

impl ToSchema for QuotasPatch {
    fn name() -> std::borrow::Cow<'static, str> {
        "QuotasPatch".into()
    }
}

impl PartialSchema for QuotasPatch {
    fn schema() -> RefOr<Schema> {
        numbers(true).into()
    }
}

fn numbers(nullable: bool) -> ObjectBuilder {
    let number: SchemaType = if nullable {
        SchemaType::from_iter([Type::Integer, Type::Null])
    } else {
        SchemaType::Type(Type::Integer)
    };
    let one = || {
        let number = ObjectBuilder::new().schema_type(number.clone()).minimum(Some(-1));
        number.maximum(Some(i64::MAX)).build()
    };
    let all = ObjectBuilder::new()
        .description(Some("-1 is unlimited, 0 is none"))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    Quota::ALL.iter().fold(all, |object, quota| object.property(quota.name(), one()))
}

/// A profile of quotas.
#[derive(Debug, Serialize, ToSchema)]
struct Profile {
    /// Its name.
    name: String,
    /// Its quotas; what it leaves out has the value of `default`.
    #[schema(value_type = AllQuotas)]
    quotas: Quotas,
}

/// Every profile.
#[derive(Debug, Serialize, ToSchema)]
struct Profiles {
    /// In the order of their names.
    items: Vec<Profile>,
}

/// List the profiles of quotas
///
/// They come from the configuration, over those that are built in.
#[utoipa::path(get, path = "/api/v1/quota-profiles", tag = "quotas",
    responses((status = 200, description = "Every profile", body = Profiles)))]
async fn profiles(State(api): State<Api>) -> Json<Profiles> {
    let profiles = api.services.tenants.profiles();
    let profile = |(name, quotas): (&str, &Quotas)| Profile { name: name.into(), quotas: *quotas };
    Json(Profiles { items: profiles.iter().map(profile).collect() })
}
