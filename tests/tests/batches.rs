//! What a batch promises, over real QUIC.

#[path = "batches/bounds.rs"]
mod bounds;
#[path = "batches/cancel.rs"]
mod cancel;
#[path = "batches/fail_fast.rs"]
mod fail_fast;
#[path = "batches/outcomes.rs"]
mod outcomes;
#[path = "batches/progress.rs"]
mod progress;
#[path = "batches/random.rs"]
mod random;
#[path = "batches/readers.rs"]
mod readers;
#[path = "batches/time.rs"]
mod time;
