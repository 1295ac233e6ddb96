//! The frames of workers: an operation of its own, with an enum of its own for each direction.
//!
//! Layouts are drawn in `frame`; the life of a lease is in `PROTOCOL.md`.

mod answer;
mod apart;
mod dispatch;
mod frame;
mod open;
mod spec;

pub use answer::{Answer, Failed, Progress};
pub use apart::{Deliver, Fetch};
pub use dispatch::Dispatch;
pub use frame::{DispatchFrame, WorkerFrame, encode_answer_head, encode_dispatch_head};
pub use open::WorkOpen;
pub use spec::RecipeSpec;
