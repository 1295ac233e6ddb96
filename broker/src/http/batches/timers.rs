//! Everything of a batch that happens by time.

use std::{
    future::Future,
    task::{Context as Poller, Poll, ready},
    time::{Duration, Instant},
};

use tollgate_protocol::Code;

use super::drive::Drive;
use crate::batch::{Ending, Failure};

/// When things last happened.
pub(super) struct Times {
    read: Instant,
    wrote: Instant,
    reported: Option<Instant>,
}

impl Times {
    pub(super) fn new(now: Instant) -> Self {
        Times { read: now, wrote: now, reported: None }
    }

    /// A byte came, or nothing was owed until now.
    pub(super) fn read(&mut self, now: Instant) {
        self.read = now;
    }

    /// Something was handed on.
    pub(super) fn wrote(&mut self, now: Instant) {
        self.wrote = now;
    }

    pub(super) fn reported(&mut self, now: Instant) {
        self.reported = Some(now);
    }

    /// Whether the last progress was told long enough ago.
    pub(super) fn may_report(&self, now: Instant) -> bool {
        self.next_report() <= now
    }

    fn next_report(&self) -> Instant {
        self.reported.map_or(self.wrote, |at| at + REPORT_INTERVAL)
    }
}

impl Drive {
    /// Waits for the next thing that happens by time, and does it when it is due.
    pub(super) fn wait_for_time(&mut self, cx: &mut Poller<'_>) -> Poll<()> {
        let due = self.next_due();
        match &mut self.timer {
            // An earlier wake-up than needed is harmless, and spares moving the timer.
            Some(timer) if timer.deadline().into_std() <= due => {}
            Some(timer) => timer.as_mut().reset(due.into()),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(due.into()))),
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        self.timer = None;
        self.on_time(Instant::now());
        Poll::Ready(())
    }

    fn next_due(&self) -> Instant {
        let limits = &self.services.config.limits;
        let waits = !self.output.is_empty();
        let report = self.times.next_report();
        let due = [
            self.run.deadline().filter(|_| self.run.ending().is_none()),
            self.run.next_give_up(),
            self.unpaid_until.filter(|_| waits),
            (!waits).then(|| self.times.wrote + ms(limits.alive_interval_ms)),
            self.within_a_line().then(|| self.times.read + ms(limits.frame_timeout_ms)),
            (self.run.is_busy() && report > Instant::now()).then_some(report),
        ];
        // Far enough to be no reason to wake, when there is none.
        due.into_iter().flatten().min().unwrap_or(self.times.wrote + FAR)
    }

    fn on_time(&mut self, now: Instant) {
        let limits = self.services.config.limits.clone();
        if self.run.deadline().is_some_and(|d| d <= now) && self.run.ending().is_none() {
            self.cancel(Ending::DEADLINE);
        }
        self.run.on_time(now, &mut self.output);
        self.unpaid_until = self.unpaid_until.filter(|t| *t > now);
        if self.within_a_line() && now >= self.times.read + ms(limits.frame_timeout_ms) {
            let message = format!("a line stalled for {} ms", limits.frame_timeout_ms);
            self.fail(
                Failure::new(Code::Timeout, message)
                    .detail("config_key", "limits.frame_timeout_ms"),
            );
        }
        if self.output.is_empty() && now >= self.times.wrote + ms(limits.alive_interval_ms) {
            self.output.alive();
        }
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Progress is told at most this often.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// The longest sleep.
const FAR: Duration = Duration::from_secs(3600);
