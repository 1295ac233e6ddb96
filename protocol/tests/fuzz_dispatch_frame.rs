//! Whatever bytes arrive as a frame to a worker: no panic, and what is accepted survives a round trip.
//!
//! Plain `cargo test` runs the seeds and some random bytes; `cargo bolero test` fuzzes. The seeds in
//! `__fuzz__` are the vectors, written by `UPDATE_VECTORS=1`.

mod support;

use std::time::Duration;

use support::{seeds, vectors};
use tollgate_protocol::{DispatchFrame, encode};

#[test]
fn fuzz_dispatch_frame() {
    seeds("dispatch_frame", vectors::work::dispatch().into_iter().map(|(n, m)| (n, m.bytes())));
    bolero::check!(name = "dispatch_frame").with_test_time(Duration::from_millis(500)).for_each(
        |frame: &[u8]| {
            let Ok(value) = DispatchFrame::decode(frame) else { return };
            let mut wire = Vec::new();
            encode(&value, &mut wire);
            // A longer varint than needed is accepted and written short; nothing ever grows.
            assert!(wire.len() <= frame.len() + 4);
            assert_eq!(DispatchFrame::decode(&wire[4..]), Ok(value));
        },
    );
}
