//! The client against brokers of our own making, over real QUIC.

mod batches;
mod connection;
mod hostile;
mod retries;
mod support;
