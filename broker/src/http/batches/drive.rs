//! The loop of a batch: take in, run, answer, hand on; then wait for whatever comes first.
//!
//! As on QUIC one task polls all of it, and the rules are the engine's. A wait for a rate or for
//! room holds the body: its channel fills, then the socket, then the client waits.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as Poller, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{mpsc, watch},
    time::Sleep,
};
use tokio_util::sync::PollSender;
use tollgate_protocol::{
    Code,
    batch::{Accepted, Ended},
    id::BatchId,
};
use tracing::Instrument;

use super::{
    input::{Lines, Piece},
    line::{self, Item, Line},
    news::{News, changed, drain_changed, expiring},
    output::{FLUSH_BYTES, Output},
    timers::Times,
};
use crate::{
    batch::{self, Ending, Failure, HANDFUL, Halt, Lane, OpenId, Run, Sink, TURN, Turn, Whose},
    broker::{Drain, Services},
    tenancy::{Changes, Kind, PaceTicket, Permit, Stop, Tenant, WaitNews},
};

/// A batch that was admitted and has not begun.
pub(super) struct Opened {
    pub tenant: Arc<Tenant>,
    pub run: Run,
    /// Given back in this order.
    pub permits: (Permit, OpenId),
    pub accepted: Accepted<'static>,
    pub batch_id: BatchId,
    /// Whether the client wants to hear no more once everything is kept.
    pub detaches: bool,
    /// When the certificate that the client came with expires.
    pub expires: Option<SystemTime>,
}

/// How the stream of a batch is over.
pub(super) enum Over {
    /// Its last word is to be said.
    Heard(batch::Over),
    /// Nobody reads the results.
    ReaderGone,
}

/// What the body can still bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Items.
    Open,
    /// Nothing that is wanted.
    Closed,
}

/// What stands at the front of the body.
pub(super) enum Ahead {
    Item(Item),
    Bad(u64, Failure),
    Fatal(Failure),
}

/// A wait for a rate.
pub(super) struct Pace {
    ticket: PaceTicket,
    since: Instant,
}

/// A batch in motion.
pub(super) struct Drive {
    pub(super) services: Arc<Services>,
    pub(super) tenant: Arc<Tenant>,
    pub(super) run: Run,
    permits: (Permit, OpenId),
    pub(super) body: mpsc::Receiver<Piece>,
    lines: Lines,
    /// Lines that were read and not taken yet: a handful at most.
    pub(super) ahead: VecDeque<Ahead>,
    /// Lines read, and the largest id among them.
    number: u64,
    last_id: Option<u64>,
    /// Whether the ids so far are those that lines have when none names one.
    counted: bool,
    pub(super) output: Output,
    results: PollSender<axum::body::Bytes>,
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
    pub(super) input: Input,
    pub(super) sealed: bool,
    batch_id: BatchId,
    detaches: bool,
    /// Set once nothing is owed to the client but that its items are kept.
    pub(super) detached: bool,
    /// Set while the next item waits for room.
    pub(super) full: bool,
    /// Set while it waits for a rate.
    pub(super) pace: Option<Pace>,
    wait_news: WaitNews,
    pub(super) prepaid: usize,
    pub(super) failed: Option<Failure>,
    turn: Turn,
    arrived: Instant,
    /// Until when results wait for the tenant's outgoing rate.
    pub(super) unpaid_until: Option<Instant>,
    pub(super) times: Times,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    pub(super) drain: News<watch::Receiver<Drain>>,
    pub(super) draining: bool,
    pub(super) changes: News<Changes>,
    pub(super) leaving: bool,
    pub(super) expiring: News<SystemTime>,
}

/// Rounds of the loop before others get their turn.
const ROUNDS: usize = 2;

impl Drive {
    pub(super) fn new(
        services: Arc<Services>,
        opened: Opened,
        body: mpsc::Receiver<Piece>,
        results: mpsc::Sender<axum::body::Bytes>,
    ) -> Self {
        let Opened { tenant, run, permits, accepted, batch_id, detaches, expires } = opened;
        let ahead = Duration::from_millis(services.config.limits.expiry_notice_ms);
        let now = Instant::now();
        let turn = Turn::new(&services.engine.turns, tenant.index(), tenant.weight());
        let mut output = Output::default();
        output.accepted(batch_id, &accepted);
        let closed = results.clone();
        let mut drain = services.drain.subscribe();
        drain.mark_changed();
        Drive {
            run,
            permits,
            body,
            lines: Lines::default(),
            ahead: VecDeque::new(),
            number: 0,
            last_id: None,
            counted: true,
            output,
            results: PollSender::new(results),
            gone: Box::pin(async move { closed.closed().await }),
            input: Input::Open,
            sealed: false,
            batch_id,
            detaches,
            detached: false,
            full: false,
            pace: None,
            wait_news: WaitNews::default(),
            prepaid: 0,
            failed: None,
            turn,
            arrived: now,
            unpaid_until: None,
            times: Times::new(now),
            timer: None,
            drain: Box::pin(drain_changed(drain)),
            draining: false,
            changes: Box::pin(changed(tenant.subscribe())),
            leaving: false,
            expiring: Box::pin(expiring(expires, ahead)),
            services,
            tenant,
        }
    }

    /// Runs the batch to its last line.
    pub(super) async fn finish(mut self) {
        // What was set between its admission and now is news too.
        self.look_at_tenant();
        if self.run.deadline().is_some_and(|at| at <= Instant::now()) {
            self.cancel(Ending::DEADLINE);
        }
        let span = self.run.span().clone();
        let over = poll_fn(|cx| self.poll(cx)).instrument(span).await;
        let Drive { run, mut output, mut results, permits, batch_id, .. } = self;
        // What it held is given back before its id: nothing is held for a batch that is not open.
        match &over {
            Over::Heard(batch::Over::Ended(ended)) => output.summary(&run.summary(*ended)),
            Over::Heard(batch::Over::Failed(_)) => run.fails(),
            Over::Heard(batch::Over::Detached) | Over::ReaderGone => drop(run),
        }
        // And before the last line, so that a client at its limit can open the next one at once.
        drop(permits);
        match over {
            Over::Heard(batch::Over::Ended(_)) => {}
            Over::Heard(batch::Over::Failed(failure)) => output.error(&failure),
            Over::Heard(batch::Over::Detached) => output.detached(batch_id),
            Over::ReaderGone => return,
        }
        let room = poll_fn(|cx| results.poll_reserve(cx)).await;
        if room.is_ok() {
            let _ = results.send_item(output.take());
        }
    }

    /// Makes what progress there is; ready once the batch is over.
    fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Over> {
        for _ in 0..ROUNDS {
            let mut progress = self.heed(cx);
            progress |= self.take_in(cx);
            if self.run.is_busy() {
                progress |= self.run.poll(cx, &mut self.output);
                self.take_failed_fast();
                self.report(cx);
            }
            progress |= self.read(cx);
            let dry = !progress && !self.turn.waits();
            if dry || self.output.len() >= FLUSH_BYTES {
                match self.hand_on(cx) {
                    Ok(handed) => progress |= handed,
                    Err(over) => return Poll::Ready(over),
                }
            }
            if let Some(over) = self.over() {
                return Poll::Ready(over);
            }
            if !progress {
                return self.wait(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the body is not read now, though it could bring something.
    pub(super) fn is_held(&self) -> bool {
        self.full || self.pace.is_some()
    }

    /// Whether the client owes the rest of a line that it began.
    pub(super) fn within_a_line(&self) -> bool {
        let reads = self.input == Input::Open && !self.is_held() && !self.output.is_full();
        reads && self.lines.partial() > 0
    }

    /// Takes in up to a handful of items, when it is this batch's turn. True if there was anything
    /// to take.
    fn take_in(&mut self, cx: &mut Poller<'_>) -> bool {
        self.look_ahead();
        if !self.can_take_in() {
            self.turn.give_up();
            return false;
        }
        if self.turn.poll(cx.waker()).is_pending() {
            return false;
        }
        let began = self.arrived.max(self.run.now());
        let (mut taken, mut took) = (0, Duration::ZERO);
        while taken < HANDFUL && took < TURN && self.can_take_in() {
            if self.waits_for_rate(cx) {
                break;
            }
            match self.take_handful() {
                0 => {
                    // The rate may have asked for a first, or another, wait: whoever asks for the
                    // turn is woken after it.
                    if self.pace.is_some() && !self.waits_for_rate(cx) {
                        cx.waker().wake_by_ref();
                    }
                    break;
                }
                n => taken += n,
            }
            took = self.run.now().saturating_duration_since(began);
            self.look_ahead();
        }
        let more = taken >= HANDFUL || took >= TURN;
        if self.turn.end(took, more, cx.waker()) {
            cx.waker().wake_by_ref();
        }
        taken > 0
    }

    fn waits_for_rate(&mut self, cx: &mut Poller<'_>) -> bool {
        let Some(pace) = &mut self.pace else { return false };
        pin!(pace.ticket.turn()).poll(cx).is_pending()
    }

    fn can_take_in(&self) -> bool {
        self.input == Input::Open
            && (!self.ahead.is_empty() || (self.lines.has_ended() && !self.sealed))
            && !self.output.is_full()
    }

    /// Reads the lines that lie whole in memory, a handful at most.
    fn look_ahead(&mut self) {
        let max = self.services.config.http.line_bytes_max;
        while self.input == Input::Open
            && self.ahead.len() < HANDFUL
            && !matches!(self.ahead.back(), Some(Ahead::Fatal(_)))
            && let Some(line) = self.lines.next()
        {
            self.number += 1;
            if line.len() > max {
                self.ahead.push_back(Ahead::Fatal(too_long(self.number, max)));
                return;
            }
            let next = self.last_id.map_or(Some(1), |last| last.checked_add(1));
            let ahead = match line::read(line, self.number, next, self.counted) {
                Line::Item(item) => {
                    self.last_id = Some(item.id);
                    self.counted &= next == Some(item.id);
                    Ahead::Item(item)
                }
                Line::Bad(id, failure) => {
                    self.counted &= next == Some(id);
                    self.last_id = Some(id);
                    Ahead::Bad(id, failure)
                }
                Line::Fatal(failure) => Ahead::Fatal(failure),
            };
            self.ahead.push_back(ahead);
        }
    }

    /// Takes in what was read. How many lines were consumed.
    fn take_handful(&mut self) -> usize {
        let leading = self.ahead.iter().map_while(|ahead| match ahead {
            Ahead::Item(item) => Some(item.request()),
            _ => None,
        });
        let items: Vec<_> = leading.collect();
        let mut taken = 0;
        let mut lane = Lane {
            run: &mut self.run,
            sink: &mut self.output,
            arrived: self.arrived,
            prepaid: &mut self.prepaid,
            ticket: self.pace.as_mut().map(|p| &mut p.ticket),
            may_name: false,
        };
        let halt = lane.take(&self.tenant, &items, &mut taken);
        let everything = taken == items.len();
        drop(items);
        self.ahead.drain(..taken);
        if taken > 0 {
            // Until now nothing was read: the client owed nothing.
            self.times.read(Instant::now());
            self.full = false;
            self.unpace();
        }
        self.take_failed_fast();
        match halt {
            Some(Halt::Order { id, last }) => self.fail(Failure::order(id, last)),
            Some(Halt::Wait(stop)) => self.pace(stop),
            Some(Halt::Full) => self.full = true,
            None if everything && self.input == Input::Open => return taken + self.take_next(),
            None => {}
        }
        taken
    }

    /// Heeds what follows the items. How many lines that were.
    fn take_next(&mut self) -> usize {
        match self.ahead.pop_front() {
            None if self.lines.has_ended() && !self.sealed => {
                self.sealed = true;
                self.run.seal_jobs();
                self.detached = self.detaches;
                self.input = Input::Closed;
                1
            }
            None => 0,
            Some(Ahead::Bad(id, failure)) => {
                match self.run.last_id() {
                    Some(last) if id <= last => self.fail(Failure::order(id, last)),
                    _ => {
                        let failure = Failure { side_effect_free: true, ..failure };
                        let whose = Whose::Of(&self.tenant);
                        self.run.refuse(id, 0, whose, &failure, &mut self.output);
                        self.take_failed_fast();
                    }
                }
                1
            }
            Some(Ahead::Fatal(failure)) => {
                self.fail(failure);
                1
            }
            Some(item @ Ahead::Item(_)) => {
                self.ahead.push_front(item);
                0
            }
        }
    }

    /// The batch joins those that wait for a rate.
    fn pace(&mut self, stop: Stop) {
        if self.pace.is_none() {
            let (ticket, since) = (self.tenant.begin_wait(), Instant::now());
            self.pace = Some(Pace { ticket, since });
            if self.wait_news.is_due(since) {
                self.output.throttled(&stop);
            }
        }
    }

    /// The batch leaves the line of those that wait for a rate.
    fn unpace(&mut self) {
        if let Some(pace) = self.pace.take() {
            self.run.throttled(&self.tenant, pace.since.elapsed());
            // What is charged next is charged now, not when its bytes came.
            self.arrived = Instant::now();
        }
    }

    /// Reads what has come, if what was read before is used up and there is room.
    fn read(&mut self, cx: &mut Poller<'_>) -> bool {
        if self.input == Input::Closed || self.is_held() || self.output.is_full() {
            return false;
        }
        if !self.ahead.is_empty() || self.lines.has_ended() {
            return !self.turn.waits();
        }
        let Poll::Ready(piece) = self.body.poll_recv(cx) else { return false };
        match piece {
            Some(Piece::Bytes(bytes)) => {
                self.arrived = Instant::now();
                self.times.read(self.arrived);
                self.lines.push(&bytes);
                self.look_ahead();
                self.bound_line();
            }
            Some(Piece::End) => self.lines.end(),
            // The client hung up in the middle of its body. It may come back to a durable batch.
            None if self.run.is_durable() => {
                self.detached = true;
                self.close_input();
            }
            None => self.cancel(Ending::CUT),
        }
        true
    }

    fn bound_line(&mut self) {
        let max = self.services.config.http.line_bytes_max;
        if self.ahead.is_empty() && self.lines.partial() > max {
            self.fail(too_long(self.number + 1, max));
        }
    }

    /// Hands on what there is, as far as the tenant's outgoing rate and the reader allow.
    fn hand_on(&mut self, cx: &mut Poller<'_>) -> Result<bool, Over> {
        if self.output.is_empty() || !self.pay() {
            return Ok(false);
        }
        match self.results.poll_reserve(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(_)) => Err(self.reader_left()),
            Poll::Ready(Ok(())) => {
                let was_full = self.output.is_full();
                let now = Instant::now();
                self.times.wrote(now);
                if was_full {
                    // Until now nothing was read: the client owed nothing.
                    self.times.read(now);
                }
                match self.results.send_item(self.output.take()) {
                    Ok(()) => Ok(true),
                    Err(_) => Err(self.reader_left()),
                }
            }
        }
    }

    /// Charges what the results weigh to the tenant. False while they have to wait.
    pub(super) fn pay(&mut self) -> bool {
        if self.output.unpaid == 0 {
            return true;
        }
        let now = Instant::now();
        if self.unpaid_until.is_some_and(|until| now < until) {
            return false;
        }
        let (paid, stop) = self.tenant.take_out(now, self.output.unpaid);
        self.output.unpaid -= paid;
        self.unpaid_until = stop.map(|s| now + until_paid(s.kind));
        self.output.unpaid == 0
    }

    /// Tells the newest progress of what runs, not too often.
    fn report(&mut self, cx: &Poller<'_>) {
        let now = Instant::now();
        if !self.times.may_report(now) || self.output.is_full() {
            return;
        }
        for report in self.run.reports(cx) {
            self.times.reported(now);
            self.output.progress(&report);
        }
    }

    fn take_failed_fast(&mut self) {
        if self.run.ending() == Some(Ended::FailFast) && self.input == Input::Open {
            self.run.seal_jobs();
            self.close_input();
        }
    }

    /// Nothing is ready: asks to be woken by everything that may make it so.
    fn wait(&mut self, cx: &mut Poller<'_>) -> Poll<Over> {
        if self.turn.waits() {
            // It comes within milliseconds: nothing else needs to be able to wake this.
            return Poll::Pending;
        }
        self.run.settle();
        if self.gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.reader_left());
        }
        ready!(self.wait_for_time(cx));
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn too_long(line: u64, max: usize) -> Failure {
    let message = format!("a line has more than {max} bytes (`http.line_bytes_max`)");
    Failure::new(Code::FrameTooLarge, message)
        .detail("line", line)
        .detail("limit", max)
        .detail("config_key", "http.line_bytes_max")
}

/// How long results wait for the outgoing rate. A rate of nothing at all is looked at again now and
/// then: an operator may raise it.
fn until_paid(kind: Kind) -> Duration {
    match kind {
        Kind::Wait(d) => d.max(Duration::from_millis(1)),
        Kind::Never => Duration::from_secs(1),
    }
}
