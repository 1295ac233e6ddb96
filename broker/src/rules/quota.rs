//! What a tenant's rates admit, now: requests and messages, and bytes in and out, each over its own
//! window.
//!
//! Check and charge are one step, never one over. It never waits and wakes nobody: it says when a
//! charge that did not fit will.

use std::time::Duration;

use super::window::{BUCKETS_MAX, Clock, Shape, Window, wait};

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Items taken in.
    Requests,
    /// Bytes of payload taken in.
    BytesIn,
    /// Bytes of payload given out.
    BytesOut,
    /// Messages produced.
    MessagesIn,
    /// Messages consumed.
    MessagesOut,
}

/// What is charged: it says which two rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Items of a batch: requests, and bytes in.
    Items,
    /// Messages that come: messages in, and bytes in.
    Produced,
    /// Messages that go: messages out, and bytes out. Always paced.
    Consumed,
}

impl Load {
    const fn rates(self) -> (Rate, Rate) {
        match self {
            Load::Items => (Rate::Requests, Rate::BytesIn),
            Load::Produced => (Rate::MessagesIn, Rate::BytesIn),
            Load::Consumed => (Rate::MessagesOut, Rate::BytesOut),
        }
    }
}

/// What is taken together or not at all: an item, a message, or a handful of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// How many.
    pub n: u64,
    /// Bytes of payload of all of them.
    pub bytes: u64,
}

impl Cost {
    /// One item, or one message.
    pub const fn one(bytes: u64) -> Cost {
        Cost { n: 1, bytes }
    }
}

/// What happens to a charge that does not fit now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The stream is read no further until it fits.
    #[default]
    Pace,
    /// The item fails at once and says when to come back.
    Reject,
}

/// What a tenant's rates allow in one window; `u64::MAX` is no limit, 0 is none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Items.
    pub requests: u64,
    /// Bytes of payload: in, and apart from that out.
    pub bytes: u64,
    /// Messages: produced, and apart from that consumed.
    pub messages: u64,
}

impl Limits {
    const fn of(&self, rate: Rate) -> u64 {
        match rate {
            Rate::Requests => self.requests,
            Rate::BytesIn | Rate::BytesOut => self.bytes,
            Rate::MessagesIn | Rate::MessagesOut => self.messages,
        }
    }
}

/// Whether the charge that stopped can fit at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It alone exceeds the limit, or the quota is 0: waiting does not help.
    Never,
    /// It fits after this time, if nothing else is charged meanwhile.
    Wait(Duration),
}

/// The first charge that did not fit. Nothing of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Which rate: the one to wait longest for.
    pub rate: Rate,
    /// What the window holds.
    pub current: u64,
    /// What it may hold.
    pub limit: u64,
    /// For how long.
    pub kind: Kind,
}

/// What became of a handful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// How many costs were taken, from the first on.
    pub admitted: usize,
    /// Why not all.
    pub stop: Option<Stop>,
}

/// How a charge stands to those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nobody waits, or it is this one's turn.
    Own,
    /// Others came before.
    Behind,
}

/// The rates of one tenant.
#[derive(Debug, Clone)]
pub struct Rates {
    clock: Clock,
    policy: Policy,
    /// By [`Rate`].
    meters: [Meter; RATES.len()],
}

impl Rates {
    /// Rates that have counted nothing yet.
    pub fn new(shape: Shape, limits: Limits, policy: Policy) -> Self {
        let meters = RATES.map(|rate| Meter::new(limits.of(rate)));
        Rates { clock: Clock::new(shape), policy, meters }
    }

    /// Changes what is allowed from now on. What was taken stays counted, so a lowered limit
    /// admits nothing until enough of it has left the window.
    pub fn change(&mut self, limits: Limits, policy: Policy) {
        self.policy = policy;
        for rate in RATES {
            let meter = &mut self.meters[rate as usize];
            meter.change(self.clock.shape(), limits.of(rate));
            // What goes out is paced whatever the policy.
            if policy == Policy::Reject && !matches!(rate, Rate::BytesOut | Rate::MessagesOut) {
                meter.unthrottle();
            }
        }
    }

    /// Charges a handful, up to the first cost that does not fit. The two charges of a cost are
    /// taken together or not at all.
    ///
    /// `now` is in nanoseconds. Under [`Policy::Reject`] there is no line for what comes in, so the
    /// turn is one's own.
    pub fn charge(
        &mut self,
        now: u64,
        turn: Turn,
        load: Load,
        mut costs: impl Iterator<Item = Cost> + Clone,
    ) -> Charged {
        self.advance(now);
        if turn == Turn::Behind && self.policy_for(load) == Policy::Pace {
            return Charged {
                admitted: 0,
                stop: costs.next().map(|cost| self.stop(now, load, cost)),
            };
        }
        let (count, bytes) = load.rates();
        let clock = &self.clock;
        let [count, bytes] = self
            .meters
            .get_disjoint_mut([count as usize, bytes as usize])
            .expect("a load's rates are two");
        count.settle(now);
        bytes.settle(now);
        // Mostly all of it fits, and is charged as one.
        if let Some((all, sum)) = sum(costs.clone())
            && count.fits_freely(sum.n)
            && bytes.fits_freely(sum.bytes)
        {
            count.add(clock, sum.n);
            bytes.add(clock, sum.bytes);
            return Charged { admitted: all, stop: None };
        }
        let (count_given, bytes_given) = (count.given(clock, now), bytes.given(clock, now));
        let mut admitted = 0;
        let stop = loop {
            let Some(cost) = costs.next() else { break None };
            if !(count.fits(cost.n, count_given) && bytes.fits(cost.bytes, bytes_given)) {
                break Some(cost);
            }
            count.add(clock, cost.n);
            bytes.add(clock, cost.bytes);
            admitted += 1;
        };
        Charged { admitted, stop: stop.map(|cost| self.stop(now, load, cost)) }
    }

    /// Takes up to `want` bytes to give out: how many now, and why not all. Always paced.
    pub fn take_out(&mut self, now: u64, want: u64) -> (u64, Option<Stop>) {
        self.advance(now);
        let clock = &self.clock;
        let meter = &mut self.meters[Rate::BytesOut as usize];
        meter.settle(now);
        if want == 0 {
            return (0, None);
        }
        let granted = want.min(meter.room(clock, now));
        meter.add(clock, granted);
        if granted == want {
            return (want, None);
        }
        // Worth waking for: what one slice of a bucket gives, or the rest when it is less.
        let next = (want - granted).min(meter.slice(clock));
        let kind = match meter.fits_at(clock, now, next) {
            None => Kind::Never,
            Some(at) => Kind::Wait(wait(now, meter.throttle(clock, now, next, at))),
        };
        let (current, limit) = (meter.window.used(), meter.limit);
        (granted, Some(Stop { rate: Rate::BytesOut, current, limit, kind }))
    }

    /// What a rate's window holds at `now`.
    pub fn used(&mut self, now: u64, rate: Rate) -> u64 {
        self.advance(now);
        self.meters[rate as usize].window.used()
    }

    /// Whether no window holds anything at `now`.
    pub fn is_empty(&mut self, now: u64) -> bool {
        self.advance(now);
        self.meters.iter().all(|m| m.window.used() == 0)
    }

    fn policy_for(&self, load: Load) -> Policy {
        if load == Load::Consumed { Policy::Pace } else { self.policy }
    }

    fn advance(&mut self, now: u64) {
        let windows = self.meters.iter_mut().map(|m| &mut m.window);
        let steps = self.clock.advance(now, windows);
        if steps > 0 {
            self.meters.iter_mut().for_each(|m| m.pay(steps));
        }
    }

    /// Why a cost does not fit, and until when; the clock stands at `now`.
    fn stop(&mut self, now: u64, load: Load, cost: Cost) -> Stop {
        let policy = self.policy_for(load);
        let (count_rate, bytes_rate) = load.rates();
        let clock = &self.clock;
        let [count, bytes] = self
            .meters
            .get_disjoint_mut([count_rate as usize, bytes_rate as usize])
            .expect("a load's rates are two");
        let stop = |rate, meter: &Meter, kind| {
            let (current, limit) = (meter.window.used(), meter.limit);
            Stop { rate, current, limit, kind }
        };
        // What can never fit is said before any waiting is asked for.
        let (Some(count_at), Some(bytes_at)) =
            (count.fits_at(clock, now, cost.n), bytes.fits_at(clock, now, cost.bytes))
        else {
            return match count.fits_at(clock, now, cost.n) {
                None => stop(count_rate, count, Kind::Never),
                Some(_) => stop(bytes_rate, bytes, Kind::Never),
            };
        };
        let (count_at, bytes_at) = match policy {
            Policy::Reject => (count_at, bytes_at),
            Policy::Pace => (
                count.throttle(clock, now, cost.n, count_at),
                bytes.throttle(clock, now, cost.bytes, bytes_at),
            ),
        };
        let count_first = match count_at.cmp(&bytes_at) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            // Only behind others do both fit: then it is the rate that holds these.
            std::cmp::Ordering::Equal => count.is_throttled() || !bytes.is_throttled(),
        };
        if count_first {
            stop(count_rate, count, Kind::Wait(wait(now, count_at)))
        } else {
            stop(bytes_rate, bytes, Kind::Wait(wait(now, bytes_at)))
        }
    }
}

/// One rate: its window, its limit, and how it is released after it was throttled.
///
/// Once throttled, a tenant gets its limit in equal shares, one a bucket, and each of them in equal
/// slices, until a window passes unthrottled: so it does not come back in bursts, which those who
/// share its connection, or the machine, would have to wait for. A cost that begins within what is
/// given may exceed it and is paid for by what follows: so costs that do not divide a share, or
/// exceed it, still reach the whole limit. The window bounds all of it.
#[derive(Debug, Clone)]
struct Meter {
    window: Window,
    limit: u64,
    /// When shares end, in nanoseconds; 0 while there are none.
    until: u64,
    /// What this bucket's share and those after it owe, in 1/buckets of a unit: so a share is
    /// exactly `limit`, whatever the number of buckets. Saturates for limits that no machine
    /// reaches; then it owes less, and the window alone is exact.
    owed: u64,
}

impl Meter {
    fn new(limit: u64) -> Self {
        Meter { window: Window::EMPTY, limit, until: 0, owed: 0 }
    }

    fn change(&mut self, shape: Shape, limit: u64) {
        self.limit = limit;
        // Nobody waits longer than a window for shares of a limit that was lowered.
        self.owed = self.owed.min(parts(shape, limit));
    }

    /// Ends shares whose time is over.
    fn settle(&mut self, now: u64) {
        if self.is_throttled() && now >= self.until {
            self.unthrottle();
        }
    }

    /// Buckets went by: their shares pay what is owed.
    fn pay(&mut self, buckets: u64) {
        self.owed = self.owed.saturating_sub(self.limit.saturating_mul(buckets));
    }

    fn is_throttled(&self) -> bool {
        self.until != 0
    }

    fn unthrottle(&mut self) {
        (self.until, self.owed) = (0, 0);
    }

    /// Up to what the current bucket's share is given at `now`, as `owed` counts.
    fn given(&self, clock: &Clock, now: u64) -> u64 {
        if !self.is_throttled() {
            return u64::MAX;
        }
        let (begun, all) = (clock.slices_begun(now), clock.shape().slices());
        // Rounded up, so that what is owed, a whole number, is less exactly when it is less than the
        // fraction.
        (u128::from(self.limit) * u128::from(begun)).div_ceil(all.into()) as u64
    }

    fn fits(&self, n: u64, given: u64) -> bool {
        self.limit > 0 && n <= self.window.room(self.limit) && self.owed < given
    }

    /// Whether it has room for `n`, however that is divided, and holds nothing back.
    fn fits_freely(&self, n: u64) -> bool {
        self.limit > 0 && n <= self.window.room(self.limit) && !self.is_throttled()
    }

    fn add(&mut self, clock: &Clock, n: u64) {
        self.window.add(clock, n);
        if self.is_throttled() {
            self.owed = self.owed.saturating_add(parts(clock.shape(), n));
        }
    }

    /// What may be taken now of something that can be taken in pieces.
    fn room(&self, clock: &Clock, now: u64) -> u64 {
        let room = self.window.room(self.limit);
        if !self.is_throttled() {
            return room;
        }
        let left = self.given(clock, now).saturating_sub(self.owed);
        room.min(left.div_ceil(clock.shape().buckets().into()))
    }

    /// What one slice gives, rounded up.
    fn slice(&self, clock: &Clock) -> u64 {
        let shape = clock.shape();
        self.limit.div_ceil(u64::from(shape.buckets()) * shape.slices())
    }

    /// The first moment at which `n` fits, as things stand at `now`: 0 for now, `None` for never.
    fn fits_at(&self, clock: &Clock, now: u64, n: u64) -> Option<u64> {
        let window_at = self.window.fits_at(clock, n, self.limit)?;
        if self.owed < self.given(clock, now) {
            return Some(window_at);
        }
        // Not 0: a limit of 0 fits nothing at any time. At most one window and a share.
        let (shares, rest) = (self.owed / self.limit, self.owed % self.limit);
        // The first slice with which more than the rest is given.
        let slices = u128::from(rest) * u128::from(clock.shape().slices()) / u128::from(self.limit);
        let share_ns = shares.saturating_mul(clock.shape().bucket_ns());
        let slice_ns = slices as u64 * clock.shape().slice_ns();
        let given_at = clock.bucket_start().saturating_add(share_ns).saturating_add(slice_ns);
        Some(window_at.max(given_at))
    }

    /// Turns shares on for `n`, which fits at `at` (0: now, and nothing changes), for as long as
    /// it waits and a window more; returns when it fits with shares on.
    fn throttle(&mut self, clock: &Clock, now: u64, n: u64, mut at: u64) -> u64 {
        if at == 0 {
            return 0;
        }
        if !self.is_throttled() {
            self.until = now.max(1);
            self.owed = parts(clock.shape(), self.window.current(clock));
            at = self.fits_at(clock, now, n).unwrap_or(at);
        }
        let until = at.max(now).saturating_add(clock.shape().window_ns());
        self.until = self.until.max(until);
        at
    }
}

/// How many costs there are, and all of them as one; none when that is more than a number can say.
fn sum(mut costs: impl Iterator<Item = Cost>) -> Option<(usize, Cost)> {
    costs.try_fold((0, Cost { n: 0, bytes: 0 }), |(all, sum), cost| {
        let (n, bytes) = (sum.n.checked_add(cost.n)?, sum.bytes.checked_add(cost.bytes)?);
        Some((all + 1, Cost { n, bytes }))
    })
}

fn parts(shape: Shape, n: u64) -> u64 {
    n.saturating_mul(shape.buckets().into())
}

const RATES: [Rate; 5] =
    [Rate::Requests, Rate::BytesIn, Rate::BytesOut, Rate::MessagesIn, Rate::MessagesOut];

const _: () = {
    let mut at = 0;
    while at < RATES.len() {
        assert!(RATES[at] as usize == at);
        at += 1;
    }
};
const _: () = assert!(size_of::<Meter>() == 8 * (4 + BUCKETS_MAX));
const _: () = assert!(size_of::<Rates>() <= 672);
