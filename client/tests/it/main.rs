//! The client against brokers of our own making, over real QUIC.

mod batches;
mod cancel;
mod connection;
mod frames;
mod hostile;
mod jobs;
mod jobs_lost;
mod retries;
mod support;
mod worker;
mod worker_ends;
