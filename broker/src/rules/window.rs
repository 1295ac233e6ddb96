//! An exact sliding window over buckets of time: how much was charged in it, and when there is room.
//!
//! The window is the current bucket and those before it that its shape names; exactness is over
//! these. It never admits anything by itself: a caller asks for room, then adds.

use std::time::Duration;

/// How a window is cut: at most [`BUCKETS_MAX`] buckets of equal width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    bucket_ms: u32,
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
        Ok(Shape { bucket_ms: bucket_ms as u32, buckets })
    }

    /// How many buckets the window has.
    pub const fn buckets(self) -> u8 {
        self.buckets
    }

    /// How long a bucket lasts, in milliseconds.
    pub const fn bucket_ms(self) -> u64 {
        self.bucket_ms as u64
    }

    /// How long a bucket lasts, in nanoseconds.
    pub const fn bucket_ns(self) -> u64 {
        self.bucket_ms() * NS_PER_MS
    }

    /// How long the window is, in nanoseconds.
    pub const fn window_ns(self) -> u64 {
        self.bucket_ns() * self.buckets as u64
    }

    /// In how many slices what a bucket gives is given out, when it is given out evenly. They lie in
    /// its first four fifths, so that who comes a little late for the last still comes in time.
    pub const fn slices(self) -> u64 {
        let slices = self.bucket_ms() * 4 / 5 / SLICE_MS;
        if slices == 0 { 1 } else { slices }
    }

    /// How long a slice lasts, in nanoseconds.
    pub const fn slice_ns(self) -> u64 {
        SLICE_MS * NS_PER_MS
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
        Shape { bucket_ms: 100, buckets: 10 }
    }
}

/// Which bucket it is now, for windows that are cut alike and move together.
///
/// A clock that steps back is taken to stand still.
#[derive(Debug, Clone)]
pub struct Clock {
    /// When the current bucket ends, in nanoseconds. Held so that only one charge a bucket divides.
    ends: u64,
    shape: Shape,
    /// Which of the sums is the current bucket's.
    head: u8,
}

impl Clock {
    /// A clock at time 0.
    pub fn new(shape: Shape) -> Self {
        Clock { ends: shape.bucket_ns(), shape, head: 0 }
    }

    /// Moves to `now`, and `windows` with it; returns how many buckets they moved.
    pub fn advance<'a>(
        &mut self,
        now: u64,
        windows: impl IntoIterator<Item = &'a mut Window>,
    ) -> u64 {
        if now < self.ends {
            return 0;
        }
        let (bucket_ns, buckets) = (self.shape.bucket_ns(), u64::from(self.shape.buckets));
        let steps = (now - self.ends) / bucket_ns + 1;
        // The end of the last bucket before the clock's own end: 584 years from the base.
        self.ends = self.ends.saturating_add(steps.saturating_mul(bucket_ns));
        // What a whole window leaves behind is empty, wherever it stands.
        let moved = steps.min(buckets) as u8;
        windows.into_iter().for_each(|w| w.leave(self, moved));
        self.head = ((u64::from(self.head) + steps % buckets) % buckets) as u8;
        steps
    }

    /// When the current bucket began, in nanoseconds.
    pub fn bucket_start(&self) -> u64 {
        self.ends - self.shape.bucket_ns()
    }

    /// How many [slices](Shape::slices) of the current bucket have begun at `now`: 1 or more.
    pub fn slices_begun(&self, now: u64) -> u64 {
        let into = now.saturating_sub(self.bucket_start());
        (into / self.shape.slice_ns() + 1).min(self.shape.slices())
    }

    /// How the windows are cut.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    fn after(&self, bucket: u8) -> u8 {
        if bucket + 1 == self.shape.buckets { 0 } else { bucket + 1 }
    }
}

/// The sums of one rate. Everything about time is told by the clock that it moves with.
#[derive(Debug, Clone)]
pub struct Window {
    /// The sum of all buckets.
    total: u64,
    sums: [u64; BUCKETS_MAX],
}

impl Window {
    /// Nothing was charged yet.
    pub const EMPTY: Window = Window { total: 0, sums: [0; BUCKETS_MAX] };

    /// Drops the `moved` oldest buckets of a clock that has not moved yet.
    fn leave(&mut self, clock: &Clock, moved: u8) {
        if self.total == 0 {
            return;
        }
        let mut bucket = clock.head;
        for _ in 0..moved {
            bucket = clock.after(bucket);
            self.total -= std::mem::take(&mut self.sums[usize::from(bucket)]);
        }
    }

    /// What the window holds.
    pub fn used(&self) -> u64 {
        self.total
    }

    /// What the current bucket holds.
    pub fn current(&self, clock: &Clock) -> u64 {
        self.sums[usize::from(clock.head)]
    }

    /// What may still be added under a limit.
    pub fn room(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.total)
    }

    /// Adds to the current bucket. The caller has asked for room under some limit: so the sum
    /// cannot overflow.
    pub fn add(&mut self, clock: &Clock, n: u64) {
        self.total += n;
        self.sums[usize::from(clock.head)] += n;
    }

    /// The first moment, in nanoseconds, at which `n` fits under `limit` when nothing else is
    /// added meanwhile: 0 when it fits now, `None` when it never can.
    pub fn fits_at(&self, clock: &Clock, n: u64, limit: u64) -> Option<u64> {
        if limit == 0 || n > limit {
            return None;
        }
        if n <= self.room(limit) {
            return Some(0);
        }
        let mut left = self.total;
        let mut bucket = clock.head;
        // The oldest bucket is the one after the head; it leaves when the current one ends.
        for gone in 0..u64::from(clock.shape.buckets) {
            bucket = clock.after(bucket);
            left -= self.sums[usize::from(bucket)];
            if n <= limit.saturating_sub(left) {
                let later = gone.saturating_mul(clock.shape.bucket_ns());
                return Some(clock.ends.saturating_add(later));
            }
        }
        unreachable!("an empty window has room for what is within the limit")
    }
}

/// The time from `now` to `at`, both in nanoseconds; none when it has passed.
pub fn wait(now: u64, at: u64) -> Duration {
    Duration::from_nanos(at.saturating_sub(now))
}

/// The most buckets of a window; what a tenant's state costs grows with it, five times.
pub const BUCKETS_MAX: usize = 12;
/// The shortest bucket, in milliseconds: timers are no finer.
pub const BUCKET_MS_MIN: u64 = 1;
/// The longest bucket, in milliseconds.
pub const BUCKET_MS_MAX: u64 = 60_000;
/// How long a slice of a bucket lasts, in milliseconds: what it gives is little, and timers, which
/// tell milliseconds apart, still meet it.
const SLICE_MS: u64 = 5;
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

const _: () = assert!(BUCKETS_MAX <= u8::MAX as usize);
const _: () = assert!(BUCKET_MS_MAX <= u32::MAX as u64);
const _: () = assert!(size_of::<Window>() == 8 * (1 + BUCKETS_MAX));
const _: () = assert!(size_of::<Clock>() <= 24);
