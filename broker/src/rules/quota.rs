//! What a tenant's rates admit, now: requests and bytes in, bytes out, each over its own window.
//!
//! Check and charge are one step, never one over. It never waits and wakes nobody: it says when a
//! charge that did not fit will.

use std::time::Duration;

use super::window::{BUCKETS_MAX, Shape, Window, wait};

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Items taken in.
    Requests,
    /// Bytes of payload taken in.
    BytesIn,
    /// Bytes of payload given out.
    BytesOut,
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
    /// How many items were taken, from the first on.
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
    policy: Policy,
    requests: Meter,
    bytes_in: Meter,
    bytes_out: Meter,
}

impl Rates {
    /// Rates that have counted nothing yet.
    pub fn new(shape: Shape, limits: Limits, policy: Policy) -> Self {
        Rates {
            policy,
            requests: Meter::new(shape, limits.requests),
            bytes_in: Meter::new(shape, limits.bytes),
            bytes_out: Meter::new(shape, limits.bytes),
        }
    }

    /// Changes what is allowed from now on. What was taken stays counted, so a lowered limit
    /// admits nothing until enough of it has left the window.
    pub fn change(&mut self, limits: Limits, policy: Policy) {
        self.policy = policy;
        self.requests.change(limits.requests);
        self.bytes_in.change(limits.bytes);
        self.bytes_out.change(limits.bytes);
        if policy == Policy::Reject {
            self.requests.unthrottle();
            self.bytes_in.unthrottle();
        }
    }

    /// Charges a handful of items, one length of payload each, up to the first that does not fit.
    /// An item's two charges are taken together or not at all.
    ///
    /// `now` is in nanoseconds. Under [`Policy::Reject`] there is no line, so the turn is one's own.
    pub fn charge(&mut self, now: u64, turn: Turn, mut lens: impl Iterator<Item = u64>) -> Charged {
        self.requests.advance(now);
        self.bytes_in.advance(now);
        if turn == Turn::Behind && self.policy == Policy::Pace {
            return Charged { admitted: 0, stop: lens.next().map(|len| self.stop(now, len)) };
        }
        let mut admitted = 0;
        let stop = loop {
            let Some(len) = lens.next() else { break None };
            if !(self.requests.fits(1) && self.bytes_in.fits(len)) {
                break Some(len);
            }
            self.requests.add(1);
            self.bytes_in.add(len);
            admitted += 1;
        };
        Charged { admitted, stop: stop.map(|len| self.stop(now, len)) }
    }

    /// Takes up to `want` bytes to give out: how many now, and why not all. Always paced.
    pub fn take_out(&mut self, now: u64, turn: Turn, want: u64) -> (u64, Option<Stop>) {
        let meter = &mut self.bytes_out;
        meter.advance(now);
        if want == 0 {
            return (0, None);
        }
        let granted = if turn == Turn::Own { want.min(meter.room()) } else { 0 };
        meter.add(granted);
        if granted == want {
            return (want, None);
        }
        // Worth waking for: what one bucket gives, or the rest when it is less.
        let next = (want - granted).min(meter.share());
        let kind = match meter.fits_at(next) {
            None => Kind::Never,
            Some(at) => Kind::Wait(wait(now, meter.throttle(now, next, at))),
        };
        let (current, limit) = (meter.window.used(), meter.limit);
        (granted, Some(Stop { rate: Rate::BytesOut, current, limit, kind }))
    }

    /// What a rate's window holds at `now`.
    pub fn used(&mut self, now: u64, rate: Rate) -> u64 {
        let meter = match rate {
            Rate::Requests => &mut self.requests,
            Rate::BytesIn => &mut self.bytes_in,
            Rate::BytesOut => &mut self.bytes_out,
        };
        meter.advance(now);
        meter.window.used()
    }

    /// Why an item of `len` bytes does not fit, and until when; both meters stand at `now`.
    fn stop(&mut self, now: u64, len: u64) -> Stop {
        let stop = |rate, meter: &Meter, kind| {
            let (current, limit) = (meter.window.used(), meter.limit);
            Stop { rate, current, limit, kind }
        };
        // What can never fit is said before any waiting is asked for.
        let (Some(requests_at), Some(bytes_at)) =
            (self.requests.fits_at(1), self.bytes_in.fits_at(len))
        else {
            return match self.requests.fits_at(1) {
                None => stop(Rate::Requests, &self.requests, Kind::Never),
                Some(_) => stop(Rate::BytesIn, &self.bytes_in, Kind::Never),
            };
        };
        let (requests_at, bytes_at) = match self.policy {
            Policy::Reject => (requests_at, bytes_at),
            Policy::Pace => (
                self.requests.throttle(now, 1, requests_at),
                self.bytes_in.throttle(now, len, bytes_at),
            ),
        };
        let requests_first = match requests_at.cmp(&bytes_at) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            // Only behind others do both fit: then it is the rate that holds these.
            std::cmp::Ordering::Equal => self.requests.throttled || !self.bytes_in.throttled,
        };
        if requests_first {
            stop(Rate::Requests, &self.requests, Kind::Wait(wait(now, requests_at)))
        } else {
            stop(Rate::BytesIn, &self.bytes_in, Kind::Wait(wait(now, bytes_at)))
        }
    }
}

/// One rate: its window, its limit, and how it is released after it was throttled.
///
/// Once throttled, a tenant gets its limit in equal shares, one a bucket, until a window passes
/// unthrottled: so it does not come back in bursts. An item that begins within a share may exceed
/// it and is paid for by the shares that follow: so items that do not divide a share, or exceed
/// it, still reach the whole limit. The window bounds all of it.
#[derive(Debug, Clone)]
struct Meter {
    window: Window,
    limit: u64,
    /// Whether shares are on.
    throttled: bool,
    /// When shares end, in nanoseconds.
    until: u64,
    /// What this bucket's share and those after it owe, in 1/buckets of a unit: so a share is
    /// exactly `limit`, whatever the number of buckets.
    owed: u128,
}

impl Meter {
    fn new(shape: Shape, limit: u64) -> Self {
        Meter { window: Window::new(shape), limit, throttled: false, until: 0, owed: 0 }
    }

    fn change(&mut self, limit: u64) {
        self.limit = limit;
        // Nobody waits longer than a window for shares of a limit that was lowered.
        self.owed = self.owed.min(self.parts(limit));
    }

    fn advance(&mut self, now: u64) {
        let steps = self.window.advance(now);
        if self.throttled {
            if now >= self.until {
                self.unthrottle();
            } else if steps > 0 {
                self.owed = self.owed.saturating_sub(u128::from(self.limit) * u128::from(steps));
            }
        }
    }

    fn unthrottle(&mut self) {
        self.throttled = false;
        self.owed = 0;
    }

    fn fits(&self, n: u64) -> bool {
        self.limit > 0 && n <= self.window.room(self.limit) && !self.share_is_spent()
    }

    fn share_is_spent(&self) -> bool {
        self.throttled && self.owed >= u128::from(self.limit)
    }

    fn add(&mut self, n: u64) {
        self.window.add(n);
        if self.throttled {
            self.owed += self.parts(n);
        }
    }

    /// What may be taken now of something that can be taken in pieces.
    fn room(&self) -> u64 {
        let room = self.window.room(self.limit);
        if !self.throttled {
            return room;
        }
        let left = u128::from(self.limit).saturating_sub(self.owed);
        let share = left.div_ceil(u128::from(self.window.shape().buckets()));
        room.min(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// What one bucket gives, rounded up.
    fn share(&self) -> u64 {
        self.limit.div_ceil(u64::from(self.window.shape().buckets()))
    }

    /// The first moment at which `n` fits, as things stand: 0 for now, `None` for never.
    fn fits_at(&self, n: u64) -> Option<u64> {
        let window_at = self.window.fits_at(n, self.limit)?;
        if !self.share_is_spent() {
            return Some(window_at);
        }
        // Not 0: a limit of 0 fits nothing at any time. At most one window and a share.
        let shares = u64::try_from(self.owed / u128::from(self.limit)).unwrap_or(u64::MAX);
        let share_ns = shares.saturating_mul(self.window.shape().bucket_ns());
        Some(window_at.max(self.window.bucket_start().saturating_add(share_ns)))
    }

    /// Turns shares on for `n`, which fits at `at` (0: now, and nothing changes), for as long as
    /// it waits and a window more; returns when it fits with shares on.
    fn throttle(&mut self, now: u64, n: u64, mut at: u64) -> u64 {
        if at == 0 {
            return 0;
        }
        if !self.throttled {
            self.throttled = true;
            self.until = now;
            self.owed = self.parts(self.window.current());
            at = self.fits_at(n).unwrap_or(at);
        }
        let until = at.max(now).saturating_add(self.window.shape().window_ns());
        self.until = self.until.max(until);
        at
    }

    fn parts(&self, n: u64) -> u128 {
        u128::from(n) * u128::from(self.window.shape().buckets())
    }
}

// Sums of parts stay far below the end of their type.
const _: () = assert!(BUCKETS_MAX <= 1 << 16);
const _: () = assert!(size_of::<Rates>() <= 704);
