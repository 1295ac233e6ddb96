//! `tollgate tenant show`: all that is set for a tenant.

use std::time::SystemTime;

use crate::cli::{
    api::{self, model},
    format,
    output::{self, Output, printable, say},
};

/// What `tenant show` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate tenant show acme
  tollgate tenant show acme --output json | jq .quotas.requests_per_second")]
pub(crate) struct Args {
    /// Its id
    id: String,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let tenant = args.api.client()?.get(&["tenants", &args.id], &[]).await?;
    if output == Output::Json {
        return Ok(output::json(&tenant)?);
    }
    let tenant: model::Tenant = model::read(&tenant)?;
    output::record(&fields(&tenant, SystemTime::now()))?;
    say!("")?;
    output::table(["QUOTA", "LIMIT", "FROM"], &quotas(&tenant))?;
    Ok(())
}

fn fields(t: &model::Tenant, now: SystemTime) -> Vec<(&'static str, String)> {
    let list = |items: Vec<String>| match items.is_empty() {
        true => "-".to_owned(),
        false => items.join(", "),
    };
    let metadata = t.metadata.iter().map(|(k, v)| format!("{}={}", printable(k), printable(v)));
    vec![
        ("id", printable(&t.id)),
        ("name", list([printable(&t.name)].into_iter().filter(|n| !n.is_empty()).collect())),
        ("state", t.state.to_lowercase()),
        ("profile", printable(&t.profile)),
        ("policy", t.policy.clone()),
        ("concurrency", t.concurrency.to_string()),
        ("workers", t.workers.to_string()),
        ("weight", t.weight.to_string()),
        ("gateways", list(t.gateways.iter().map(|g| printable(g)).collect())),
        ("metadata", list(metadata.collect())),
        ("created", format::moment(&t.created_at, now)),
        ("updated", format::moment(&t.updated_at, now)),
        ("revision", t.revision.to_string()),
    ]
}

fn quotas(t: &model::Tenant) -> Vec<[String; 3]> {
    let from = |name: &str| match t.overrides.contains_key(name) {
        true => "the tenant".to_owned(),
        false => format!("profile {}", printable(&t.profile)),
    };
    let row =
        |(name, limit): (&String, &i64)| [printable(name), format::limit(name, *limit), from(name)];
    t.quotas.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tenant_is_shown_with_where_its_quotas_come_from() {
        let tenant: model::Tenant = model::read(&json!({
            "id": "acme", "name": "A\u{1b}[31m", "state": "Active", "profile": "pro",
            "quotas": {"bytes_per_second": 1_048_576, "topics": -1, "connections": 0},
            "overrides": {"topics": -1},
            "policy": "pace", "concurrency": 256, "workers": 3, "weight": 1, "gateways": ["edge"],
            "metadata": {"plan": "gold"}, "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-02T00:00:00Z", "revision": 7, "something": "new",
        }))
        .expect("a tenant");
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_767_312_000);
        let fields: std::collections::BTreeMap<_, _> = fields(&tenant, now).into_iter().collect();
        assert_eq!(fields["name"], "A\\u{1b}[31m");
        assert_eq!((&*fields["gateways"], &*fields["metadata"]), ("edge", "plan=gold"));
        assert_eq!(fields["created"], "2026-01-01T00:00:00Z, 24 hours ago");
        let quotas = quotas(&tenant);
        let shown: Vec<_> = quotas.iter().map(|row| row.each_ref().map(String::as_str)).collect();
        assert_eq!(
            shown,
            [
                ["bytes_per_second", "1.0 MiB/s", "profile pro"],
                ["connections", "none", "profile pro"],
                ["topics", "unlimited", "the tenant"],
            ]
        );
    }
}
