//! What a peer announces costs nothing; only what it sends does. Measured at the allocator.

// Counting allocations takes an allocator, and its trait is unsafe to implement.
#![allow(unsafe_code)]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use bytes::Bytes;
use support::vectors;
use tollgate_protocol::{BrokerFrame, ClientFrame, DispatchFrame, Splitter, WorkerFrame};

struct Counting;

thread_local! {
    // Const, so that reading it allocates nothing.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes allocated by this thread in `f`, freed or not.
fn allocated(f: impl FnOnce()) -> usize {
    let before = ALLOCATED.get();
    f();
    ALLOCATED.get() - before
}

const HOSTILE: &[&[u8]] = &[
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x08],
];

/// Every vector with every byte replaced by a number that no length can be.
fn hostile(bytes: &[u8], mut check: impl FnMut(&[u8])) {
    for at in 0..bytes.len() {
        for number in HOSTILE {
            check(&[&bytes[..at], number, &bytes[at + 1..]].concat());
        }
    }
}

#[test]
fn decoding_hostile_numbers_allocates_next_to_nothing() {
    for (name, model) in vectors::client() {
        hostile(&model.bytes(), |frame| {
            // Only `Consume` keeps anything: the offsets that are really there.
            let cost = allocated(|| drop(ClientFrame::decode(frame)));
            let most = if name.starts_with("consume") { 32 * frame.len() } else { 0 };
            assert!(cost <= most, "{name}: {cost}");
        });
    }
    for (name, model) in vectors::work::worker() {
        hostile(&model.bytes(), |frame| {
            let cost = allocated(|| drop(WorkerFrame::decode(frame)));
            assert_eq!(cost, 0, "{name}");
        });
    }
    for (name, model) in vectors::work::dispatch() {
        hostile(&model.bytes(), |frame| {
            let cost = allocated(|| drop(DispatchFrame::decode(frame)));
            assert_eq!(cost, 0, "{name}");
        });
    }
    for (name, model) in vectors::broker() {
        hostile(&model.bytes(), |frame| {
            // Only lists are kept: what of them is really there, a few times over.
            let cost = allocated(|| drop(BrokerFrame::decode(frame)));
            assert!(cost <= 4 * frame.len() + 1_024, "{name}: {cost}");
        });
    }
}

#[test]
fn the_splitter_grows_with_what_arrived_not_with_what_was_announced() {
    const ANNOUNCED: usize = 16 << 20;
    let mut s = Splitter::new(ANNOUNCED);
    s.push(Bytes::copy_from_slice(&(ANNOUNCED as u32).to_be_bytes()));
    let mut arrived = 4;
    for _ in 0..1_000 {
        let chunk = Bytes::from_static(&[7; 100]);
        arrived += chunk.len();
        let cost = allocated(|| {
            s.push(chunk);
            assert_eq!(s.peek(), Ok(None));
        });
        // At one time at most twice of what arrived; a step that grows takes that anew.
        assert!(cost <= 2 * arrived, "{cost} after {arrived} bytes");
        assert_eq!(s.buffered(), arrived);
    }
}

#[test]
fn a_frame_that_is_too_large_costs_nothing() {
    let mut s = Splitter::new(1 << 20);
    let wire = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    let cost = allocated(|| {
        s.push(wire);
        s.peek().expect_err("4 GiB");
    });
    assert_eq!(cost, 0);
}
