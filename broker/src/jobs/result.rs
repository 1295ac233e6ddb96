//! The result of a job as it is kept: the bytes of its frame, which are sent as they are but for
//! their number.

use std::time::Duration;

use bytes::Bytes;
use tollgate_protocol::{
    BrokerFrame, Code, Extensions, Pairs,
    batch::{Body, ItemResult, Number},
    encode,
};

use crate::batch::{Failure, JobEnd, Outcome, Reply};

/// Bytes before a frame.
const PREFIX: usize = 4;

/// What a result says beside its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    pub item: u64,
    pub attempts: u32,
    pub queued: Duration,
    pub running: Duration,
}

/// The bytes of a result.
pub(super) fn encoded(facts: Facts, outcome: &Outcome) -> Vec<u8> {
    let mut result = ItemResult {
        id: facts.item,
        tenant: None,
        status: 200,
        code: 0,
        attempts: facts.attempts,
        queued_us: facts.queued.as_micros() as u64,
        duration_us: facts.running.as_micros() as u64,
        number: Number::default(),
        metadata: Pairs::EMPTY,
        extensions: Extensions::EMPTY,
        body: Body::Payload(&[]),
    };
    match outcome {
        Ok(reply) => {
            result.metadata = reply.pairs().as_pairs();
            result.body = Body::Payload(reply.payload());
        }
        Err(failure) => {
            (result.status, result.code) = (failure.code.status(), failure.code.number());
            result.body = Body::Failure(failure.as_wire());
        }
    }
    let mut out = Vec::new();
    encode(&BrokerFrame::Result(result), &mut out);
    out.drain(..PREFIX);
    out
}

/// A kept result, as a reader that knows the job as `item` is told.
pub(super) fn decoded(bytes: &Bytes, item: u64, number: Number) -> JobEnd {
    let Ok(BrokerFrame::Result(r)) = BrokerFrame::decode(bytes) else {
        // What the store gives was summed: only a newer program can have written it.
        let failure = Failure::new(Code::InternalError, "the result that was kept can not be read");
        return JobEnd {
            item,
            number,
            attempts: 0,
            queued: Duration::ZERO,
            duration: Duration::ZERO,
            outcome: Err(failure),
        };
    };
    let outcome = match r.body {
        Body::Payload(payload) => {
            let mut reply = Reply::new();
            reply.set(bytes.slice_ref(payload));
            reply.set_metadata(r.metadata.to_buf());
            Ok(reply)
        }
        Body::Failure(f) => {
            let code = Code::from_number(r.code).unwrap_or(Code::InternalError);
            Err(Failure::from_wire(code, &f))
        }
    };
    JobEnd {
        item,
        number,
        attempts: r.attempts,
        queued: Duration::from_micros(r.queued_us),
        duration: Duration::from_micros(r.duration_us),
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let facts = Facts {
            item: 7,
            attempts: 3,
            queued: Duration::from_micros(11),
            running: Duration::from_micros(13),
        };
        let mut reply = Reply::new();
        reply.extend_from_slice(b"done");
        reply.metadata("k", "v").expect("fits");
        let number = Number { epoch: 5, sequence: 6 };
        let end = decoded(&encoded(facts, &Ok(reply)).into(), 8, number);
        assert_eq!((end.item, end.number, end.attempts), (8, number, 3));
        assert_eq!((end.queued, end.duration), (facts.queued, facts.running));
        let reply = end.outcome.expect("a success");
        assert_eq!(reply.payload(), b"done");
        assert_eq!(reply.pairs().as_pairs().find("k"), Some("v"));

        let failure = Failure::new(Code::Timeout, "late").detail("phase", "running");
        let end = decoded(&encoded(facts, &Err(failure)).into(), 7, number);
        let failure = end.outcome.expect_err("a failure");
        assert_eq!((failure.code, &*failure.message), (Code::Timeout, "late"));
        assert_eq!(failure.details.as_pairs().find("phase"), Some("running"));
    }
}
