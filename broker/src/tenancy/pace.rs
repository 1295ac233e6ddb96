//! Waiting for a rate: tickets, served in the order in which they were taken.
//!
//! Only the first in line may charge, so what one stream waits for cannot be taken by another that
//! came later. A ticket that is dropped leaves the line, from wherever it stood. Nothing is held
//! across an await.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::time::Sleep;

use super::{
    admission::{Charged, Stop},
    tenant::Tenant,
};
use crate::rules::{
    line::Line,
    quota::{Limits, Policy, Rates, Turn},
    window::Shape,
};

/// What the tenant's lock guards.
#[derive(Debug)]
pub(super) struct Meters {
    pub rates: Rates,
    pub line_in: Line<Waker>,
    pub line_out: Line<Waker>,
    /// Grows when the limits change: what was computed before is void.
    epoch: u64,
}

impl Meters {
    pub(super) fn new(shape: Shape, limits: Limits, policy: Policy) -> Self {
        let rates = Rates::new(shape, limits, policy);
        Meters { rates, line_in: Line::new(), line_out: Line::new(), epoch: 0 }
    }

    /// Changes what is allowed; returns what wakes the first of each line.
    pub(super) fn change(&mut self, limits: Limits, policy: Policy) -> [Option<Waker>; 2] {
        self.rates.change(limits, policy);
        self.epoch += 1;
        [self.line_in.wake_first(), self.line_out.wake_first()]
    }

    fn line(&mut self, way: Way) -> &mut Line<Waker> {
        match way {
            Way::In => &mut self.line_in,
            Way::Out => &mut self.line_out,
        }
    }
}

/// A place in the line of those who wait to take items in.
#[derive(Debug)]
#[must_use = "dropping a ticket gives up the place"]
pub struct PaceTicket(Place);

impl PaceTicket {
    /// Charges as [`Tenant::charge`] does, when it is this one's turn.
    ///
    /// After it admitted something, drop the ticket: the next in line is woken, and who wants more
    /// joins at the end.
    pub fn charge(&mut self, now: Instant, lens: impl Iterator<Item = u64>) -> Charged {
        let at = self.0.tenant.at(now);
        let mut meters = self.0.tenant.meters();
        let turn = self.0.turn_of(&meters.line_in);
        let charged: Charged = meters.rates.charge(at, turn, lens).into();
        self.0.until = charged.stop.and_then(|s| s.wait()).and_then(|d| now.checked_add(d));
        self.0.epoch = meters.epoch;
        charged
    }

    /// Resolves when it is this one's turn and the wait that its last charge was told is over, or
    /// the limits have changed. Charge again then: it may be told another wait. Cancel-safe, and it
    /// wakes whoever polled it last even when that future is gone; a holder that does not poll it
    /// holds up those behind.
    pub async fn turn(&mut self) {
        self.0.turn().await;
    }
}

/// A place in the line of those who wait to give bytes out.
#[derive(Debug)]
#[must_use = "dropping a ticket gives up the place"]
pub struct OutTicket(Place);

impl OutTicket {
    /// Takes bytes as [`Tenant::take_out`] does, when it is this one's turn. After it granted
    /// something, drop the ticket.
    pub fn take(&mut self, now: Instant, want: u64) -> (u64, Option<Stop>) {
        let at = self.0.tenant.at(now);
        let mut meters = self.0.tenant.meters();
        let turn = self.0.turn_of(&meters.line_out);
        let (granted, stop) = meters.rates.take_out(at, turn, want);
        let stop = stop.map(Stop::from);
        self.0.until = stop.and_then(|s| s.wait()).and_then(|d| now.checked_add(d));
        self.0.epoch = meters.epoch;
        (granted, stop)
    }

    /// As [`PaceTicket::turn`].
    pub async fn turn(&mut self) {
        self.0.turn().await;
    }
}

impl Tenant {
    /// Joins those who wait to take items in, at the end. Its first turn comes as soon as nobody is
    /// before it.
    pub fn begin_wait(self: &Arc<Self>) -> PaceTicket {
        PaceTicket(self.join(Way::In))
    }

    /// Joins those who wait to give bytes out, at the end.
    pub fn begin_wait_out(self: &Arc<Self>) -> OutTicket {
        OutTicket(self.join(Way::Out))
    }

    /// How many wait to take items in.
    pub fn waiting(&self) -> usize {
        self.meters().line_in.len()
    }

    fn join(self: &Arc<Self>, way: Way) -> Place {
        let mut meters = self.meters();
        let number = meters.line(way).join();
        Place { tenant: self.clone(), way, number, until: None, epoch: meters.epoch, timer: None }
    }
}

/// Which line.
#[derive(Debug, Clone, Copy)]
enum Way {
    In,
    Out,
}

/// A place in a line.
#[derive(Debug)]
struct Place {
    tenant: Arc<Tenant>,
    way: Way,
    number: u64,
    /// When its last charge fits.
    until: Option<Instant>,
    /// The limits under which that was computed.
    epoch: u64,
    /// Wakes at the moment beside it. Kept here, because who asks for the turn may do so with a new
    /// future each time: a timer wakes nobody once it is dropped.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Place {
    fn turn_of(&self, line: &Line<Waker>) -> Turn {
        if line.is_first(self.number) { Turn::Own } else { Turn::Behind }
    }

    async fn turn(&mut self) {
        poll_fn(|cx| self.poll_turn(cx)).await;
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut meters = self.tenant.meters();
            let epoch = meters.epoch;
            let line = meters.line(self.way);
            if !line.is_first(self.number) {
                line.keep(self.number, cx.waker().clone());
                return Poll::Pending;
            }
            if self.until.is_none() || epoch != self.epoch {
                return Poll::Ready(());
            }
            // The first is woken too when the limits change.
            line.keep(self.number, cx.waker().clone());
        }
        let Some(until) = self.until else { return Poll::Ready(()) };
        let timer = self.timer.take().filter(|(at, _)| *at == until);
        let (_, timer) = self.timer.insert(
            timer.unwrap_or_else(|| (until, Box::pin(tokio::time::sleep_until(until.into())))),
        );
        timer.as_mut().poll(cx)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = self.tenant.meters().line(self.way).leave(self.number);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}
