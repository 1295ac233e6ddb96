//! What happens, as server-sent events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event as Sse, KeepAlive, Sse as Stream},
    },
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use tollgate_protocol::Code;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::Query,
    problem::{Answer, Problem},
};
use crate::{
    broker::Drain,
    events::{News, Subscription},
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Streams that are open, out of those there may be. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<AtomicUsize>);

/// A stream that is open.
struct Open(Streams);

impl Streams {
    fn open(&self, max: usize) -> Option<Open> {
        let more = |n| (n < max).then_some(n + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Open(self.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// Only those of this tenant.
    tenant: Option<String>,
}

/// Follow what happens
///
/// Server-sent events: `event` is the kind, `data` one JSON object a line. With `Last-Event-ID` those
/// since then come first, as far as they are kept (`events.kept_max`); 0 stands before the first of
/// this process. An event `lost` says how many are missing, at least: look at the state itself then.
/// A comment every 15 seconds shows that the stream lives. The kinds: `tenant_created`,
/// `tenant_updated`, `tenant_suspended`, `tenant_activated`, `tenant_deleted`, `quota_warning`,
/// `quota_critical`, `quota_normal`, `connection_opened`, `connection_closed`, `worker_joined`,
/// `worker_left` (with `lost`, how many calls it had not answered), `job_dead`, `upstream_failing`,
/// `upstream_recovered`, `revocation_added`, `revocation_removed`, `drift`, `draining`.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(Params, ("last-event-id" = Option<String>, Header,
        description = "The id of the last event that was seen")),
    responses((status = 200, description = "A stream without end", body = String,
        content_type = "text/event-stream")))]
async fn follow(
    State(api): State<Api>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Answer<Response> {
    let after = match headers.get("last-event-id").map(|v| v.to_str().unwrap_or("?")) {
        None | Some("") => None,
        Some(id) => Some(id.parse().map_err(|_| {
            Problem::validation("last-event-id", "Last-Event-ID is the number of an event")
        })?),
    };
    let max = api.config().event_streams_max;
    let open = api.streams.open(max).ok_or_else(|| {
        Problem::new(
            Code::Overloaded,
            format!("{max} streams of events are open, as many as may be"),
        )
        .detail("config_key", "http.event_streams_max")
    })?;
    let told = Told {
        news: api.services.events.subscribe(after),
        drain: api.services.drain.subscribe(),
        tenant: params.tenant,
        _open: open,
    };
    // One event at a time: what is not read stays on the bus, which tells how much was lost.
    let events = stream::unfold(told, |mut told| async move {
        let event = told.next().await?;
        Some((event, told))
    });
    let alive = KeepAlive::new().interval(ALIVE_EVERY).text("alive");
    let stream = Stream::new(events.map(Ok::<_, axum::Error>)).keep_alive(alive);
    Ok(stream.into_response())
}

struct Told {
    news: Subscription,
    drain: tokio::sync::watch::Receiver<Drain>,
    tenant: Option<String>,
    _open: Open,
}

impl Told {
    /// The next event that is wanted; none once the broker is about to end.
    async fn next(&mut self) -> Option<Sse> {
        loop {
            let news = tokio::select! {
                // Biased: what happened before the end is told.
                biased;
                news = self.news.next() => news?,
                Ok(_) = self.drain.wait_for(|d| *d == Drain::Over) => return None,
            };
            match news {
                News::Lost(n) => {
                    let data = format!("{{\"kind\":\"lost\",\"lost\":{n}}}");
                    return Some(Sse::default().event("lost").data(data));
                }
                News::Event(event) => {
                    let theirs = event.tenant.as_ref().map(|t| t.as_str());
                    if self.tenant.is_some() && self.tenant.as_deref() != theirs {
                        continue;
                    }
                    let data = serde_json::to_string(&*event).unwrap_or_default();
                    let sse = Sse::default().id(event.id.to_string()).event(event.kind.name());
                    return Some(sse.data(data));
                }
            }
        }
    }
}

const ALIVE_EVERY: Duration = Duration::from_secs(15);
