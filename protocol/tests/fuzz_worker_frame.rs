//! Whatever bytes arrive as a worker's frame: no panic, and what is accepted survives a round trip.
//!
//! Plain `cargo test` runs the seeds and some random bytes; `cargo bolero test` fuzzes. The seeds in
//! `__fuzz__` are the vectors, written by `UPDATE_VECTORS=1`.

mod support;

use std::time::Duration;

use support::{seeds, vectors};
use tollgate_protocol::{WorkerFrame, encode};

#[test]
fn fuzz_worker_frame() {
    seeds("worker_frame", vectors::work::worker().into_iter().map(|(n, m)| (n, m.bytes())));
    bolero::check!(name = "worker_frame").with_test_time(Duration::from_millis(500)).for_each(
        |frame: &[u8]| {
            let Ok(value) = WorkerFrame::decode(frame) else { return };
            let mut wire = Vec::new();
            encode(&value, &mut wire);
            // A longer varint than needed is accepted and written short; nothing ever grows.
            assert!(wire.len() <= frame.len() + 4);
            assert_eq!(WorkerFrame::decode(&wire[4..]), Ok(value));
        },
    );
}
