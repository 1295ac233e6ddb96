//! Whatever bytes arrive as a frame of the broker: no panic, and what is accepted survives a round trip.
//!
//! Plain `cargo test` runs the seeds and some random bytes; `cargo bolero test` fuzzes. The seeds in
//! `__fuzz__` are the vectors, written by `UPDATE_VECTORS=1`.

mod support;

use std::time::Duration;

use support::{seeds, vectors};
use tollgate_protocol::{BrokerFrame, encode};

#[test]
fn fuzz_broker_frame() {
    seeds("broker_frame", vectors::broker().into_iter().map(|(name, m)| (name, m.bytes())));
    bolero::check!(name = "broker_frame").with_test_time(Duration::from_millis(500)).for_each(
        |frame: &[u8]| {
            let Ok(value) = BrokerFrame::decode(frame) else { return };
            let mut wire = Vec::new();
            encode(&value, &mut wire);
            // A longer varint than needed is accepted and written short; nothing ever grows.
            assert!(wire.len() <= frame.len() + 4);
            // The lists that are kept are bounded by what is really there.
            let kept = match &value {
                BrokerFrame::Summary(s) => s.failed.len(),
                BrokerFrame::Job(j) => j.errors.len(),
                BrokerFrame::Topic(t) => t.partitions.len(),
                BrokerFrame::Group(g) => g.partitions.len(),
                BrokerFrame::Assigned(a) => a.partitions.len(),
                _ => 0,
            };
            assert!(kept <= frame.len());
            assert_eq!(BrokerFrame::decode(&wire[4..]), Ok(value));
        },
    );
}
