//! Layouts that are on disks are read for ever.

use bytes::Bytes;
use tollgate_protocol::id::BatchId;

use super::super::record::{self, BadRecord, Kept, batch_key, batch_value};
use crate::{
    rules::job::{Batch, Counts, Event},
    store::{Kind, Offset, Stored},
};

const BATCH: BatchId = BatchId([7; 16]);

fn stored(layout: u8, body: &[u8]) -> Stored {
    let (kind, body) = (Kind::BatchEnded, Bytes::copy_from_slice(body));
    Stored { offset: Offset(3), kind, layout, epoch: 1, body }
}

fn counts() -> Counts {
    Counts { codes: vec![(0, 300), (17, 2)], bytes_in: 5, bytes_out: 6 }
}

/// Sixteen sevens, then what follows.
fn about(rest: &[u8]) -> Vec<u8> {
    [&[7; 16], rest].concat()
}

#[test]
fn the_end_of_a_batch_is_read_in_both_of_its_layouts() {
    let first = about(&[200, 1]);
    let event = record::event(&stored(1, &first)).expect("it is read");
    assert_eq!(event, Event::BatchEnded { batch: BATCH, at: 200, counts: None });

    let second = about(&[200, 1, 1, 2, 0, 172, 2, 17, 2, 5, 6]);
    let event = Event::BatchEnded { batch: BATCH, at: 200, counts: Some(counts()) };
    assert_eq!(record::record(&event, &Default::default(), &[]).body, second);
    assert_eq!(record::event(&stored(2, &second)).expect("it is read"), event);

    for layout in [0, 3] {
        let newer = record::event(&stored(layout, &second));
        assert!(matches!(newer, Err(BadRecord::Layout(l)) if l == layout), "{newer:?}");
    }
}

#[test]
fn a_batch_of_the_view_is_read_in_both_of_its_layouts() {
    let mut batch = Batch::default();
    (batch.durable, batch.opened, batch.ended) = (true, 3, Some((4, 9)));
    batch.last_item = Some(1);
    let before = batch.clone();
    batch.counts = Some(counts());
    let read = |value: &[u8]| match record::kept(&batch_key(BATCH), value) {
        Ok(Kept::Batch(BATCH, batch)) => *batch,
        _ => panic!("it is a batch"),
    };
    // Fail-fast, opened, sealed, ended, the last item.
    let first = [0, 3, 0, 1, 4, 9, 1, 1];
    assert_eq!(read(&[&[1], &first[..]].concat()), before);
    let second = [&[2], &first[..], &[1, 2, 0, 172, 2, 17, 2, 5, 6]].concat();
    assert_eq!(batch_value(&batch), second);
    assert_eq!(read(&second), batch);
    assert!(matches!(record::kept(&batch_key(BATCH), &[3]), Err(BadRecord::Layout(3))));
}
