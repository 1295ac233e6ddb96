//! A look at a broker: what its tenants use and did, and its workers, at one moment.

use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use serde_json::Value;

use crate::cli::api::{
    Api,
    model::{self, Connection, Stats, Usage, WorkerTotal},
};

/// What was seen.
#[derive(Debug)]
pub(super) struct Sample {
    pub at: Instant,
    pub usage: Vec<Usage>,
    pub stats: Vec<Stats>,
    pub workers: WorkerTotal,
    /// What gateways have open, by their identity.
    pub gateways: BTreeMap<String, Gateway>,
    /// There are more tenants than were asked for.
    pub more: bool,
}

/// What a gateway has open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gateway {
    pub connections: u64,
    pub streams: u64,
}

impl Sample {
    /// Looks at up to so many tenants: those in use, and then the others.
    pub(super) async fn take(api: &Api, tenants_max: usize) -> anyhow::Result<Sample> {
        let (usage, more) =
            of_each(api, "usage", tenants_max, |u: &Usage| u.tenant_id.clone()).await?;
        let (stats, _) =
            of_each(api, "stats", tenants_max, |s: &Stats| s.tenant_id.clone()).await?;
        let (connections, _) = read::<Connection>(api, "connections", &[], CONNECTIONS_MAX).await?;
        let mut gateways: BTreeMap<String, Gateway> = BTreeMap::new();
        for open in connections.into_iter().filter(|c| c.role == "gateway") {
            let gateway = gateways.entry(open.identity).or_default();
            gateway.connections += 1;
            gateway.streams += open.streams;
        }
        let page = api.get(&["workers"], &[("limit", "1".to_owned())]).await?;
        let workers = model::read(&page["total"])?;
        Ok(Sample { at: Instant::now(), usage, stats, workers, gateways, more })
    }
}

/// Connections that are looked at for gateways' among them.
const CONNECTIONS_MAX: usize = 10_000;

/// Something of each tenant: of those in use, and of others until there are enough; and whether
/// there are more.
async fn of_each<T: serde::de::DeserializeOwned>(
    api: &Api,
    what: &str,
    most: usize,
    id: impl Fn(&T) -> String,
) -> anyhow::Result<(Vec<T>, bool)> {
    let in_use = [("in_use", "true".to_owned())];
    let (mut items, more) = read(api, what, &in_use, most).await?;
    if more || items.len() >= most {
        return Ok((items, true));
    }
    let seen: HashSet<String> = items.iter().map(&id).collect();
    let (others, more) = read(api, what, &[], most).await?;
    let mut others: Vec<T> = others.into_iter().filter(|t| !seen.contains(&id(t))).collect();
    let left = most - items.len();
    let more = more || others.len() > left;
    others.truncate(left);
    items.extend(others);
    Ok((items, more))
}

async fn read<T: serde::de::DeserializeOwned>(
    api: &Api,
    what: &str,
    filter: &[(&'static str, String)],
    most: usize,
) -> anyhow::Result<(Vec<T>, bool)> {
    const PAGE: usize = 1_000;
    let mut items: Vec<T> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let limit = most.saturating_sub(items.len()).clamp(1, PAGE);
        let mut query = vec![("limit", limit.to_string())];
        query.extend_from_slice(filter);
        query.extend(cursor.take().map(|c| ("cursor", c)));
        let page: Value = api.get(&[what], &query).await?;
        items.extend(model::items::<T>(&page)?);
        match page["next_cursor"].as_str() {
            None => return Ok((items, false)),
            Some(_) if items.len() >= most => return Ok((items, true)),
            Some(next) => cursor = Some(next.to_owned()),
        }
    }
}
