//! A look at a broker: what its tenants use and did, and its workers, at one moment.

use std::time::Instant;

use serde_json::Value;

use crate::cli::api::{
    Api,
    model::{self, Stats, Usage, WorkerTotal},
};

/// What was seen.
#[derive(Debug)]
pub(super) struct Sample {
    pub at: Instant,
    pub usage: Vec<Usage>,
    pub stats: Vec<Stats>,
    pub workers: WorkerTotal,
    /// There are more tenants than were asked for.
    pub more: bool,
}

impl Sample {
    /// Looks at up to so many tenants.
    pub(super) async fn take(api: &Api, tenants_max: usize) -> anyhow::Result<Sample> {
        let (usage, more) = read(api, "usage", tenants_max).await?;
        let (stats, _) = read(api, "stats", tenants_max).await?;
        let page = api.get(&["workers"], &[("limit", "1".to_owned())]).await?;
        let workers = model::read(&page["total"])?;
        Ok(Sample { at: Instant::now(), usage, stats, workers, more })
    }
}

async fn read<T: serde::de::DeserializeOwned>(
    api: &Api,
    what: &str,
    most: usize,
) -> anyhow::Result<(Vec<T>, bool)> {
    const PAGE: usize = 1_000;
    let mut items: Vec<T> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let limit = most.saturating_sub(items.len()).clamp(1, PAGE);
        let mut query = vec![("limit", limit.to_string())];
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
