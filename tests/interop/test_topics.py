"""Topics against a broker: what section 17 of PROTOCOL.md promises of them, their producers and
those who read without a group. Groups are in `test_groups.py`, refusals in
`test_topics_refused.py`.

Environment: as for `test_live.py`.
"""

import asyncio
import os
import time

import pytest

from tollgate_interop import topics, wire
from tollgate_interop.client import Client, Cut, Operation, Refused
from tollgate_interop.codes import Code, Stream
from tollgate_interop.topic_client import (
    ProduceStream, consume, create, fill, of_topic, produce,
)
from tollgate_interop.topics import Earliest, Latest, Offset, Producer, Time
from tollgate_interop.wire import Message

from test_live import ADDRESS, answer_to, live, still_usable

PRODUCER_WINDOW = 4_096

pytestmark = pytest.mark.skipif(not ADDRESS, reason="TOLLGATE_ADDR is not set")

names = (f"topic.{number}" for number in range(1_000))


def numbered(*sequences: int, **fields: object) -> list[Message]:
    """Messages whose payload is their sequence."""
    return [
        Message(sequence=number, payload=b"%d" % number, **fields)  # type: ignore[arg-type]
        for number in sequences
    ]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


async def refusal(client: Client, action: topics.OfTopic) -> wire.Error:
    with pytest.raises(Refused) as caught:
        await of_topic(client, action)
    return caught.value.error


# What is asked of topics


@live
async def test_a_topic_from_its_making_to_its_end(client: Client) -> None:
    topic = next(names)
    made = await create(client, topic, partitions=3)
    assert made.topic == topic and made.groups == 0
    assert made.partitions == (topics.PartitionInfo(first=0, next=0, bytes=0),) * 3
    assert made.retention == topics.Retention()
    assert abs(made.created_unix_ms / 1_000 - time.time()) < 60
    assert await of_topic(client, topics.Get(topic=topic)) == [made]

    error = await refusal(client, topics.Create(topic=topic))
    assert error.code == Code.CONFLICT and error.failure.side_effect_free

    kept = topics.Retention(age_ms=3_600_000, bytes=1 << 20)
    [changed] = await of_topic(client, topics.Update(topic=topic, retention=kept))
    assert changed.retention == kept and changed.partitions == made.partitions

    assert await of_topic(client, topics.Delete(topic=topic)) == [wire.Listed(count=1, next=None)]
    for action in (
        topics.Get(topic=topic), topics.Delete(topic=topic),
        topics.Update(topic=topic, retention=kept),
    ):
        assert (await refusal(client, action)).code == Code.NOT_FOUND, action

    # Another one of that name begins anew.
    assert len((await create(client, topic)).partitions) == 1


@live
async def test_topics_are_listed_by_name_a_page_at_a_time(client: Client) -> None:
    mine = sorted(next(names) for _ in range(5))
    for topic in mine:
        await create(client, topic)
    found: list[str] = []
    cursor = None
    while True:
        *page, listed = await of_topic(client, topics.ListTopics(cursor=cursor, limit=2))
        assert isinstance(listed, wire.Listed) and listed.count == len(page) <= 2
        found += [info.topic for info in page]
        cursor = listed.next
        if cursor is None:
            break
    assert found == sorted(set(found)) and set(mine) <= set(found)
    error = await refusal(client, topics.ListTopics(cursor="No cursor!"))
    assert (error.code, dict(error.failure.details)["field"]) == (Code.VALIDATION_ERROR, "cursor")


@live
async def test_what_no_topic_is_made_of(client: Client) -> None:
    long = topics.Retention(age_ms=1_000_000 * 3_600_000)
    wrong: list[tuple[topics.OfTopic, int, str]] = [
        (topics.Create(topic="No Name"), Code.VALIDATION_ERROR, "topic"),
        (topics.Create(topic=""), Code.VALIDATION_ERROR, "topic"),
        (topics.Create(topic="orders.dead"), Code.VALIDATION_ERROR, "topic"),
        (topics.Create(topic="a" * 124), Code.VALIDATION_ERROR, "topic"),
        (topics.Create(topic="a", partitions=1_025), Code.VALIDATION_ERROR, "partitions"),
        (topics.ListTopics(limit=1_001), Code.VALIDATION_ERROR, "limit"),
        (topics.GetMessage(id=bytes(16)), Code.NOT_FOUND, ""),
        (topics.DeleteMessage(id=bytes(16)), Code.NOT_FOUND, ""),
    ]
    for action, code, field in wrong:
        error = await answer_to(client, wire.encode(wire.Topic(action=action), checked=False))
        assert error.code == code, (action, error)
        assert dict(error.failure.details).get("field", "") == field, (action, error)
    error = await refusal(client, topics.Create(topic=next(names), retention=long))
    assert error.code == Code.QUOTA_EXCEEDED and error.failure.quota
    assert error.failure.quota.quota == "retention_hours"
    assert len((await create(client, "a" * 123)).topic) == 123


@live
async def test_a_message_by_its_id(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    await fill(client, topic, *numbered(0, 1, 2))
    read = await (await consume(client, topic, follow=False)).rest()
    assert await of_topic(client, topics.GetMessage(id=read[1].id)) == [read[1]]
    assert await of_topic(client, topics.DeleteMessage(id=read[1].id)) == [
        wire.Listed(count=1, next=None)
    ]
    assert (await refusal(client, topics.GetMessage(id=read[1].id))).code == Code.NOT_FOUND
    left = await (await consume(client, topic, follow=False)).rest()
    assert left == [read[0], read[2]]


# Producers


@live
async def test_messages_get_their_partition_and_rising_offsets(client: Client) -> None:
    topic = next(names)
    await create(client, topic, partitions=4)
    stream = await produce(client, topic)
    assert stream.accepted.partitions == 4 and stream.accepted.last_sequence is None
    assert 0 < stream.accepted.payload_bytes_max <= stream.accepted.frame_bytes_max
    keys = [b"", b"a", b"b", b"c-17", b"123456789", bytes(range(256))]
    keyed = [Message(sequence=10 + at, key=key) for at, key in enumerate(keys)]
    both = Message(sequence=30, partition=2, key=b"a")
    await stream.append(*numbered(0, 1, 2, 3, 6), *keyed, both)
    await stream.seal()
    await stream.finished()
    assert await stream.wait_stopped() == Stream.DONE
    partitions = {sequence: partition for sequence, (partition, _) in stream.places.items()}
    # Without an id it is of chance which partition is the first.
    turn = partitions[0]
    assert [(partitions[n] - turn) % 4 for n in (0, 1, 2, 3, 6)] == [0, 1, 2, 3, 2]
    assert [partitions[message.sequence] for message in keyed] == [crc32c(key) % 4 for key in keys]
    assert partitions[30] == 2
    for partition in range(4):
        offsets = [offset for at, offset in stream.places.values() if at == partition]
        assert sorted(offsets) == list(range(len(offsets)))
        in_order = [
            stream.places[number][1] for number in sorted(stream.places)
            if partitions[number] == partition
        ]
        assert in_order == sorted(in_order)
    assert not stream.duplicates and not stream.failed


@live
async def test_what_comes_again_is_told_where_it_is(client: Client) -> None:
    topic = next(names)
    await create(client, topic, partitions=2)
    who = Producer(id=os.urandom(16), epoch=1)
    first = await produce(client, topic, who)
    assert first.accepted.last_sequence is None
    await first.append(*numbered(0, 1, 2, 5))
    await first.seal()
    await first.finished()

    again = await produce(client, topic, who)
    assert again.accepted.last_sequence == 5
    await again.append(*numbered(1, 2, 5, 6))
    await again.seal()
    await again.finished()
    assert again.duplicates == {1, 2, 5}
    assert {n: again.places[n] for n in (1, 2, 5)} == {n: first.places[n] for n in (1, 2, 5)}
    assert again.places[6] == ((crc32c(who.id) + 6) % 2, 2)

    # A sequence that was left out is new, and another producer's are its own.
    late = await produce(client, topic, who)
    await late.append(*numbered(3))
    other = await produce(client, topic, Producer(id=os.urandom(16), epoch=1))
    await other.append(*numbered(0))
    for stream in (late, other):
        await stream.seal()
        await stream.finished()
        assert not stream.duplicates and not stream.failed
    read = await (await consume(client, topic, follow=False)).rest()
    assert len(read) == 7


@live
async def test_a_newer_epoch_fences_the_older(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    id = os.urandom(16)
    old = await produce(client, topic, Producer(id=id, epoch=1))
    await old.append(*numbered(0))
    await old.answers(1)
    new = await produce(client, topic, Producer(id=id, epoch=2))
    assert new.accepted.last_sequence is None
    await old.append(*numbered(1))
    await old.answers(2)
    assert old.failed[1].code == Code.CONFLICT and not old.failed[1].failure.retryable
    assert dict(old.failed[1].failure.details)["epoch"] == "2"
    # Its sequences begin anew.
    await new.append(*numbered(0))
    await new.answers(1)
    assert new.places[0] == (0, 1) and not new.duplicates
    with pytest.raises(Refused) as caught:
        await produce(client, topic, Producer(id=id, epoch=1))
    assert caught.value.error.code == Code.CONFLICT


@live
async def test_older_than_the_window_is_not_known_any_more(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    who = Producer(id=os.urandom(16), epoch=7)
    stream = await produce(client, topic, who)
    await asyncio.gather(
        stream.append(*numbered(*range(PRODUCER_WINDOW + 1))), stream.answers(PRODUCER_WINDOW + 1)
    )
    again = await produce(client, topic, who)
    await again.append(*numbered(0, 1))
    await again.answers(2)
    assert again.failed[0].code == Code.CONFLICT
    assert not again.failed[0].failure.side_effect_free, "it may be there"
    assert again.places == {1: (0, 1)} and again.duplicates == {1}


@live
async def test_all_that_was_sent_before_the_end_is_appended(client: Client) -> None:
    """By a seal and FIN at once, and by FIN alone; a frame that a FIN cuts in two was not sent."""
    for sealed in (True, False):
        topic = next(names)
        await create(client, topic)
        stream = await produce(client, topic)
        data = b"".join(wire.encode(message) for message in numbered(*range(3_000)))
        end = wire.encode(wire.Seal(items=3_000)) if sealed else data[:7]
        await stream.write(data + end)
        stream.finish()
        await stream.finished()
        assert len(stream.places) == 3_000, f"sealed: {sealed}"
        assert stream.places[2_999] == (0, 2_999)


@live
async def test_received_is_before_produced(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    stream = await ProduceStream(client).begin(
        wire.Produce(topic=topic, acks=topics.Acks.Received)
    )
    await stream.append(*numbered(3, 4, 9))
    await stream.seal()
    await stream.finished()
    assert stream.received == 9 and not stream.places
    read = await (await consume(client, topic, follow=False)).rest()
    assert [message.payload for message in read] == [b"3", b"4", b"9"]


@live
async def test_a_message_that_is_wrong_fails_alone(client: Client) -> None:
    topic = next(names)
    await create(client, topic, partitions=2)
    stream = await produce(client, topic)
    many = tuple((f"k{number}", "v") for number in range(65))
    wrong = {
        1: (Message(sequence=1, key=bytes(1_025)), "key"),
        2: (Message(sequence=2, headers=many), "headers"),
        3: (Message(sequence=3, partition=2), "partition"),
    }
    for message, _ in wrong.values():
        await stream.write(wire.encode(message, checked=False))
        stream.count += 1
    await stream.append(Message(sequence=4, partition=1, key=bytes(1_024), payload=b"fine"))
    await stream.seal()
    await stream.finished()
    for sequence, (_, field) in wrong.items():
        failed = stream.failed[sequence]
        assert failed.code == Code.VALIDATION_ERROR and failed.failure.side_effect_free, failed
        assert dict(failed.failure.details)["field"] == field, failed
    assert stream.places == {4: (1, 0)}


async def ends_with(stream: ProduceStream, data: bytes) -> wire.Error:
    await stream.write(data)
    with pytest.raises(Refused) as caught:
        await stream.finished()
    await stream.end()
    return caught.value.error


@live
async def test_what_ends_a_stream_that_produces(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    item = wire.encode(wire.Request(id=1, recipe="echo"))
    wrong: list[tuple[bytes, int, str]] = [
        (wire.encode(wire.Seal(items=2)), Code.VALIDATION_ERROR, "items"),
        (wire.encode(Message(sequence=7)), Code.VALIDATION_ERROR, "sequence"),
        (wire.encode(Message(sequence=6)), Code.VALIDATION_ERROR, "sequence"),
        (wire.encode(wire.Produce(topic=topic)), Code.INVALID_ACTION, ""),
        (wire.encode(wire.Ack(partition=0, first=0, last=0)), Code.INVALID_ACTION, ""),
        (wire.encode(wire.Detach()), Code.INVALID_ACTION, ""),
        (item, Code.INVALID_ACTION, ""),
        (wire.framed(b""), Code.MALFORMED_FRAME, "frame"),
        (wire.framed(b"\x0f\x09\x02"), Code.MALFORMED_FRAME, "partition"),
        (b"\xff\xff\xff\xff", Code.FRAME_TOO_LARGE, ""),
    ]
    for data, code, field in wrong:
        stream = await produce(client, topic)
        await stream.append(*numbered(7))
        await stream.answers(1)
        error = await ends_with(stream, data)
        assert error.code == code, (data, error)
        assert dict(error.failure.details).get("field", "") == field, (data, error)
        # One message was appended: it is not as if nothing had happened.
        assert not error.failure.side_effect_free, (data, error)
        if field == "items":
            assert dict(error.failure.details)["read"] == "1"
    await still_usable(client)


@live
async def test_stop_and_reset_end_a_producer(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    for end in (Operation.stop, Operation.reset):
        stream = await produce(client, topic)
        await stream.append(*numbered(0))
        await stream.answers(1)
        end(stream, Stream.CANCEL_ALL)
        with pytest.raises(Cut) as caught:
            await stream.finished()
        assert caught.value.reset_code is not None
    assert len(await (await consume(client, topic, follow=False)).rest()) == 2


@live
async def test_the_inbox_is_there_when_it_is_used(client: Client) -> None:
    stream = await produce(client, "inbox")
    await stream.append(*numbered(0))
    await stream.answers(1)
    assert stream.accepted.partitions == 1


@live
async def test_a_rate_holds_a_producer_back_and_says_so(client: Client) -> None:
    """The tenant's `messages_per_second`, 10 000; its policy is `pace`."""
    topic = next(names)
    await create(client, topic)
    stream = await produce(client, topic)
    began = time.monotonic()
    for first in range(0, 15_000, 250):
        await stream.append(*numbered(*range(first, first + 250)))
        await stream.answers(first + 250)
    assert not stream.failed and stream.places[14_999] == (0, 14_999)
    took = time.monotonic() - began
    assert took > 0.8
    # A slow machine sends no more than that by itself.
    assert stream.throttled or took > 1.5
    for throttled in stream.throttled:
        assert (throttled.quota, throttled.limit) == ("messages_per_second", 10_000)


@live
async def test_silence_is_broken_on_every_stream(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    member = await consume(client, topic, group="g")
    await member.until_assigned(0)

    async def alive(stream: Operation) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.receive(), 6)
        assert stream.alive_frames >= 1

    streams = [await produce(client, topic), await consume(client, topic), member]
    await asyncio.gather(*(alive(stream) for stream in streams))


# Readers


@live
async def test_where_reading_begins(client: Client) -> None:
    topic = next(names)
    await create(client, topic, partitions=2)
    sent = [
        Message(
            sequence=number, partition=number % 2, timestamp_unix_ms=number, key=b"k%d" % number,
            headers=(("n", str(number)), ("n", "again")), payload=b"%d" % number,
        )
        for number in range(6)
    ]
    await fill(client, topic, *sent[:4])
    await asyncio.sleep(0.05)
    between = time.time_ns() // 1_000_000
    await asyncio.sleep(0.05)
    await fill(client, topic, *sent[4:])

    async def read(**fields: object) -> list[int]:
        stream = await consume(client, topic, follow=False, **fields)
        assert stream.accepted == wire.ConsumeAccepted(
            partitions=2, ack_timeout_ms=0, in_flight_max=0, extensions=(),
        )
        found = await stream.rest()
        for message in found:
            number = int(message.payload)
            assert (message.partition, message.offset) == (number % 2, number // 2)
            assert (message.key, message.headers) == (sent[number].key, sent[number].headers)
            assert (message.timestamp_unix_ms, message.deliveries) == (number, 0)
            assert message.id[6] >> 4 == 7 and message.id[8] >> 6 == 2
        for partition in (0, 1):
            of = [message for message in found if message.partition == partition]
            assert [m.offset for m in of] == sorted(m.offset for m in of)
            assert [m.id for m in of] == sorted({m.id for m in of})
        return sorted(int(message.payload) for message in found)

    assert await read(from_=Earliest()) == [0, 1, 2, 3, 4, 5]
    assert await read(from_=Latest()) == []
    assert await read(from_=Offset(2)) == [4, 5]
    assert await read(from_=Offset(3)) == []
    assert await read(from_=Time(between)) == [4, 5]
    assert await read(from_=Time(0)) == [0, 1, 2, 3, 4, 5]
    assert await read(from_=Time(2**62)) == []
    assert await read(partition=1) == [1, 3, 5]
    assert await read(offsets=((0, 2), (1, 1))) == [3, 4, 5]
    assert await read(from_=Latest(), offsets=((1, 0),)) == [1, 3, 5]


@live
async def test_the_tail_as_it_grows(client: Client) -> None:
    topic = next(names)
    await create(client, topic, partitions=2)
    await fill(client, topic, *numbered(0, 1))
    tail = await consume(client, topic, from_=Latest())
    whole = await consume(client, topic)
    assert len(await whole.take(2)) == 2
    writer = await produce(client, topic)
    for number in range(2, 12):
        await writer.append(*numbered(number))
        for reader in (tail, whole):
            [message] = await asyncio.wait_for(reader.take(1), 1)
            assert message.payload == b"%d" % number
    for reader in (tail, whole):
        reader.stop(Stream.CANCEL_ALL)
        with pytest.raises(Cut) as caught:
            await reader.rest()
        assert caught.value.reset_code is not None


@live
async def test_a_reader_reads_on_when_its_own_side_is_over(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    reader = await consume(client, topic)
    reader.finish()
    writer = await produce(client, topic)
    for number in range(3):
        await writer.append(*numbered(number))
        [message] = await asyncio.wait_for(reader.take(1), 1)
        assert message.payload == b"%d" % number
        await asyncio.sleep(0.1)
    await still_usable(client)
    reader.stop(Stream.CANCEL_ALL)
    with pytest.raises(Cut):
        await reader.rest()


@live
async def test_messages_that_were_deleted_hold_nobody_up(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    writer = await produce(client, topic)
    # More than the broker keeps in memory of them.
    for number in range(30):
        await writer.append(Message(sequence=number, payload=bytes(200_000)))
        await writer.answers(number + 1)
    reader = await consume(client, topic)
    for message in (await reader.take(8))[1:]:
        await of_topic(client, topics.DeleteMessage(id=message.id))
    reader.stop(Stream.CANCEL_ALL)
    reader = await consume(client, topic, follow=False)
    left = await asyncio.wait_for(reader.rest(), 4)
    assert [message.offset for message in left] == [0, *range(8, 30)]


@live
async def test_a_reader_hears_that_its_topic_is_deleted(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    reader = await consume(client, topic)
    member = await consume(client, topic, group="g")
    writer = await produce(client, topic)
    await member.until_assigned(0)
    await of_topic(client, topics.Delete(topic=topic))
    for stream in (reader, member):
        with pytest.raises(Refused) as caught:
            await asyncio.wait_for(stream.rest(), 2)
        assert caught.value.error.code == Code.NOT_FOUND
    await writer.append(*numbered(0))
    await writer.answers(1)
    assert writer.failed[0].code == Code.NOT_FOUND


@live
async def test_what_ends_a_stream_that_consumes(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    wrong: list[tuple[bytes, int]] = [
        (wire.encode(wire.Ack(partition=0, first=0, last=0)), Code.INVALID_ACTION),
        (wire.encode(wire.Nack(partition=0, first=0, last=0)), Code.INVALID_ACTION),
        (wire.encode(wire.Seal(items=0)), Code.INVALID_ACTION),
        (wire.encode(wire.Consume(topic=topic)), Code.INVALID_ACTION),
        (wire.framed(b""), Code.MALFORMED_FRAME),
    ]
    for data, code in wrong:
        stream = await consume(client, topic)
        await stream.write(data)
        with pytest.raises(Refused) as caught:
            await stream.rest()
        assert caught.value.error.code == code, (data, caught.value.error)
        await stream.end()
