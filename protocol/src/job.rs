//! The frames of jobs: what outlives a connection is attached to, asked about and acted on here.
//!
//! Layouts are drawn in `frame`; the life of a job and of its streams is in `PROTOCOL.md`.

mod accepted;
mod ask;
mod attach;
mod info;

pub use accepted::{Gap, JobAccepted};
pub use ask::{JobAction, JobAsk, JobFilter, JobWhich, Jobs};
pub use attach::{Attach, JobTarget};
pub use info::{JobError, JobInfo, JobState, JobStates};
