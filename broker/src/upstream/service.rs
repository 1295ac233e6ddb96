//! One upstream in use: its connections, its headers, and the gate before it.
//!
//! What files say (secrets, certificates) can be read again while it runs; everything else stays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use reqwest::{Client, header::HeaderMap, redirect};

use super::{
    error::{Problem, UpstreamError},
    gate::Gate,
    headers,
    plan::Plan,
    tls,
};
use crate::events::Events;

/// One upstream in use.
#[derive(Debug)]
pub(super) struct Service {
    pub plan: Plan,
    pub gate: Gate,
    live: ArcSwap<Live>,
    /// Whether the operator was told that it can not be reached.
    warned: AtomicBool,
}

/// What comes of its files.
#[derive(Debug)]
pub(super) struct Live {
    pub client: Client,
    /// Those of each recipe, in the order of the plan.
    pub headers: Vec<HeaderMap>,
}

impl Service {
    /// Reads its files.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(super) fn new(plan: Plan, events: Events) -> Result<Service, UpstreamError> {
        let live = ArcSwap::from_pointee(Live::read(&plan)?);
        let gate = Gate::new(plan.name.clone(), &plan.config.breaker, events);
        Ok(Service { plan, gate, live, warned: AtomicBool::new(false) })
    }

    pub(super) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Reads its files again.
    ///
    /// # Errors
    /// [`UpstreamError`]; nothing is changed by reading.
    pub(super) fn read_again(&self) -> Result<Live, UpstreamError> {
        Live::read(&self.plan)
    }

    /// Uses what was read: requests under way end on the connections that they have.
    pub(super) fn replace(&self, live: Live) {
        self.live.store(Arc::new(live));
    }

    /// Whether the operator is to be told that it can not be reached: once, as a line for each item
    /// would be a flood, and again after it was reached.
    pub(super) fn warn_once(&self) -> bool {
        !self.warned.swap(true, Relaxed)
    }

    /// It answered.
    pub(super) fn reached(&self) {
        if self.warned.load(Relaxed) {
            self.warned.store(false, Relaxed);
        }
    }
}

impl Live {
    fn read(plan: &Plan) -> Result<Live, UpstreamError> {
        let name = &plan.name;
        let tls = match plan.is_https {
            true => tls::config(&plan.config).map_err(|(key, p)| p.at(name, format!(".{key}")))?,
            false => tls::unused(),
        };
        let headers = plan.recipes.iter().map(|recipe| {
            let all = plan.headers.iter().chain(&recipe.headers);
            let read = headers::read(all).map_err(|(header, problem)| {
                problem.at(name, format!(" (recipe {}, header {header})", recipe.name))
            })?;
            Ok(headers::with_defaults(read, recipe.config.method, recipe.config.encoding))
        });
        let headers = headers.collect::<Result<_, UpstreamError>>()?;
        Ok(Live { client: client(plan, tls)?, headers })
    }
}

fn client(plan: &Plan, tls: rustls::ClientConfig) -> Result<Client, UpstreamError> {
    let ms = Duration::from_millis;
    let config = &plan.config;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        // Where a request goes is the operator's word alone: not a redirect's, not a variable's.
        .redirect(redirect::Policy::none())
        .no_proxy()
        // Who retries is the client crate, which is told whether it may.
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(ms(config.connect_timeout_ms))
        .pool_max_idle_per_host(config.pool_idle_max)
        .pool_idle_timeout(ms(config.pool_idle_timeout_ms))
        .http1_max_headers(HEADERS_MAX)
        .tcp_nodelay(true)
        .build()
        .map_err(|e| Problem::Client(e.to_string()).at(&plan.name, ""))
}

/// Headers of an answer; their bytes are bounded by hyper's buffer of 408 KiB.
const HEADERS_MAX: usize = 100;
