//! Properties of the pure decisions, against models that are too slow and too plain to be wrong.

mod breaker;
mod fair;
mod quota;
mod window;

const MS: u64 = 1_000_000;
