//! Bytes to values and back: the wire format of the Tollgate broker.
//!
//! `PROTOCOL.md` beside this crate is the specification; this crate is one implementation of it.
//! It knows no runtime, no socket, no clock and no tenant policy: whoever holds bytes can use it.
//! The format of a frame is postcard's (<https://postcard.jamesmunns.com/wire-format>), read and
//! written by hand here so that every field has its bound and every error names its field.

pub mod batch;
pub mod close;
pub mod code;
mod codec;
pub mod describe;
mod encode;
pub mod frame;
pub mod id;
pub mod job;
pub mod limits;
mod pairs;
mod splitter;
pub mod topic;
pub mod work;

pub use code::Code;
pub use codec::{DecodeError, Problem};
pub use encode::{
    Frame, encode, encode_failure_body, encode_request_head, encode_result_as, encode_result_head,
    encode_success_head,
};
pub use frame::{BrokerFrame, ClientFrame, Operation};
pub use pairs::truncate;
pub use pairs::{Extension, Extensions, ExtensionsBuf, Pairs, PairsBuf};
pub use splitter::{FrameTooLarge, Run, Splitter};
pub use topic::{encode_delivery_head, encode_message_head};
pub use work::{DispatchFrame, WorkerFrame, encode_answer_head, encode_dispatch_head};

/// The ALPN protocol name of this version of the protocol.
pub const ALPN: &[u8] = b"tollgate/1";
