//! Whatever bytes arrive as a client's frame: no panic, and what is accepted survives a round trip.
//!
//! Plain `cargo test` runs the seeds and some random bytes; `cargo bolero test` fuzzes. The seeds in
//! `__fuzz__` are the vectors, written by `UPDATE_VECTORS=1`.

mod support;

use std::time::Duration;

use support::{seeds, vectors};
use tollgate_protocol::{ClientFrame, encode};

#[test]
fn fuzz_client_frame() {
    seeds("client_frame", vectors::client().into_iter().map(|(name, m)| (name, m.bytes())));
    bolero::check!(name = "client_frame").with_test_time(Duration::from_millis(500)).for_each(
        |frame: &[u8]| {
            let Ok(value) = ClientFrame::decode(frame) else { return };
            let mut wire = Vec::new();
            encode(&value, &mut wire);
            // A longer varint than needed is accepted and written short; nothing ever grows.
            assert!(wire.len() <= frame.len() + 4);
            assert_eq!(ClientFrame::decode(&wire[4..]), Ok(value));
        },
    );
}
