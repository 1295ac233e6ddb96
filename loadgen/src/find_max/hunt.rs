//! Which rate comes next: doubled until one fails (or halved until one does not), then in the middle
//! between the best that did and the least that failed.

/// A search over factors.
#[derive(Debug, Clone)]
pub(super) struct Hunt {
    next: f64,
    good: Option<f64>,
    bad: Option<f64>,
    most: f64,
    /// How near the good and the bad one must come to each other, as a fraction.
    precision: f64,
    tries: u32,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// Measure this.
    Try(f64),
    /// Nothing more.
    Done,
}

/// Steps after which it ends in any case: 2^20 up or down is beyond every machine.
const TRIES_MAX: u32 = 60;
/// A rate that is so much smaller than the first is none.
const LEAST: f64 = 1.0 / 1_048_576.0;

impl Hunt {
    pub(super) fn new(from: f64, most: Option<f64>, precision: f64) -> Self {
        let most = most.unwrap_or(f64::INFINITY);
        Hunt { next: from.min(most), good: None, bad: None, most, precision, tries: 0 }
    }

    pub(super) fn next(&self) -> Next {
        let near =
            matches!((self.good, self.bad), (Some(g), Some(b)) if b / g <= 1.0 + self.precision);
        let at_most = self.good.is_some_and(|g| g >= self.most);
        let nothing = self.good.is_none() && self.next < LEAST;
        if near || at_most || nothing || self.tries >= TRIES_MAX {
            Next::Done
        } else {
            Next::Try(self.next)
        }
    }

    /// The best that was good so far.
    pub(super) fn best(&self) -> Option<f64> {
        self.good
    }

    /// What became of the last.
    pub(super) fn tried(&mut self, good: bool) {
        self.tries += 1;
        if good {
            self.good = Some(self.next);
        } else {
            self.bad = Some(self.next);
        }
        self.next = match (self.good, self.bad) {
            (Some(g), None) => (g * 2.0).min(self.most),
            (None, Some(b)) => b / 2.0,
            // In the middle of a scale of ratios.
            (Some(g), Some(b)) => (g * b).sqrt(),
            (None, None) => self.next,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(from: f64, most: Option<f64>, limit: f64) -> (Option<f64>, u32) {
        let mut hunt = Hunt::new(from, most, 0.05);
        while let Next::Try(f) = hunt.next() {
            hunt.tried(f <= limit);
        }
        (hunt.best(), hunt.tries)
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for (from, limit) in [(1.0, 37.3), (1.0, 0.011), (1.0, 1.0), (100.0, 5.0), (1.0, 5e4)] {
            let (best, tries) = search(from, None, limit);
            let best = best.expect("there is one");
            assert!(best <= limit && best * 1.05 >= limit, "{limit}: {best}");
            assert!(tries < 30, "{limit}: {tries}");
        }
    }

    #[test]
    fn a_bound_ends_it_and_so_does_nothing_at_all() {
        assert_eq!(search(1.0, Some(6.0), 1e9).0, Some(6.0));
        assert_eq!(search(1.0, Some(1.0), 1e9), (Some(1.0), 1));
        assert_eq!(search(1.0, None, 0.0).0, None);
        assert!(search(1.0, None, f64::INFINITY).1 <= TRIES_MAX);
    }
}
