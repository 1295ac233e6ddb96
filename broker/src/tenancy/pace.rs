//! Waiting for a rate: tickets, served in the order in which they were taken.
//!
//! Only the first in line may charge, so what one stream waits for cannot be taken by another that
//! came later. A ticket that is dropped leaves the line, from wherever it stood. Nothing is held
//! across an await.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use super::{admission::Charged, metered::Look, tenant::Tenant};
use crate::rules::quota::{Cost, Load};

/// A place in the line of those who wait to take items, or messages, in.
#[derive(Debug)]
#[must_use = "dropping a ticket gives up the place"]
pub struct PaceTicket {
    tenant: Arc<Tenant>,
    place: u64,
    /// When its last charge fits.
    until: Option<Instant>,
    /// The limits under which that was computed.
    epoch: u64,
    /// Wakes at the moment beside it. Kept here, because who asks for the turn may do so with a new
    /// future each time: a timer wakes nobody once it is dropped.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// When a stream was last told that it waits: waits are short and many, one word about them is enough.
#[derive(Debug, Default)]
pub struct WaitNews(Option<Instant>);

impl WaitNews {
    /// Whether it should be told now; then it counts as told.
    pub fn is_due(&mut self, now: Instant) -> bool {
        /// Between two words.
        const INTERVAL: Duration = Duration::from_millis(100);
        let due = self.0.is_none_or(|told| now.saturating_duration_since(told) >= INTERVAL);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

impl Tenant {
    /// Joins those who wait to take items or messages in, at the end. Its first turn comes as soon
    /// as nobody is before it.
    pub fn begin_wait(self: &Arc<Self>) -> PaceTicket {
        let (place, epoch) = self.counted().metered.join();
        PaceTicket { tenant: self.clone(), place, until: None, epoch, timer: None }
    }

    /// How many wait to take items or messages in.
    pub fn waiting(&self) -> usize {
        self.counted_yet().map_or(0, |c| c.metered.waiting())
    }
}

impl PaceTicket {
    /// Charges as [`Tenant::charge`] does, when it is this one's turn.
    ///
    /// After it admitted something, drop the ticket: the next in line is woken, and who wants more
    /// joins at the end.
    pub fn charge(&mut self, now: Instant, lens: impl Iterator<Item = u64> + Clone) -> Charged {
        self.charge_as(now, Load::Items, lens.map(Cost::one))
    }

    /// Charges as [`Tenant::charge_messages`] does, when it is this one's turn.
    pub fn charge_messages(
        &mut self,
        now: Instant,
        costs: impl Iterator<Item = Cost> + Clone,
    ) -> Charged {
        self.charge_as(now, Load::Produced, costs)
    }

    fn charge_as(
        &mut self,
        now: Instant,
        load: Load,
        costs: impl Iterator<Item = Cost> + Clone,
    ) -> Charged {
        let metered = &self.tenant.counted().metered;
        let (charged, epoch) = metered.charge_in_line(self.place, self.tenant.at(now), load, costs);
        let charged = Charged::from(charged);
        self.until = charged.stop.and_then(|s| s.wait()).and_then(|d| now.checked_add(d));
        self.epoch = epoch;
        charged
    }

    /// Resolves when it is this one's turn and the wait that its last charge was told is over, or
    /// the limits have changed. Charge again then: it may be told another wait. Cancel-safe, and it
    /// wakes whoever polled it last even when that future is gone; a holder that does not poll it
    /// holds up those behind.
    pub async fn turn(&mut self) {
        poll_fn(|cx| self.poll_turn(cx)).await;
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.tenant.counted().metered.look(self.place, self.epoch, cx.waker()) {
            Look::Behind => return Poll::Pending,
            Look::Changed => return Poll::Ready(()),
            Look::Same => {}
        }
        let Some(until) = self.until else { return Poll::Ready(()) };
        let timer = self.timer.take().filter(|(at, _)| *at == until);
        let (_, timer) = self.timer.insert(
            timer.unwrap_or_else(|| (until, Box::pin(tokio::time::sleep_until(until.into())))),
        );
        timer.as_mut().poll(cx)
    }
}

impl Drop for PaceTicket {
    fn drop(&mut self) {
        if let Some(next) = self.tenant.counted().metered.leave(self.place) {
            next.wake();
        }
    }
}
