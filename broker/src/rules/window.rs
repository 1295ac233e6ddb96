//! An exact sliding window over buckets of time: how much was charged in it, and when there is room.
//!
//! The window is the current bucket and those before it that its shape names; exactness is over
//! these. It never admits anything by itself: a caller asks for room, then adds.

use std::time::Duration;

/// How a window is cut: at most [`BUCKETS_MAX`] buckets of equal width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    bucket_ns: u64,
    buckets: u8,
}

/// Why a shape was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Too few or too many buckets.
    #[error("a window has 1 to {BUCKETS_MAX} buckets, not {0}")]
    Buckets(u8),
    /// A bucket is too short or too long.
    #[error("a bucket lasts {BUCKET_MS_MIN} to {BUCKET_MS_MAX} ms, not {0}")]
    Width(u64),
}

impl Shape {
    /// A window of `buckets` buckets of `bucket_ms` milliseconds each.
    ///
    /// # Errors
    /// [`ShapeError`] when a number is out of its bounds.
    pub const fn new(buckets: u8, bucket_ms: u64) -> Result<Shape, ShapeError> {
        if buckets == 0 || buckets as usize > BUCKETS_MAX {
            return Err(ShapeError::Buckets(buckets));
        }
        if bucket_ms < BUCKET_MS_MIN || bucket_ms > BUCKET_MS_MAX {
            return Err(ShapeError::Width(bucket_ms));
        }
        Ok(Shape { bucket_ns: bucket_ms * NS_PER_MS, buckets })
    }

    /// How many buckets the window has.
    pub const fn buckets(self) -> u8 {
        self.buckets
    }

    /// How long a bucket lasts, in nanoseconds.
    pub const fn bucket_ns(self) -> u64 {
        self.bucket_ns
    }

    /// How long the window is, in nanoseconds.
    pub const fn window_ns(self) -> u64 {
        self.bucket_ns * self.buckets as u64
    }

    /// What a rate per second allows in one window: the rate itself when the window is 1 s long,
    /// in proportion otherwise, at least 1 for any rate above 0. `u64::MAX` (no limit) stays.
    pub const fn limit(self, per_second: u64) -> u64 {
        if per_second == 0 || per_second == u64::MAX {
            return per_second;
        }
        let scaled = per_second as u128 * self.window_ns() as u128 / NS_PER_S as u128;
        if scaled == 0 {
            1
        } else if scaled >= u64::MAX as u128 {
            u64::MAX - 1
        } else {
            scaled as u64
        }
    }
}

impl Default for Shape {
    /// 1 s: ten buckets of 100 ms.
    fn default() -> Self {
        Shape { bucket_ns: 100 * NS_PER_MS, buckets: 10 }
    }
}

/// The sums of one rate.
///
/// Callers [`advance`](Window::advance) it to `now` first; everything else speaks of that moment.
/// A clock that steps back is taken to stand still.
#[derive(Debug, Clone)]
pub struct Window {
    shape: Shape,
    /// When the current bucket ends, in nanoseconds. Held so that only one charge a bucket divides.
    ends: u64,
    /// The sum of all buckets.
    total: u64,
    /// Which of the sums is the current bucket's.
    head: u8,
    sums: [u64; BUCKETS_MAX],
}

impl Window {
    /// An empty window at time 0.
    pub fn new(shape: Shape) -> Self {
        Window { shape, ends: shape.bucket_ns, total: 0, head: 0, sums: [0; BUCKETS_MAX] }
    }

    /// Moves to `now`, dropping what left the window; returns how many buckets it moved.
    pub fn advance(&mut self, now: u64) -> u64 {
        if now < self.ends {
            return 0;
        }
        let steps = (now - self.ends) / self.shape.bucket_ns + 1;
        // The end of the last bucket before the clock's own end: 584 years from the base.
        self.ends = self.ends.saturating_add(steps.saturating_mul(self.shape.bucket_ns));
        if steps >= u64::from(self.shape.buckets) {
            self.sums = [0; BUCKETS_MAX];
            self.total = 0;
        } else {
            for _ in 0..steps {
                self.head = self.after(self.head);
                self.total -= std::mem::take(&mut self.sums[usize::from(self.head)]);
            }
        }
        steps
    }

    /// What the window holds.
    pub fn used(&self) -> u64 {
        self.total
    }

    /// What the current bucket holds.
    pub fn current(&self) -> u64 {
        self.sums[usize::from(self.head)]
    }

    /// What may still be added under a limit.
    pub fn room(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.total)
    }

    /// When the current bucket began, in nanoseconds.
    pub fn bucket_start(&self) -> u64 {
        self.ends - self.shape.bucket_ns
    }

    /// How the window is cut.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Adds to the current bucket. The caller has asked for room under some limit: so the sum
    /// cannot overflow.
    pub fn add(&mut self, n: u64) {
        self.total += n;
        self.sums[usize::from(self.head)] += n;
    }

    /// Adds `n` when it fits under `limit`; says whether it did.
    #[cfg(test)]
    pub fn charge(&mut self, now: u64, n: u64, limit: u64) -> bool {
        self.advance(now);
        let fits = limit > 0 && n <= self.room(limit);
        if fits {
            self.add(n);
        }
        fits
    }

    /// The first moment, in nanoseconds, at which `n` fits under `limit` when nothing else is
    /// added meanwhile: 0 when it fits now, `None` when it never can.
    pub fn fits_at(&self, n: u64, limit: u64) -> Option<u64> {
        if limit == 0 || n > limit {
            return None;
        }
        if n <= self.room(limit) {
            return Some(0);
        }
        let mut left = self.total;
        let mut bucket = self.head;
        // The oldest bucket is the one after the head; it leaves when the current one ends.
        for gone in 0..u64::from(self.shape.buckets) {
            bucket = self.after(bucket);
            left -= self.sums[usize::from(bucket)];
            if n <= limit.saturating_sub(left) {
                let later = gone.saturating_mul(self.shape.bucket_ns);
                return Some(self.ends.saturating_add(later));
            }
        }
        unreachable!("an empty window has room for what is within the limit")
    }

    /// How long to wait, from `now`, until `n` fits under `limit`: exact for one who comes back
    /// then, alone. `None` when it never can.
    #[cfg(test)]
    pub fn retry_after(&mut self, now: u64, n: u64, limit: u64) -> Option<Duration> {
        self.advance(now);
        self.fits_at(n, limit).map(|at| wait(now, at))
    }

    fn after(&self, bucket: u8) -> u8 {
        if bucket + 1 == self.shape.buckets { 0 } else { bucket + 1 }
    }
}

/// The time from `now` to `at`, both in nanoseconds; none when it has passed.
pub fn wait(now: u64, at: u64) -> Duration {
    Duration::from_nanos(at.saturating_sub(now))
}

/// The most buckets of a window; what a tenant's state costs grows with it.
pub const BUCKETS_MAX: usize = 16;
/// The shortest bucket, in milliseconds: timers are no finer.
pub const BUCKET_MS_MIN: u64 = 1;
/// The longest bucket, in milliseconds.
pub const BUCKET_MS_MAX: u64 = 60_000;
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

const _: () = assert!(BUCKETS_MAX <= u8::MAX as usize);
const _: () = assert!(size_of::<Window>() <= 168);
