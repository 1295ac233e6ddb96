//! `panic`: shows that a panic is one failed item.

use tollgate_protocol::truncate;

use crate::batch::{Error, Inline, InlineContext, Reply, Spec};

pub(super) struct Panic;

pub(super) fn spec() -> Spec {
    Spec { description: "Panics, with its payload (text) as the message.".into(), ..Spec::bytes() }
}

impl Inline for Panic {
    fn run(&self, _: &InlineContext<'_>, payload: &[u8], _: &mut Reply) -> Result<(), Error> {
        let payload = &payload[..payload.len().min(MESSAGE_BYTES_MAX)];
        let message = String::from_utf8_lossy(payload);
        match truncate(&message, MESSAGE_BYTES_MAX) {
            "" => panic!("as asked"),
            message => panic!("{message}"),
        }
    }
}

/// The message goes into the log too.
const MESSAGE_BYTES_MAX: usize = 256;
