//! Items that do not come to their own end: their time is up, somebody cancels, a tenant goes.

use std::{mem, time::Instant};

use futures::stream::FuturesUnordered;
use tollgate_protocol::Code;

use super::{Absent, Ending, Entry, Failure, Finished, Pending, Run, Waiting, foreign};
use crate::{
    batch::{Handler, outcome::Sink, remote},
    tenancy::Tenant,
};

impl Run {
    /// When [`on_time`](Self::on_time) next has something to do for the items that wait or run.
    pub(crate) fn next_give_up(&self) -> Option<Instant> {
        self.due
    }

    /// Ends what has waited, or run, too long.
    pub(crate) fn on_time(&mut self, now: Instant, sink: &mut impl Sink) {
        self.give_up_late(now, sink);
    }

    /// Ends what has no time left. True if there was any.
    pub(super) fn give_up_late(&mut self, now: Instant, sink: &mut impl Sink) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        let before = self.tally.answered();
        let late = |w: &Waiting| w.give_up.is_some_and(|at| at <= now);
        let late: Vec<u64> =
            self.waiting.iter().filter(|(_, w)| late(w)).map(|(s, _)| *s).collect();
        for w in late.into_iter().filter_map(|seq| self.take_waiting(seq)).collect::<Vec<_>>() {
            self.never_ran(w.item.about(), waited_too_long(&w.item.entry), sink);
        }
        let held_until = self.held_until(now);
        for unsent in self.away.take_unsent(|unsent| unsent.due(held_until) <= now) {
            let about = unsent.about();
            self.never_ran(about, waited_too_long(about.entry), sink);
        }
        for p in self.take_pending(|p| p.is_late(now)) {
            let Finished { item, end } = p.give_up();
            self.finished(item.about(), end, sink);
        }
        for absent in self.away.take(|absent| absent.is_late(now)) {
            self.finished(absent.about(), absent.gives_up(), sink);
        }
        self.learn_due();
        self.tally.answered() > before
    }

    /// Looks for the earliest moment at which the time of anything is up.
    pub(super) fn learn_due(&mut self) {
        self.away.returns().watch();
        let here = self.pending.iter().map(Pending::due);
        let waiting = self.waiting.values().filter_map(|w| w.give_up);
        let (away, mut waits) = self.away.due(self.held_until(self.now()));
        self.due = here.chain(waiting).chain(away).min();
        waits |= self.pending.iter().any(Pending::waits);
        self.away.returns().watched(self.due, waits);
    }

    /// Until when the batch's own bound held back what waits for a place.
    pub(super) fn held_until(&self, now: Instant) -> Instant {
        if self.is_held { now.max(self.held_until) } else { self.held_until }
    }

    pub(super) fn wait_for(&mut self, pending: Pending) {
        let pending = pending.of_batch(self.away.returns().clone(), self.held_until);
        self.is_due(pending.due_first());
        self.pending.push(pending);
    }

    /// The time of something may be up then.
    pub(super) fn is_due(&mut self, due: Instant) {
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Takes out what is pending and of which this is so.
    fn take_pending(&mut self, mut which: impl FnMut(&mut Pending) -> bool) -> Vec<Pending> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let all = mem::replace(&mut self.pending, FuturesUnordered::new()).into_iter();
        let mut taken = Vec::new();
        for mut p in all {
            if which(&mut p) {
                taken.push(p);
            } else {
                self.pending.push(p);
            }
        }
        taken
    }

    /// Gives up what has not started; what runs goes on. The first reason given stays.
    pub(crate) fn cancel_pending(&mut self, ending: Ending, sink: &mut impl Sink) {
        if self.ending.is_none() {
            self.ending = Some(ending);
        }
        if ending.gives_up_jobs() {
            self.jobs.cancel(false);
        }
        self.end_checks(ending, sink);
        self.forget_room();
        self.unplaced.clear();
        self.granted.clear();
        for w in mem::take(&mut self.waiting).into_values() {
            self.never_ran(w.item.about(), ending.never_started(), sink);
        }
        for unsent in self.away.take_unsent(|_| true) {
            self.never_ran(unsent.about(), ending.never_started(), sink);
        }
        // What stands in somebody else's line has not started, either.
        for p in self.take_pending(Pending::withdraw) {
            self.stopped(p, ending.never_started(), sink);
        }
        for absent in &self.away.take(Absent::withdraw) {
            self.stopped_away(absent, ending.never_started(), sink);
        }
    }

    /// Gives up everything; what runs is stopped.
    pub(crate) fn cancel_all(&mut self, ending: Ending, sink: &mut impl Sink) {
        self.cancel_pending(ending, sink);
        if ending.gives_up_jobs() {
            self.jobs.cancel(true);
        }
        self.shared.cancel.cancel();
        for p in self.take_pending(|_| true) {
            self.stopped(p, ending.stopped(), sink);
        }
        for absent in &self.away.take(|_| true) {
            self.stopped_away(absent, ending.stopped(), sink);
        }
    }

    /// Fails the items of tenants that may no longer be served; the others go on.
    pub(crate) fn recheck_tenants(&mut self, sink: &mut impl Sink) {
        let gone = |t: &Tenant| !t.may_go_on();
        let late: Vec<u64> =
            self.waiting.iter().filter(|(_, w)| gone(&w.item.tenant)).map(|(s, _)| *s).collect();
        for seq in late {
            let Some(w) = self.take_waiting(seq) else { continue };
            self.never_ran(w.item.about(), foreign(), sink);
        }
        for unsent in self.away.take_unsent(|unsent| gone(unsent.about().tenant)) {
            self.never_ran(unsent.about(), foreign(), sink);
        }
        let failure = || Failure { side_effect_free: false, ..foreign() };
        for p in self.take_pending(|p| gone(&p.item.tenant)) {
            self.stopped(p, failure(), sink);
        }
        for absent in &self.away.take(|absent| gone(absent.about().tenant)) {
            self.stopped_away(absent, failure(), sink);
        }
    }

    fn stopped(&mut self, p: Pending, failure: Failure, sink: &mut impl Sink) {
        let Finished { item, end } = p.stop(failure);
        self.finished(item.about(), end, sink);
    }

    fn stopped_away(&mut self, absent: &Absent, failure: Failure, sink: &mut impl Sink) {
        self.finished(absent.about(), absent.stops(failure), sink);
    }
}

/// What an item is told that waited for its start, and waited too long.
fn waited_too_long(entry: &Entry) -> Failure {
    let failure = match &entry.handler {
        Handler::Remote(of) if !of.is_served() => remote::no_worker(entry),
        _ => {
            let ms = entry.spec.queue_timeout.as_millis();
            let message = format!("not started within {ms} ms: everything it may use was busy");
            Failure::never_started(Code::Timeout, message).detail("phase", "queued")
        }
    };
    Failure { retryable: true, ..failure }
}
