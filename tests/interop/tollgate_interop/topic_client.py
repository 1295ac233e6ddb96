"""Producers, consumers, and questions about topics: section 17 of PROTOCOL.md."""

from collections.abc import AsyncIterator
from typing import Any

from . import topics, wire
from .client import Client, Operation, Refused


class ProduceStream(Operation):
    """Appends messages, and keeps what became of each."""

    accepted: wire.ProduceAccepted

    def __init__(self, client: Client) -> None:
        super().__init__(client._protocol)
        self.places: dict[int, tuple[int, int]] = {}
        """By sequence: the partition and the offset."""
        self.duplicates: set[int] = set()
        self.failed: dict[int, wire.ProduceFailed] = {}
        self.received = -1
        self.throttled: list[wire.Throttled] = []
        self.count = 0

    async def begin(self, opening: wire.Produce) -> "ProduceStream":
        await self.send(opening)
        frame = await self.receive()
        if isinstance(frame, wire.Error):
            raise Refused(frame)
        if not isinstance(frame, wire.ProduceAccepted):
            raise self.fault(f"`{type(frame).__name__}` before `ProduceAccepted`")
        self.accepted = frame
        return self

    async def append(self, *messages: wire.Message) -> None:
        self.count += len(messages)
        await self.send(*messages)

    async def seal(self, items: int | None = None) -> None:
        await self.send(wire.Seal(items=self.count if items is None else items))

    async def answers(self, count: int) -> None:
        """Reads until so many messages are answered, one way or the other."""
        while len(self.places) + len(self.failed) < count:
            if not await self._next_answer():
                raise self.fault("`End` before all was answered")

    async def finished(self) -> None:
        """Reads to the `End`."""
        while await self._next_answer():
            pass
        await self.end()

    async def _next_answer(self) -> bool:
        frame = await self.receive()
        if isinstance(frame, wire.Error):
            raise Refused(frame)
        if isinstance(frame, wire.Produced):
            for at in range(frame.count):
                sequence = frame.sequence + at
                self._once(sequence)
                self.places[sequence] = (frame.partition, frame.offset + at)
                if frame.duplicate:
                    self.duplicates.add(sequence)
        elif isinstance(frame, wire.ProduceFailed):
            self._once(frame.sequence)
            self.failed[frame.sequence] = frame
        elif isinstance(frame, wire.Received):
            self.received = max(self.received, frame.sequence)
        elif isinstance(frame, wire.Throttled):
            self.throttled.append(frame)
        elif not isinstance(frame, (wire.Notice, wire.End)):
            raise self.fault(f"`{type(frame).__name__}` in a stream that produces")
        return not isinstance(frame, wire.End)

    def _once(self, sequence: int) -> None:
        if sequence in self.places or sequence in self.failed:
            raise self.fault(f"sequence {sequence} is answered twice")


class ConsumeStream(Operation):
    """Reads a topic; as a member of a group it is told its partitions, and acknowledges."""

    accepted: wire.ConsumeAccepted

    def __init__(self, client: Client) -> None:
        super().__init__(client._protocol)
        self.assigned: tuple[int, ...] = ()
        self.generation = 0
        self.committed: dict[int, int] = {}
        self._early: list[wire.Delivery] = []

    async def begin(self, opening: wire.Consume) -> "ConsumeStream":
        await self.send(opening)
        frame = await self.receive()
        if isinstance(frame, wire.Error):
            raise Refused(frame)
        if not isinstance(frame, wire.ConsumeAccepted):
            raise self.fault(f"`{type(frame).__name__}` before `ConsumeAccepted`")
        self.accepted = frame
        return self

    async def events(self) -> AsyncIterator[Any]:
        """What comes, up to the `End`. An `Error` raises `Refused`."""
        while True:
            frame = await self.receive()
            if isinstance(frame, wire.Error):
                raise Refused(frame)
            if isinstance(frame, wire.End):
                await self.end()
                return
            if isinstance(frame, wire.Assigned):
                if frame.generation <= self.generation:
                    raise self.fault("a generation that does not rise")
                self.generation, self.assigned = frame.generation, frame.partitions
            elif isinstance(frame, wire.Committed):
                if frame.position < self.committed.get(frame.partition, 0):
                    raise self.fault("a position that goes back")
                self.committed[frame.partition] = frame.position
            elif not isinstance(frame, (wire.Delivery, wire.Notice)):
                raise self.fault(f"`{type(frame).__name__}` in a stream that consumes")
            yield frame

    async def take(self, count: int) -> list[wire.Delivery]:
        """So many messages."""
        while len(self._early) < count:
            await self._until_next()
        taken, self._early = self._early[:count], self._early[count:]
        return taken

    async def rest(self) -> list[wire.Delivery]:
        """Every message up to the `End`."""
        early, self._early = self._early, []
        return early + [f async for f in self.events() if isinstance(f, wire.Delivery)]

    async def until_assigned(self, *partitions: int) -> None:
        """Reads until these partitions are the member's, and no others. Messages are kept."""
        while not self.generation or self.assigned != partitions:
            await self._until_next()

    async def until_shares(self, count: int) -> None:
        """Reads until so many partitions are the member's. Messages are kept."""
        while len(self.assigned) != count:
            await self._until_next()

    async def until_committed(self, partition: int, position: int) -> None:
        """Reads until it was told that the group is there, or farther. Messages are kept."""
        while self.committed.get(partition, -1) < position:
            await self._until_next()

    async def _until_next(self) -> None:
        async for frame in self.events():
            if isinstance(frame, wire.Delivery):
                self._early.append(frame)
            return
        raise self.fault("`End` before what was waited for")

    async def ack(self, partition: int, first: int, last: int | None = None) -> None:
        await self.send(wire.Ack(
            partition=partition, first=first, last=first if last is None else last,
        ))

    async def nack(self, partition: int, first: int, last: int | None = None) -> None:
        await self.send(wire.Nack(
            partition=partition, first=first, last=first if last is None else last,
        ))


async def ask(client: Client, question: wire.Topic | wire.Group) -> list[Any]:
    """Asks, and gives the frames of the answer without its `End`."""
    stream = client.open()
    await stream.send(question)
    stream.finish()
    answer: list[Any] = []
    while True:
        frame = await stream.receive()
        if isinstance(frame, wire.End):
            await stream.end()
            return answer
        if isinstance(frame, wire.Error):
            raise Refused(frame)
        answer.append(frame)


async def of_topic(client: Client, action: topics.OfTopic, tenant: str | None = None) -> list[Any]:
    """Asks about topics, or acts on them."""
    return await ask(client, wire.Topic(action=action, tenant=tenant))


async def of_group(client: Client, action: topics.OfGroup, tenant: str | None = None) -> list[Any]:
    """Asks about groups, or acts on them."""
    return await ask(client, wire.Group(action=action, tenant=tenant))


async def create(client: Client, topic: str, partitions: int = 0) -> wire.TopicInfo:
    """Makes a topic."""
    [info] = await of_topic(client, topics.Create(topic=topic, partitions=partitions))
    assert isinstance(info, wire.TopicInfo)
    return info


async def produce(
    client: Client, topic: str, producer: topics.Producer | None = None
) -> ProduceStream:
    """Opens a stream that produces."""
    return await ProduceStream(client).begin(wire.Produce(topic=topic, producer=producer))


async def fill(client: Client, topic: str, *messages: wire.Message) -> ProduceStream:
    """Appends messages, and waits until they are kept."""
    stream = await produce(client, topic)
    await stream.append(*messages)
    await stream.seal()
    await stream.finished()
    assert not stream.failed, stream.failed
    return stream


async def consume(client: Client, topic: str, **fields: Any) -> ConsumeStream:
    """Opens a stream that consumes."""
    return await ConsumeStream(client).begin(wire.Consume(topic=topic, **fields))
