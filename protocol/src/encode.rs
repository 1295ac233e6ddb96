//! Writing frames with their length prefix.
//!
//! The payload of a request or a result may follow apart, so that nobody has to copy a large one.

use crate::{
    batch::{Failure, ItemResult, RESULT, Request, Success},
    codec::{Head, prefix, put_u64},
    frame::{BrokerFrame, ClientFrame},
    limits::PREFIX_BYTES,
};

/// A frame of either direction.
pub trait Frame {
    /// Appends the frame without its prefix.
    #[doc(hidden)]
    fn put_body(&self, out: &mut Vec<u8>);
}

impl Frame for ClientFrame<'_> {
    fn put_body(&self, out: &mut Vec<u8>) {
        self.put(out);
    }
}

impl Frame for BrokerFrame<'_> {
    fn put_body(&self, out: &mut Vec<u8>) {
        self.put(out);
    }
}

/// Appends a frame with its length prefix.
///
/// ```
/// use tollgate_protocol::{ClientFrame, encode};
/// let mut out = Vec::new();
/// encode(&ClientFrame::Seal { items: 300 }, &mut out);
/// assert_eq!(out, [0, 0, 0, 3, 10, 0xac, 0x02]);
/// ```
pub fn encode(frame: &impl Frame, out: &mut Vec<u8>) {
    let start = begin(out);
    frame.put_body(out);
    end(out, start, 0);
}

/// Appends a request with its length prefix but without the bytes of its payload, which must
/// follow: for a sender that hands a large payload over apart.
#[inline]
pub fn encode_request_head(request: &Request<'_>, payload_len: usize, out: &mut Vec<u8>) {
    if request.is_short() {
        return Head::append(out, payload_len, |head| {
            head.put(&[9]);
            request.put_short(payload_len, head);
        });
    }
    let start = begin(out);
    out.push(9);
    Request { payload: &[], ..*request }.put(out);
    // The empty payload is one length byte, 0: put the real length in its place.
    out.pop();
    put_u64(out, payload_len as u64);
    end(out, start, payload_len);
}

/// Appends a result with its length prefix but without the bytes of its payload, which must
/// follow. `body` is not looked at.
#[inline]
pub fn encode_result_head(result: &ItemResult<'_>, payload_len: usize, out: &mut Vec<u8>) {
    if result.is_short() {
        return encode_success_head(&result.as_success(), payload_len, out);
    }
    let start = begin(out);
    out.push(RESULT);
    result.put_before_payload(payload_len, out);
    end(out, start, payload_len);
}

/// Appends a plain success with its length prefix but without the bytes of its payload, which must
/// follow.
#[inline]
pub fn encode_success_head(success: &Success, payload_len: usize, out: &mut Vec<u8>) {
    Head::append(out, payload_len, |head| {
        head.put(&[RESULT]);
        success.put(payload_len, head);
    });
}

/// Appends a result with its length prefix whose body was encoded before, by
/// [`encode_failure_body`]: for a sender that says the same of many items. `body` is not looked at.
#[inline]
pub fn encode_result_as(result: &ItemResult<'_>, encoded: &[u8], out: &mut Vec<u8>) {
    let start = begin(out);
    out.push(RESULT);
    result.put_head(out);
    out.extend_from_slice(encoded);
    end(out, start, 0);
}

/// Appends what stands in a result after all that is the item's own: the failure.
pub fn encode_failure_body(failure: &Failure<'_>, out: &mut Vec<u8>) {
    ItemResult::put_failure(failure, out);
}

#[inline]
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    start
}

#[inline]
pub(crate) fn end(out: &mut [u8], start: usize, follows: usize) {
    let prefix = prefix(out.len() - start, follows);
    out[start..start + PREFIX_BYTES].copy_from_slice(&prefix);
}
