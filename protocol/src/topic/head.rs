//! Frames that carry a message, written without its payload: for a sender that hands that over
//! apart.

use super::{Delivery, Message};
use crate::{
    codec::put_u64,
    encode::{begin, end},
};

const MESSAGE: u8 = 15;
const DELIVERY: u8 = 24;

/// Appends a delivery with its length prefix but without the bytes of its payload, which must
/// follow.
#[inline]
pub fn encode_delivery_head(delivery: &Delivery<'_>, payload_len: usize, out: &mut Vec<u8>) {
    let start = begin(out);
    out.push(DELIVERY);
    delivery.put_head(out);
    put_u64(out, payload_len as u64);
    end(out, start, payload_len);
}

/// Appends a message with its length prefix but without the bytes of its payload, which must
/// follow: for a sender that hands a large payload over apart.
#[inline]
pub fn encode_message_head(message: &Message<'_>, payload_len: usize, out: &mut Vec<u8>) {
    let start = begin(out);
    out.push(MESSAGE);
    Message { payload: &[], ..*message }.put(out);
    // The empty payload is one length byte, 0: put the real length in its place.
    out.pop();
    put_u64(out, payload_len as u64);
    end(out, start, payload_len);
}
