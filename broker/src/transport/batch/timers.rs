//! Everything of a batch that happens by time.

use std::{
    future::Future,
    task::{Context as Poller, Poll},
    time::{Duration, Instant},
};

use tollgate_protocol::{BrokerFrame, Code, close::StreamCode};

use super::{
    super::{config::ms, stream::varint},
    drive::{Drive, Input, Over, REPORT_INTERVAL},
};
use crate::batch::{Ending, Failure, Sink};

impl Drive<'_> {
    /// Waits for the next thing that happens by time; does it when it is due.
    pub(super) fn wait_for_time(&mut self, cx: &mut Poller<'_>) -> Poll<Over> {
        let due = self.next_due();
        match &mut self.timer {
            // An earlier wake-up than needed is harmless, and spares moving the timer.
            Some(timer) if timer.deadline().into_std() <= due => {}
            Some(timer) => timer.as_mut().reset(due.into()),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(due.into()))),
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.timer = None;
        if let Some(over) = self.on_time(Instant::now()) {
            return Poll::Ready(over);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn next_due(&self) -> Instant {
        let limits = &self.peer.services.config.limits;
        let output_waits = !self.stream.output.is_empty();
        // Far enough to be no reason to wake, when there is none.
        let mut due = self.last_write + FAR;
        let mut by = |t: Option<Instant>| {
            if let Some(t) = t {
                due = due.min(t);
            }
        };
        by(self.run.deadline().filter(|_| self.run.ending().is_none()));
        by(self.run.next_give_up());
        by(self.unpaid_until.filter(|_| output_waits));
        by((!output_waits).then(|| self.last_write + ms(limits.alive_interval_ms)));
        by(self.reader_due());
        by(self.within_a_frame().then(|| self.last_read + ms(limits.frame_timeout_ms)));
        // A report that came too soon after the last one is looked for again.
        let next_report = self.last_report + REPORT_INTERVAL;
        by((self.run.is_busy() && next_report > Instant::now()).then_some(next_report));
        due
    }

    /// When a reader that takes nothing counts as gone.
    fn reader_due(&self) -> Option<Instant> {
        let waits = !self.stream.output.is_empty() && self.unpaid_until.is_none();
        let since = self.blocked.filter(|_| waits)?;
        Some(since + ms(self.peer.services.config.limits.reader_timeout_ms))
    }

    /// Whether the client owes the rest of a frame that it began.
    fn within_a_frame(&self) -> bool {
        let reads = self.input != Input::Closed && !self.is_held() && !self.stream.output.is_full();
        reads && self.stream.splitter.buffered() > 0
    }

    fn on_time(&mut self, now: Instant) -> Option<Over> {
        let limits = &self.peer.services.config.limits;
        if self.run.deadline().is_some_and(|d| d <= now) && self.run.ending().is_none() {
            self.cancel(true, Ending::DEADLINE);
        }
        self.run.on_time(now, &mut self.stream.output);
        self.unpaid_until = self.unpaid_until.filter(|t| *t > now);
        if self.reader_due().is_some_and(|due| due <= now) {
            self.run.cancel_all(Ending::LEFT, &mut self.stream.output);
            return Some(Over::ReaderGone);
        }
        if self.within_a_frame()
            && now.saturating_duration_since(self.last_read) >= ms(limits.frame_timeout_ms)
        {
            let _ = self.stream.recv.stop(varint(StreamCode::Stalled));
            let message = format!("a frame stalled for {} ms", limits.frame_timeout_ms);
            self.fail(
                Failure::new(Code::Timeout, message)
                    .detail("config_key", "limits.frame_timeout_ms"),
            );
        }
        if self.stream.output.is_empty()
            && now.saturating_duration_since(self.last_write) >= ms(limits.alive_interval_ms)
        {
            self.stream.output.frame(&BrokerFrame::Alive);
        }
        None
    }
}

/// The longest sleep.
const FAR: Duration = Duration::from_secs(3600);
