//! The chapter on topics in `PROTOCOL.md`: its walk-through is generated here and must stand in it
//! to the letter. `UPDATE_VECTORS=1` writes it anew.

mod support;

use support::spec::{Walk, hold};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Extensions, Pairs,
    topic::{
        Ack, Assigned, Committed, ConsumeAccepted, ConsumeOpen, Delivery, Message, ProduceAccepted,
        ProduceOpen, Produced, Producer,
    },
};

#[test]
fn the_specification_holds_the_bytes_of_messages() {
    hold(&[("topic walk", walk())]);
}

/// Two messages and one that comes again, then a member that reads them, every byte with its
/// meaning.
fn walk() -> String {
    let mut t = Walk::default();
    produce(&mut t);
    consume(&mut t);
    t.end()
}

const KEY: &[u8] = b"c-17";
const FIRST: u64 = 1_700_000_000_000;

fn message<'a>(sequence: u64, payload: &'a [u8]) -> ClientFrame<'a> {
    ClientFrame::Message(Message { key: Some(KEY), ..Message::new(sequence, payload) })
}

fn produce(t: &mut Walk) {
    let producer = Producer { id: [0xc0; 16], epoch: 1 };
    t.say("Client, first write, on a stream of its own:");
    t.frame(
        &ClientFrame::Produce(ProduceOpen {
            producer: Some(producer),
            ..ProduceOpen::new("orders")
        }),
        &[
            (1, "variant 3, `Produce`"),
            (7, "topic: \"orders\""),
            (1, "tenant: none"),
            (18, "producer: its id, and epoch 1"),
            (1, "acks: Synced"),
            (1, "extensions: 0"),
        ],
    );
    let parts = |sequence| {
        [
            (1, "variant 15, `Message`"),
            (1, sequence),
            (1, "partition: none, the key decides"),
            (1, "timestamp_unix_ms: none, when it arrives"),
            (6, "key: \"c-17\""),
            (1, "headers: 0 pairs"),
        ]
    };
    let with = |sequence, payload| [&parts(sequence)[..], &[payload]].concat();
    t.frame(&message(0, b"new"), &with("sequence: 0", (4, "payload: \"new\"")));
    t.frame(&message(1, b"paid"), &with("sequence: 1", (5, "payload: \"paid\"")));
    t.frame(&ClientFrame::Seal { items: 2 }, &[(1, "variant 10, `Seal`"), (1, "items: 2")]);
    t.say(
        "Broker, the second frame once the messages are on stable storage; then it ends its side\n\
         (FIN):",
    );
    let accepted = |last_sequence| {
        BrokerFrame::ProduceAccepted(ProduceAccepted {
            partitions: 2,
            last_sequence,
            frame_bytes_max: 1 << 20,
            payload_bytes_max: 1 << 20,
            extensions: Extensions::EMPTY,
        })
    };
    let granted = |last_sequence| {
        [
            (1, "variant 19, `ProduceAccepted`"),
            (1, "partitions: 2"),
            last_sequence,
            (3, "frame_bytes_max: 1 048 576"),
            (3, "payload_bytes_max: 1 048 576"),
            (1, "extensions: 0"),
        ]
    };
    t.frame(&accepted(None), &granted((1, "last_sequence: none, it is new")));
    let partition = crc32c(KEY) % 2;
    let produced = |sequence, count, offset, duplicate| {
        BrokerFrame::Produced(Produced { sequence, count, partition, offset, duplicate })
    };
    t.frame(
        &produced(0, 2, 300, false),
        &[
            (1, "variant 20, `Produced`"),
            (1, "sequence: 0"),
            (1, "count: 2, so 0 and 1"),
            (1, "partition: 1, CRC-32C of the key is 0389dd89"),
            (2, "offset: 300, so 300 and 301"),
            (1, "duplicate: no"),
        ],
    );
    t.frame(&BrokerFrame::End, &[(1, "variant 13, `End`")]);
    t.say(
        "Broker, had that answer been lost, and had the client opened another stream with the same\n\
         `Produce` and sent the second message again:",
    );
    t.frame(&accepted(Some(1)), &granted((2, "last_sequence: 1")));
    t.frame(
        &produced(1, 1, 301, true),
        &[
            (1, "variant 20, `Produced`"),
            (1, "sequence: 1"),
            (1, "count: 1"),
            (1, "partition: 1"),
            (2, "offset: 301, where it is since the first time"),
            (1, "duplicate: yes"),
        ],
    );
}

fn consume(t: &mut Walk) {
    t.say("Client, a member of the group `billing`, on another stream:");
    t.frame(
        &ClientFrame::Consume(ConsumeOpen { group: Some("billing"), ..ConsumeOpen::new("orders") }),
        &[
            (1, "variant 4, `Consume`"),
            (7, "topic: \"orders\""),
            (1, "tenant: none"),
            (1, "partition: none, the group gives them"),
            (1, "from: Earliest, as the group is new"),
            (1, "offsets: 0"),
            (9, "group: \"billing\""),
            (1, "ack_timeout_ms: 0, the broker chooses"),
            (1, "in_flight_max: 0, the broker chooses"),
            (1, "follow: yes"),
            (1, "extensions: 0"),
        ],
    );
    t.say("Broker, at once:");
    t.frame(
        &BrokerFrame::ConsumeAccepted(ConsumeAccepted {
            partitions: 2,
            ack_timeout_ms: 30_000,
            in_flight_max: 1_000,
            extensions: Extensions::EMPTY,
        }),
        &[
            (1, "variant 23, `ConsumeAccepted`"),
            (1, "partitions: 2"),
            (3, "ack_timeout_ms: 30 000"),
            (2, "in_flight_max: 1 000"),
            (1, "extensions: 0"),
        ],
    );
    t.frame(
        &BrokerFrame::Assigned(Assigned { generation: 1, partitions: vec![0, 1] }),
        &[
            (1, "variant 25, `Assigned`"),
            (1, "generation: 1"),
            (3, "partitions: 2 of them, 0 and 1"),
        ],
    );
    for (offset, payload, parts) in [
        (300, &b"new"[..], [(2, "offset: 300"), (4, "payload: \"new\"")]),
        (301, b"paid", [(2, "offset: 301"), (5, "payload: \"paid\"")]),
    ] {
        t.frame(
            &delivery(offset, payload),
            &[
                (1, "variant 24, `Delivery`"),
                (1, "partition: 1"),
                parts[0],
                (16, "id"),
                (6, "timestamp_unix_ms: 1 700 000 000 000"),
                (1, "deliveries: 1, the first time"),
                (6, "key: \"c-17\""),
                (1, "headers: 0 pairs"),
                parts[1],
            ],
        );
    }
    t.say("Client, when it is done with both:");
    t.frame(
        &ClientFrame::Ack(Ack { partition: 1, first: 300, last: 301 }),
        &[(1, "variant 16, `Ack`"), (1, "partition: 1"), (2, "first: 300"), (2, "last: 301")],
    );
    t.say(
        "Broker, once that is on stable storage; a client that wants no more ends its side (FIN):",
    );
    t.frame(
        &BrokerFrame::Committed(Committed { partition: 1, position: 302 }),
        &[(1, "variant 26, `Committed`"), (1, "partition: 1"), (2, "position: 302")],
    );
    t.frame(&BrokerFrame::End, &[(1, "variant 13, `End`")]);
}

/// With an id as the broker makes them: when, of which partition, and the offset's lowest bits.
fn delivery(offset: u64, payload: &[u8]) -> BrokerFrame<'_> {
    let high = FIRST << 16 | 7 << 12 | (offset - 300);
    let low = 2 << 62 | 1 << 30 | offset;
    BrokerFrame::Delivery(Delivery {
        partition: 1,
        offset,
        id: (u128::from(high) << 64 | u128::from(low)).to_be_bytes(),
        timestamp_unix_ms: FIRST,
        deliveries: 1,
        key: Some(KEY),
        headers: Pairs::EMPTY,
        payload,
    })
}

/// CRC-32C (Castagnoli, reflected), as any library has it.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

#[test]
fn the_checksum_is_the_one_that_the_document_names() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(KEY), 0x0389_dd89);
}
