//! What the engine says against an item, in its own words.

use tollgate_protocol::{Code, batch::Scope};

use crate::{
    batch::{
        catalog::Entry,
        outcome::{Failure, Outcome},
    },
    tenancy::{Quota, Refusal},
};

/// A result larger than its recipe may give is a failure.
pub(crate) fn bounded(entry: &Entry, outcome: Outcome) -> Outcome {
    match outcome {
        Ok(reply) if reply.payload().len() > entry.spec.result_bytes_max => {
            let (len, max) = (reply.payload().len(), entry.spec.result_bytes_max);
            Err(Failure::interrupted(
                Code::ResultTooLarge,
                format!("a result of {len} bytes, the recipe may give {max}"),
                false,
            )
            .detail("length", len)
            .detail("limit", max))
        }
        other => other,
    }
}

pub(super) fn too_many_items(count: u64, max: u64) -> Failure {
    let (quota, scope) = (Quota::BatchItems, Scope::Tenant);
    let refusal = Refusal { quota, scope, current: count, limit: max };
    Failure::over(refusal, "the batch has more items than the tenant may send in one")
}

/// The answer for a tenant that this gateway may not name, whether it exists or not.
pub(crate) fn foreign() -> Failure {
    Failure::new(Code::Forbidden, "the gateway may not act for this tenant")
}

pub(super) fn unknown(recipe: &str) -> Failure {
    match tollgate_protocol::id::RecipeName::check(recipe) {
        Ok(()) => Failure::new(Code::RecipeNotFound, format!("there is no recipe `{recipe}`"))
            .detail("recipe", recipe),
        Err(e) => Failure::validation("recipe", e.to_string()),
    }
}
