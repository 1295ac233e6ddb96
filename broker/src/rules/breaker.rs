//! A circuit breaker: when something that fails is left alone, and when it is tried again.
//!
//! Closed lets everything through and counts. Open refuses for a time. Half-open lets a few through
//! to see. What fails for one user alone does not open it while another is served, so that nobody
//! can take a thing from the others by asking for what it can not do.

use std::mem;

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Failures in a row that open it; 0: no number of them does.
    pub failures: u32,
    /// The share of failures in a window that opens it, in per cent; 0: none does.
    pub ratio_percent: u32,
    /// How many must have ended in the window before their share counts.
    pub requests_min: u32,
    /// How long the window is. It moves by halves.
    pub window_ns: u64,
    /// How long it stays open.
    pub open_ns: u64,
    /// How many are let through when it is half-open, all of which must end well.
    pub probes: u32,
}

/// How one that was let through ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was answered.
    Served,
    /// It was not.
    Failed,
    /// Nobody knows: it was given up before its time.
    Unknown,
}

/// Leave to go through, to be given back with [`Breaker::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a ticket is given back with how it ended"]
pub struct Ticket {
    generation: u64,
}

/// What became of the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was closed, and refuses from now on.
    Opened,
    /// It refused, and lets everything through again.
    Closed,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Everything goes through.
    Closed,
    /// A few go through, to see.
    HalfOpen,
    /// Nothing goes through.
    Open,
}

/// The breaker; `U` says on whose behalf something is tried.
#[derive(Debug)]
pub struct Breaker<U> {
    settings: Settings,
    state: State,
    /// Rises with every change of state: what was let through before it does not count after it.
    generation: u64,
    /// Since the last one that was served.
    streak: Failures<U>,
    window: [Part<U>; 2],
    served: Served<U>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: u64 },
    HalfOpen { out: u32, good: u32 },
}

/// Failures, and whether they are all of one user.
#[derive(Debug)]
struct Failures<U> {
    count: u32,
    first: Option<U>,
    of_several: bool,
}

/// One half of the window: which, since the base of time, and what ended in it.
#[derive(Debug)]
struct Part<U> {
    at: u64,
    ended: u32,
    failed: Failures<U>,
}

/// When a user was served last, and when somebody else was.
#[derive(Debug)]
struct Served<U> {
    last: Option<(U, u64)>,
    other: Option<u64>,
}

impl<U: Clone + Eq> Breaker<U> {
    /// Closed, and nothing counted.
    pub fn new(settings: Settings) -> Self {
        Breaker {
            settings,
            state: State::Closed,
            generation: 0,
            streak: Failures::none(),
            window: [Part::new(0), Part::new(0)],
            served: Served { last: None, other: None },
        }
    }

    /// Lets one through.
    ///
    /// # Errors
    /// How long to wait before asking again, in nanoseconds, when it does not.
    pub fn admit(&mut self, now: u64) -> Result<Ticket, u64> {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.turn(State::HalfOpen { out: 0, good: 0 });
        }
        match &mut self.state {
            State::Closed => {}
            State::Open { until } => return Err(*until - now),
            State::HalfOpen { out, good } => {
                if *out + *good >= self.settings.probes.max(1) {
                    return Err((self.settings.open_ns / 4).max(1));
                }
                *out += 1;
            }
        }
        Ok(Ticket { generation: self.generation })
    }

    /// One that was let through ended.
    pub fn end(&mut self, ticket: Ticket, user: &U, ending: Ending, now: u64) -> Option<Change> {
        if ticket.generation != self.generation {
            return None;
        }
        match &mut self.state {
            State::Closed => self.count(user, ending, now),
            State::HalfOpen { out, good } => {
                *out -= 1;
                match ending {
                    Ending::Unknown => None,
                    Ending::Failed => {
                        self.open(now);
                        None
                    }
                    Ending::Served => {
                        *good += 1;
                        if *good < self.settings.probes.max(1) {
                            return None;
                        }
                        self.served.note(user, now);
                        self.turn(State::Closed);
                        Some(Change::Closed)
                    }
                }
            }
            // Everything that was let through before it opened has another generation.
            State::Open { .. } => None,
        }
    }

    /// How it stands.
    pub fn phase(&self, now: u64) -> Phase {
        match self.state {
            State::Closed => Phase::Closed,
            State::Open { until } if now < until => Phase::Open,
            State::Open { .. } | State::HalfOpen { .. } => Phase::HalfOpen,
        }
    }

    fn count(&mut self, user: &U, ending: Ending, now: u64) -> Option<Change> {
        let half = (self.settings.window_ns / 2).max(1);
        let at = now / half;
        if self.window[1].at != at {
            let before = mem::replace(&mut self.window[1], Part::new(at));
            let is_next = before.at + 1 == at;
            self.window[0] = if is_next { before } else { Part::new(at.saturating_sub(1)) };
        }
        let part = &mut self.window[1];
        match ending {
            Ending::Unknown => return None,
            Ending::Served => {
                part.ended += 1;
                self.streak = Failures::none();
                self.served.note(user, now);
                return None;
            }
            Ending::Failed => {
                part.ended += 1;
                part.failed.note(user);
                self.streak.note(user);
            }
        }
        let opens = self.in_a_row(now) || self.in_window(now);
        opens.then(|| {
            self.open(now);
            Change::Opened
        })
    }

    fn in_a_row(&self, now: u64) -> bool {
        let needed = self.settings.failures;
        needed > 0 && self.streak.count >= needed && !self.is_ones_own(&[&self.streak], now)
    }

    fn in_window(&self, now: u64) -> bool {
        let Settings { ratio_percent, requests_min, .. } = self.settings;
        let [a, b] = &self.window;
        let ended = u64::from(a.ended) + u64::from(b.ended);
        let failed = u64::from(a.failed.count) + u64::from(b.failed.count);
        ratio_percent > 0
            && ended >= u64::from(requests_min)
            && failed * 100 >= ended * u64::from(ratio_percent)
            && !self.is_ones_own(&[&a.failed, &b.failed], now)
    }

    /// Whether these failures are all of one user, while another was served lately.
    fn is_ones_own(&self, failures: &[&Failures<U>], now: u64) -> bool {
        let mut of = failures.iter().filter_map(|f| f.first.as_ref());
        let Some(user) = of.next() else { return false };
        let of_one = failures.iter().all(|f| !f.of_several) && of.all(|u| u == user);
        let since = now.saturating_sub(self.settings.window_ns);
        of_one && self.served.by_another(user).is_some_and(|at| at >= since)
    }

    fn open(&mut self, now: u64) {
        self.turn(State::Open { until: now.saturating_add(self.settings.open_ns) });
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.streak = Failures::none();
        self.window = [Part::new(0), Part::new(0)];
    }
}

impl<U: Clone + Eq> Failures<U> {
    fn none() -> Self {
        Failures { count: 0, first: None, of_several: false }
    }

    fn note(&mut self, user: &U) {
        self.count = self.count.saturating_add(1);
        match &self.first {
            None => self.first = Some(user.clone()),
            Some(first) => self.of_several |= first != user,
        }
    }
}

impl<U: Clone + Eq> Part<U> {
    fn new(at: u64) -> Self {
        Part { at, ended: 0, failed: Failures::none() }
    }
}

impl<U: Clone + Eq> Served<U> {
    fn note(&mut self, user: &U, now: u64) {
        match &mut self.last {
            Some((last, at)) if last == user => *at = now,
            last => {
                let before = last.replace((user.clone(), now));
                self.other = before.map(|(_, at)| at);
            }
        }
    }

    /// When another than this user was served last.
    fn by_another(&self, user: &U) -> Option<u64> {
        match &self.last {
            Some((last, _)) if last == user => self.other,
            Some((_, at)) => Some(*at),
            None => None,
        }
    }
}
