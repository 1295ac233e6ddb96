//! Permits of jobs that are lost are found, and told.

use std::time::{Duration, Instant};

use super::rig::{Rig, soon};
use crate::{
    events::{Events, Kind, News},
    jobs::Jobs,
    store::Store,
    tenancy::{
        Quota,
        audit::{self, Found},
    },
};

/// What there is of jobs, and nothing else.
fn found(jobs: &Jobs) -> Found {
    Found { jobs: jobs.holdings(), ..Found::default() }
}

/// As of the last audit: nothing else is counted here.
fn drift_of_jobs(rig: &Rig) -> u64 {
    let of_jobs = [Quota::JobsQueued, Quota::StorageBytes].map(Quota::name);
    let drifts = rig.registry.drifts().into_iter().filter(|d| of_jobs.contains(&d.quota));
    drifts.map(|d| d.difference()).sum()
}

#[tokio::test]
async fn a_permit_that_no_job_stands_behind_is_drift_until_it_is_given_back() {
    let rig = Rig::start(&Store::memory()).await;
    // A tenant with a job that runs and one that is over, and a tenant without any.
    let hangs = rig.accepted(0, "hang", "payload").await;
    let over = rig.accepted(0, "echo", "payload").await;
    rig.ended(0, over).await.expect("over");
    // From here on nothing runs but timers.
    tokio::time::pause();
    let (events, jobs) = (Events::default(), rig.jobs.clone());
    let mut told = events.subscribe(None);
    let recount = move || found(&jobs);
    let audit = tokio::spawn(audit::watch(rig.registry.clone(), events, 1_000, recount));
    let lost =
        [(0, Quota::JobsQueued, 3), (0, Quota::StorageBytes, 700), (1, Quota::JobsQueued, 1)];
    for (tenant, quota, n) in lost {
        let before = rig.tenants[tenant].used(quota, Instant::now());
        let permit = rig.tenants[tenant].permit(quota, n).expect("there is room");
        let drift = loop {
            let news = soon("a drift", told.next()).await.expect("told");
            if let Some(News::Event(event)) = news
                && let Kind::Drift { quota: of, counted, found, .. } = &event.kind
                && *of == quota.name()
            {
                break (*counted, *found);
            }
        };
        assert_eq!(drift, (before + n, before));
        assert_eq!(drift_of_jobs(&rig), n);
        drop(permit);
        let gone = async {
            while drift_of_jobs(&rig) > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is gone");
    }
    assert!(!rig.jobs.get(&rig.tenants[0], hangs).await.expect("it is there").state.is_over());
    audit.abort();
}
