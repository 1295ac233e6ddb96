//! The way to an upstream: its breaker, its counts, and what is told when it fails.
//!
//! Whoever goes through holds a [`Pass`]; one that is dropped says for itself how it ended.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tollgate_protocol::id::TenantId;

use super::config;
use crate::{
    batch::Context,
    events::{Events, Kind},
    metrics::{self, RequestEnd},
    rules::breaker::{Breaker, Change, Ending, Phase, Ticket},
};

/// The way to one upstream.
#[derive(Debug)]
pub(super) struct Gate {
    upstream: Arc<str>,
    base: Instant,
    /// A leaf: nothing is told, awaited or woken under it.
    breaker: Mutex<Breaker<TenantId>>,
    statuses: Vec<u16>,
    pub counts: Arc<metrics::Upstream>,
    events: Events,
}

impl Gate {
    pub(super) fn new(upstream: Arc<str>, settings: &config::Breaker, events: Events) -> Gate {
        Gate {
            upstream,
            base: Instant::now(),
            breaker: Mutex::new(Breaker::new(settings.settings())),
            statuses: settings.statuses.clone(),
            counts: Arc::default(),
            events,
        }
    }

    /// Lets a request through. `timeout` is the longest that the recipe gives any item.
    ///
    /// # Errors
    /// How long to wait before asking again, while the upstream is left alone.
    pub(super) fn enter(&self, ctx: &Context, timeout: Duration) -> Result<Pass<'_>, Duration> {
        let began = Instant::now();
        let admitted = self.lock().admit(self.ns(began));
        let ticket = admitted.map_err(|ns| {
            self.counts.refused();
            Duration::from_nanos(ns)
        })?;
        self.counts.begins();
        Ok(Pass {
            gate: self,
            ticket: Some(ticket),
            tenant: ctx.tenant().clone(),
            began,
            deadline: ctx.deadline(),
            timeout,
            delayed: AtomicBool::new(false),
        })
    }

    /// Whether an answer with this status is as good as none.
    pub(super) fn is_failure(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// 0 closed, 1 half-open, 2 open.
    pub(super) fn level(&self) -> u8 {
        match self.lock().phase(self.ns(Instant::now())) {
            Phase::Closed => 0,
            Phase::HalfOpen => 1,
            Phase::Open => 2,
        }
    }

    fn ended(&self, ticket: Ticket, tenant: &TenantId, ending: Ending, now: Instant) {
        let change = self.lock().end(ticket, tenant, ending, self.ns(now));
        let upstream = || self.upstream.to_string();
        match change {
            Some(Change::Opened) => {
                tracing::warn!(upstream = &*self.upstream, "the upstream fails, and is left alone");
                self.events.publish(None, Kind::UpstreamFailing { upstream: upstream() });
            }
            Some(Change::Closed) => {
                tracing::info!(upstream = &*self.upstream, "the upstream answers again");
                self.events.publish(None, Kind::UpstreamRecovered { upstream: upstream() });
            }
            None => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Breaker<TenantId>> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ns(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.base).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// One request that is under way.
#[derive(Debug)]
pub(super) struct Pass<'g> {
    gate: &'g Gate,
    ticket: Option<Ticket>,
    tenant: TenantId,
    began: Instant,
    deadline: Option<Instant>,
    timeout: Duration,
    /// Whether it has waited for its own tenant.
    delayed: AtomicBool,
}

impl Pass<'_> {
    /// Waits for something that is not the upstream's to give: a time-out is not its fault then, nor
    /// one after a wait that took some of its time.
    pub(super) async fn wait<T>(&self, something: impl Future<Output = T>) -> T {
        let began = Instant::now();
        self.delayed.store(true, Relaxed);
        let come = something.await;
        self.delayed.store(began.elapsed() >= DELAY, Relaxed);
        come
    }

    /// The request came to an end.
    pub(super) fn ends(mut self, how: RequestEnd, ending: Ending) {
        self.end(how, ending, Instant::now());
    }

    fn end(&mut self, how: RequestEnd, ending: Ending, now: Instant) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.counts.ends(how, now.saturating_duration_since(self.began));
            self.gate.ended(ticket, &self.tenant, ending, now);
        }
    }

    /// Whether the upstream had the time that the recipe gives it: a client that gives it less can
    /// not make it look broken to the others.
    fn had_its_time(&self, now: Instant) -> bool {
        let deadline = self.deadline.filter(|at| now >= *at && !self.delayed.load(Relaxed));
        let Some(deadline) = deadline else { return false };
        // The item's time began a moment before this pass did.
        deadline.saturating_duration_since(self.began) >= self.timeout.mul_f32(0.9)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        match self.deadline {
            _ if self.had_its_time(now) => self.end(RequestEnd::TimedOut, Ending::Failed, now),
            Some(at) if now >= at => self.end(RequestEnd::TimedOut, Ending::Unknown, now),
            _ => self.end(RequestEnd::GivenUp, Ending::Unknown, now),
        }
    }
}

/// A wait that takes something of the upstream's time.
const DELAY: Duration = Duration::from_millis(1);
