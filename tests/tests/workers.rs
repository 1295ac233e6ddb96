//! What workers promise and are promised, over real QUIC.

#[path = "workers/calls.rs"]
mod calls;
#[path = "workers/fair.rs"]
mod fair;
#[path = "workers/killed.rs"]
mod killed;
#[path = "workers/lies.rs"]
mod lies;
#[path = "workers/lost.rs"]
mod lost;
#[path = "workers/names.rs"]
mod names;
