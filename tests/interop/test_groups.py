"""Consumer groups against a broker: what section 17 of PROTOCOL.md promises of them.

Environment: as for `test_live.py`.
"""

import asyncio
import time

import pytest

from tollgate_interop import topics, wire
from tollgate_interop.client import Client, Cut, Operation, Refused
from tollgate_interop.codes import Code, Stream
from tollgate_interop.topic_client import (
    ConsumeStream, consume, create, fill, of_group, of_topic, produce,
)
from tollgate_interop.topics import Earliest, Latest, Offset
from tollgate_interop.wire import Message

from test_live import ADDRESS, live
from test_topics import numbered

HANDOVER_S = 1.0
DELIVERIES_MAX = 5

pytestmark = pytest.mark.skipif(not ADDRESS, reason="TOLLGATE_ADDR is not set")

names = (f"group.{number}" for number in range(1_000))


async def topic_with(client: Client, partitions: int, *messages: Message) -> str:
    topic = next(names)
    await create(client, topic, partitions)
    await fill(client, topic, *messages)
    return topic


async def look(client: Client, topic: str, group: str = "g") -> wire.GroupInfo:
    [info] = await of_group(client, topics.GetGroup(topic=topic, group=group))
    assert isinstance(info, wire.GroupInfo) and (info.topic, info.group) == (topic, group)
    return info


async def until_members(client: Client, topic: str, count: int) -> wire.GroupInfo:
    while (info := await look(client, topic)).members != count:
        await asyncio.sleep(0.01)
    return info


async def leave(member: ConsumeStream) -> list[wire.Delivery]:
    """Leaves by FIN: all that was acknowledged is kept before the `End`."""
    member.finish()
    return await member.rest()


def payloads(messages: list[wire.Delivery]) -> list[int]:
    return sorted(int(message.payload) for message in messages)


@live
async def test_one_member_has_everything(client: Client) -> None:
    topic = await topic_with(client, 3, *numbered(*range(9)))
    member = await consume(client, topic, group="g")
    assert member.accepted.partitions == 3
    assert (member.accepted.ack_timeout_ms, member.accepted.in_flight_max) == (30_000, 1_000)
    await member.until_assigned(0, 1, 2)
    got = await member.take(9)
    assert payloads(got) == list(range(9))
    assert {message.deliveries for message in got} == {1}
    info = await look(client, topic)
    assert info.members == 1 and info.generation == member.generation
    assert [p.in_flight for p in info.partitions] == [3, 3, 3]
    assert len({p.member for p in info.partitions}) == 1 and info.partitions[0].member is not None
    assert [(p.position, p.next) for p in info.partitions] == [(0, 3)] * 3
    [known] = await of_topic(client, topics.Get(topic=topic))
    assert known.groups == 1

    # In any order: the position is the lowest that is not acknowledged.
    await member.ack(0, 1, 2)
    await member.until_committed(0, 0)
    await member.ack(1, 0)
    await member.until_committed(1, 1)
    info = await look(client, topic)
    assert [(p.position, p.in_flight) for p in info.partitions] == [(0, 1), (1, 2), (0, 3)]
    await member.ack(0, 0)
    await member.until_committed(0, 3)
    # What it does not have is ignored.
    await member.ack(0, 0, 2**64 - 1)
    await member.ack(7, 0)
    await member.ack(1, 2, 1)
    await member.nack(0, 0)
    await member.ack(1, 1, 2**64 - 1)
    await member.until_committed(1, 3)
    assert await leave(member) == []

    # It goes on where the group is, wherever it says to begin.
    again = await consume(client, topic, group="g", from_=Latest(), follow=False)
    got = await again.take(3)
    assert [(m.partition, m.offset, m.deliveries) for m in got] == [(2, n, 2) for n in range(3)]
    await again.ack(2, 0, 2)
    assert await again.rest() == []
    assert again.committed[2] == 3


@live
async def test_a_member_knows_its_partitions_before_their_messages(client: Client) -> None:
    topic = await topic_with(client, 2, *numbered(0, 1))
    first = await consume(client, topic, group="g")
    frames = [await anext(first.events()) for _ in range(3)]
    assert isinstance(frames[0], wire.Assigned) and frames[0].partitions == (0, 1), frames
    second = await consume(client, topic, group="g")
    async for frame in second.events():
        if isinstance(frame, wire.Delivery):
            assert second.assigned == (frame.partition,)
            break


@live
async def test_where_a_new_group_begins(client: Client) -> None:
    topic = await topic_with(client, 1, *numbered(*range(5)))
    for group, start, found in (
        ("earliest", Earliest(), [0, 1, 2, 3, 4]), ("latest", Latest(), []),
        ("offset", Offset(3), [3, 4]),
    ):
        member = await consume(client, topic, group=group, from_=start, follow=False)
        got = await member.take(len(found))
        assert payloads(got) == found
        for message in got:
            await member.ack(0, message.offset)
        assert await member.rest() == []
    *listed, end = await of_group(client, topics.ListGroups(topic=topic))
    assert [info.group for info in listed] == ["earliest", "latest", "offset"]
    assert end == wire.Listed(count=3, next=None)
    first, end = await of_group(client, topics.ListGroups(topic=topic, limit=1))
    assert first.group == "earliest" and end.next is not None
    *listed, _ = await of_group(client, topics.ListGroups(topic=topic, cursor=end.next))
    assert [info.group for info in listed] == ["latest", "offset"]


@live
async def test_two_members_share_and_one_takes_over(client: Client) -> None:
    topic = await topic_with(client, 4)
    first = await consume(client, topic, group="g")
    await first.until_assigned(0, 1, 2, 3)
    began = time.monotonic()
    second = await consume(client, topic, group="g")
    # Nothing is on its way, so nothing is waited for.
    await second.until_shares(2)
    await first.until_shares(2)
    assert time.monotonic() - began < HANDOVER_S / 2
    assert sorted((*first.assigned, *second.assigned)) == [0, 1, 2, 3]
    await until_members(client, topic, 2)

    await fill(client, topic, *numbered(*range(8)))
    for member in (first, second):
        got = await member.take(4)
        assert {message.partition for message in got} == set(member.assigned)
        for message in got:
            await member.ack(message.partition, message.offset)
        for partition in member.assigned:
            await member.until_committed(partition, 2)

    assert await leave(second) == []
    await first.until_assigned(0, 1, 2, 3)
    assert (await until_members(client, topic, 1)).partitions[0].position == 2
    await fill(client, topic, *numbered(*range(4)))
    got = await first.take(4)
    assert {(message.offset, message.deliveries) for message in got} == {(2, 1)}


@live
async def test_more_members_than_partitions(client: Client) -> None:
    topic = await topic_with(client, 1, *numbered(0))
    first = await consume(client, topic, group="g")
    await first.take(1)
    second = await consume(client, topic, group="g")
    await second.until_assigned()
    # Without anything to wait for, it is done at once.
    third = await consume(client, topic, group="g", follow=False)
    assert await third.rest() == []
    first.reset(Stream.CANCEL_ALL)
    [message] = await second.take(1)
    assert message.deliveries == 2
    await second.until_assigned(0)


@live
async def test_a_partition_moves_when_its_old_owner_is_done_with_it(client: Client) -> None:
    topic = await topic_with(client, 2, *numbered(0, 1))
    first = await consume(client, topic, group="g")
    await first.take(2)
    second = await consume(client, topic, group="g")
    await first.until_shares(1)
    [stays] = first.assigned
    moves = 1 - stays
    await fill(client, topic, *(
        Message(sequence=2, partition=moves, payload=b"2"),
        Message(sequence=3, partition=stays, payload=b"3"),
    ))
    # Its old owner gets no more of it, and may acknowledge what it has.
    [message] = await first.take(1)
    assert message.partition == stays
    began = time.monotonic()
    await first.ack(moves, 0)
    [message] = await second.take(1)
    assert time.monotonic() - began < HANDOVER_S / 2
    await second.until_assigned(moves)
    assert (message.partition, message.offset, message.deliveries) == (moves, 1, 1)


@live
async def test_a_partition_moves_after_a_while_at_the_latest(client: Client) -> None:
    topic = await topic_with(client, 2, *numbered(0, 1))
    first = await consume(client, topic, group="g")
    await first.take(2)
    began = time.monotonic()
    second = await consume(client, topic, group="g")
    [message] = await second.take(1)
    assert HANDOVER_S * 0.8 < time.monotonic() - began < HANDOVER_S * 2
    assert message.deliveries == 2
    await second.until_assigned(message.partition)
    # Too late: it is not the first one's any more.
    await first.ack(message.partition, message.offset)
    await first.ack(1 - message.partition, 0)
    await first.until_committed(1 - message.partition, 1)
    assert (await look(client, topic)).partitions[message.partition].position == 0
    await second.ack(message.partition, message.offset)
    await second.until_committed(message.partition, 1)


@live
async def test_what_is_not_acknowledged_comes_again(client: Client) -> None:
    topic = await topic_with(client, 1, *numbered(0, 1))
    member = await consume(client, topic, group="g", ack_timeout_ms=300)
    assert member.accepted.ack_timeout_ms == 300
    began = time.monotonic()
    assert [m.deliveries for m in await member.take(2)] == [1, 1]
    await member.ack(0, 0)
    [message] = await member.take(1)
    assert 0.25 < time.monotonic() - began < 1
    assert (message.offset, message.deliveries) == (1, 2)
    # At once.
    began = time.monotonic()
    await member.nack(0, 1)
    [message] = await member.take(1)
    assert time.monotonic() - began < 0.2
    assert (message.offset, message.deliveries) == (1, 3)
    await member.ack(0, 1)
    await member.until_committed(0, 2)


@pytest.mark.parametrize("how", ["FIN", "RESET_STREAM", "STOP_SENDING", "connection"])
def test_what_a_member_leaves_behind_comes_again(how: str) -> None:
    topic = next(names)

    async def leaves(client: Client) -> None:
        await create(client, topic)
        await fill(client, topic, *numbered(0, 1, 2))
        member = await consume(client, topic, group="g")
        await member.take(3)
        await member.ack(0, 1)
        await member.until_committed(0, 0)
        if how == "FIN":
            await leave(member)
        elif how != "connection":
            end = Operation.reset if how == "RESET_STREAM" else Operation.stop
            end(member, Stream.CANCEL_ALL)
            with pytest.raises(Cut):
                await member.rest()

    async def takes_over(client: Client) -> None:
        other = await consume(client, topic, group="g")
        got = await asyncio.wait_for(other.take(2), 2)
        assert [(m.offset, m.deliveries) for m in got] == [(0, 2), (2, 2)]

    live(leaves)()
    live(takes_over)()


@live
async def test_no_more_in_flight_than_allowed(client: Client) -> None:
    topic = await topic_with(client, 2, *numbered(*range(20)))
    member = await consume(client, topic, group="g", in_flight_max=3)
    assert member.accepted.in_flight_max == 3
    got = await member.take(3)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(member.take(1), 0.3)
    await member.ack(got[0].partition, got[0].offset)
    await member.take(1)
    info = await look(client, topic)
    assert sum(partition.in_flight for partition in info.partitions) == 3


@live
async def test_a_message_that_is_never_done_is_put_aside(client: Client) -> None:
    sent = Message(
        sequence=0, key=b"k", headers=(("lang", "fr"),), timestamp_unix_ms=17, payload=b"bad",
    )
    topic = await topic_with(client, 1, sent, *numbered(1))
    member = await consume(client, topic, group="g")
    await member.take(2)
    await member.ack(0, 1)
    for deliveries in range(2, DELIVERIES_MAX + 1):
        await member.nack(0, 0)
        [message] = await member.take(1)
        assert (message.offset, message.deliveries) == (0, deliveries)
    await member.nack(0, 0)
    # It is in the dead letters once the group is done with it.
    while (await look(client, topic)).partitions[0].position != 2:
        await asyncio.sleep(0.01)
    dead = f"{topic}.dead"
    [letter] = await (await consume(client, dead, follow=False)).rest()
    assert (letter.payload, letter.key, letter.timestamp_unix_ms) == (b"bad", b"k", 17)
    assert letter.id != message.id
    assert dict(letter.headers) == {
        "tollgate-dead-topic": topic, "tollgate-dead-partition": "0", "tollgate-dead-offset": "0",
        "tollgate-dead-group": "g", "tollgate-dead-deliveries": str(DELIVERIES_MAX), "lang": "fr",
    }
    # Dead letters have a group of their own, and nowhere to go from there.
    reader = await consume(client, dead, group="g")
    for deliveries in range(1, DELIVERIES_MAX + 3):
        [letter] = await reader.take(1)
        assert letter.deliveries == deliveries
        await reader.nack(0, 0)
    await leave(reader)
    # A topic takes its dead letters with it.
    await of_topic(client, topics.Delete(topic=topic))
    with pytest.raises(Refused) as caught:
        await of_topic(client, topics.Get(topic=dead))
    assert caught.value.error.code == Code.NOT_FOUND


@live
async def test_a_deleted_message_counts_as_acknowledged(client: Client) -> None:
    topic = await topic_with(client, 1, *numbered(0, 1, 2))
    read = await (await consume(client, topic, follow=False)).rest()
    await of_topic(client, topics.DeleteMessage(id=read[1].id))
    member = await consume(client, topic, group="g", follow=False)
    for message in await member.take(2):
        await member.ack(0, message.offset)
    assert await member.rest() == []
    assert (await look(client, topic)).partitions[0].position == 3


@live
async def test_a_group_is_moved_and_deleted_without_members(client: Client) -> None:
    topic = await topic_with(client, 2, *numbered(*range(8)))
    member = await consume(client, topic, group="g")
    for message in await member.take(8):
        await member.ack(message.partition, message.offset)
    await member.until_committed(0, 4)
    await member.until_committed(1, 4)
    for action in (
        topics.DeleteGroup(topic=topic, group="g"),
        topics.Reset(topic=topic, group="g", to=Earliest()),
    ):
        with pytest.raises(Refused) as caught:
            await of_group(client, action)
        assert caught.value.error.code == Code.CONFLICT
        assert dict(caught.value.error.failure.details)["members"] == "1"
    await leave(member)

    [info] = await of_group(client, topics.Reset(topic=topic, group="g", partition=1, to=Offset(3)))
    assert [p.position for p in info.partitions] == [4, 3]
    [info] = await of_group(client, topics.Reset(topic=topic, group="g", to=Offset(2**63)))
    assert [p.position for p in info.partitions] == [4, 4]
    [info] = await of_group(client, topics.Reset(topic=topic, group="g", to=Offset(2)))
    assert [p.position for p in info.partitions] == [2, 2]
    again = await consume(client, topic, group="g")
    got = await again.take(4)
    assert sorted((m.partition, m.offset, m.deliveries) for m in got) == [
        (0, 2, 1), (0, 3, 1), (1, 2, 1), (1, 3, 1),
    ]
    await leave(again)
    with pytest.raises(Refused) as caught:
        await of_group(client, topics.Reset(topic=topic, group="g", partition=2, to=Latest()))
    assert caught.value.error.code == Code.VALIDATION_ERROR

    assert await of_group(client, topics.DeleteGroup(topic=topic, group="g")) == [
        wire.Listed(count=1, next=None)
    ]
    with pytest.raises(Refused) as caught:
        await look(client, topic)
    assert caught.value.error.code == Code.NOT_FOUND


@live
async def test_a_member_hears_of_new_messages_at_once(client: Client) -> None:
    topic = await topic_with(client, 1)
    member = await consume(client, topic, group="g")
    await member.until_assigned(0)
    writer = await produce(client, topic)
    for number in range(10):
        await writer.append(*numbered(number))
        [message] = await asyncio.wait_for(member.take(1), 1)
        await member.ack(0, message.offset)
        await asyncio.wait_for(member.until_committed(0, number + 1), 1)


@live
async def test_a_member_leaves_though_a_rate_holds_it_back(client: Client) -> None:
    """The tenant's `bytes_per_second`, 10 MiB, lets out less at once than there is."""
    topic = await topic_with(client, 1)
    writer = await produce(client, topic)
    for number in range(26):
        await writer.append(Message(sequence=number, payload=bytes(500_000)))
        await writer.answers(number + 1)
    member = await consume(client, topic, group="g")
    await member.take(20)
    member.finish()
    await asyncio.wait_for(member.rest(), 2)
    assert (await look(client, topic)).members == 0
