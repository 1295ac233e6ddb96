//! `echo`: answers its payload.

use tollgate_protocol::limits;

use crate::batch::{Error, Inline, InlineContext, Reply, Spec};

pub(super) struct Echo;

pub(super) fn spec() -> Spec {
    Spec {
        idempotent: true,
        result_bytes_max: limits::RESULT_PAYLOAD_BYTES_MAX,
        description: "Answers its payload.".into(),
        ..Spec::bytes()
    }
}

impl Inline for Echo {
    fn run(&self, _: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        out.extend_from_slice(payload);
        Ok(())
    }
}
