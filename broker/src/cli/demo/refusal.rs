//! Refusals: what a quota does to items and connections, and how a client copes.

use std::time::{Duration, Instant};

use tollgate_broker::tenancy::Policy;
use tollgate_client::{CloseCode, Code, ConnectError, ItemResult, Request, RetryPolicy};

use super::{
    Show, Stage,
    stage::{self, GLOBEX_CONNECTIONS, GLOBEX_PAYLOAD, GLOBEX_REQUESTS},
};
use crate::cli::format;

/// Half as many again as the limit.
const ITEMS: u64 = GLOBEX_REQUESTS * 3 / 2;
/// The window of a rate is a second, in tenths.
const WINDOW: Duration = Duration::from_millis(1_100);

pub(super) async fn play(stage: &Stage, show: &mut Show) -> anyhow::Result<()> {
    show.scene(
        "Refusals",
        "globex's policy is changed to `reject`, at once and on open connections",
    )?;
    stage.broker.tenants().update("globex", None, |s| s.policy = Policy::Reject).await?;
    tokio::time::sleep(WINDOW).await;
    let began = Instant::now();
    let requests = (0..ITEMS).map(|n| Request::new("echo", format!("order {n}")));
    let strict = stage.globex.batch().retry(RetryPolicy::none()).execute(requests).await?;
    // A window that moved on while the batch ran has let more in.
    let in_one_window = began.elapsed() < WINDOW - Duration::from_millis(200);
    let passed = strict.successes().count() as u64;
    let told = strict.failures().all(says_which_and_when);
    let exact = if in_one_window { passed == GLOBEX_REQUESTS } else { passed >= GLOBEX_REQUESTS };
    if let Some(f) = strict.failures().next().and_then(ItemResult::failure) {
        let wait = f.retry_after.map(format::duration).unwrap_or_default();
        show.line(format_args!("{} {f}; retry after {wait}", f.code().map_or(0, Code::status)))?;
    }
    show.promise(
        exact && told,
        format_args!(
            "of {ITEMS} items at once exactly {passed} passed; each other one was told the quota \
             and when to come back"
        ),
    )?;

    let began = Instant::now();
    let requests = (0..GLOBEX_REQUESTS / 2).map(|n| Request::new("echo", format!("again {n}")));
    let patient = stage.globex.execute(requests).await?;
    let tries = patient.iter().map(|item| item.attempts).max().unwrap_or(0);
    show.promise(
        patient.failures().count() == 0 && tries > 0,
        format_args!(
            "the client waits as told and tries again by itself: {} of {} passed after {}",
            patient.successes().count(),
            patient.len(),
            format::duration(began.elapsed())
        ),
    )?;

    let large = vec![0; GLOBEX_PAYLOAD as usize + 1];
    let request = [Request::new("sha256", large)];
    let result = stage.globex.batch().retry(RetryPolicy::none()).execute(request).await?;
    let failure = result.failures().next().and_then(ItemResult::failure);
    if let Some(f) = failure {
        show.line(format_args!("{} {f}", f.code().map_or(0, Code::status)))?;
    }
    show.promise(
        failure.is_some_and(|f| {
            !f.retryable && f.quota.as_ref().is_some_and(|q| &*q.quota == "payload_bytes")
        }),
        "a payload beyond `payload_bytes` is refused for good: trying again would not help",
    )?;

    let issued = stage::issue(stage.authority()?, "globex", "more")?;
    let mut more = Vec::new();
    let refused = loop {
        match stage::client(stage.addr, &issued)?.connect().await {
            Ok(client) => more.push(client),
            Err(e) => break e,
        }
    };
    let code = refused.close_code();
    let open = 1 + more.len() as u64;
    show.promise(
        code == Some(CloseCode::QuotaExceeded)
            && matches!(refused, ConnectError::Refused { .. })
            && open == GLOBEX_CONNECTIONS,
        format_args!("connection {} of globex was refused: {refused}", open + 1),
    )?;
    for client in more {
        client.close().await;
    }
    Ok(())
}

fn says_which_and_when(item: &ItemResult) -> bool {
    item.failure().is_some_and(|f| {
        f.code() == Some(Code::RateLimited)
            && f.retryable
            && f.retry_after.is_some_and(|wait| wait <= WINDOW)
            && f.quota.as_ref().is_some_and(|q| &*q.quota == "requests_per_second")
    })
}
