"""What is refused about topics: openings, frames that are not allowed here, and who may not.

Environment: as for `test_live.py`; `TOLLGATE_WORKER_CERTS` as for `test_work.py`; and
`TOLLGATE_FOREIGN_CERTS`, a directory with cert.pem, key.pem and ca.pem of another tenant's client.
"""

import os
from pathlib import Path

import pytest

from tollgate_interop import topics, wire
from tollgate_interop.client import Client, Identity, connect
from tollgate_interop.codes import Code
from tollgate_interop.topic_client import consume, create, fill, of_group, of_topic
from tollgate_interop.topics import Earliest
from tollgate_interop.wire import Message

from test_live import (
    ADDRESS, SERVER_NAME, answer_to, bounded, endpoint, live, opening, still_usable,
)
from test_topics import numbered

WORKER_CERTS = os.environ.get("TOLLGATE_WORKER_CERTS", "")
FOREIGN_CERTS = os.environ.get("TOLLGATE_FOREIGN_CERTS", "")

pytestmark = pytest.mark.skipif(not ADDRESS, reason="TOLLGATE_ADDR is not set")

names = (f"refused.{number}" for number in range(1_000))


def identity(certs: str) -> Identity:
    path = Path(certs)
    return Identity(cert=path / "cert.pem", key=path / "key.pem", ca=path / "ca.pem")


# Openings that are refused, and frames that are not allowed here


@live
async def test_openings_that_are_refused(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    absent = next(names)
    critical = (wire.Extension(number=4711, critical=True, body=b"x"),)
    wrong: list[tuple[wire.ClientFrame, int]] = [
        (wire.Produce(topic=absent), Code.NOT_FOUND),
        (wire.Produce(topic="No Name"), Code.VALIDATION_ERROR),
        (wire.Produce(topic="a" * 129), Code.VALIDATION_ERROR),
        (wire.Produce(topic=f"{topic}.dead"), Code.VALIDATION_ERROR),
        (wire.Produce(topic=topic, tenant="acme"), Code.FORBIDDEN),
        (wire.Produce(topic=topic, extensions=critical), Code.VALIDATION_ERROR),
        (wire.Consume(topic=absent), Code.NOT_FOUND),
        (wire.Consume(topic=absent, group="g"), Code.NOT_FOUND),
        (wire.Consume(topic=topic, group="No Group"), Code.VALIDATION_ERROR),
        (wire.Consume(topic=topic, partition=1), Code.VALIDATION_ERROR),
        (wire.Consume(topic=topic, group="g", partition=0), Code.VALIDATION_ERROR),
        (wire.Consume(topic=topic, group="g", offsets=((0, 0),)), Code.VALIDATION_ERROR),
        (wire.Consume(topic=topic, group="g", ack_timeout_ms=86_400_001), Code.VALIDATION_ERROR),
        (wire.Consume(topic=topic, group="g", in_flight_max=10_001), Code.VALIDATION_ERROR),
        (wire.Consume(topic=topic, tenant="acme"), Code.FORBIDDEN),
        (wire.Consume(topic=topic, extensions=critical), Code.VALIDATION_ERROR),
        (wire.Topic(action=topics.Get(topic=topic), tenant="acme"), Code.FORBIDDEN),
        (wire.Topic(action=topics.Get(topic=topic), extensions=critical), Code.VALIDATION_ERROR),
        (wire.Group(action=topics.ListGroups(), tenant="acme"), Code.FORBIDDEN),
        (wire.Group(action=topics.ListGroups(), extensions=critical), Code.VALIDATION_ERROR),
        (wire.Group(action=topics.GetGroup(topic=topic, group="none")), Code.NOT_FOUND),
        (wire.Group(action=topics.DeleteGroup(topic=topic, group="none")), Code.NOT_FOUND),
        (wire.Group(action=topics.ListGroups(topic=absent)), Code.NOT_FOUND),
    ]
    for frame, code in wrong:
        error = await answer_to(client, wire.encode(frame, checked=False))
        assert error.code == code, (frame, error)
        assert error.failure.side_effect_free, (frame, error)
    await still_usable(client)


@live
async def test_topic_frames_that_are_not_allowed_here(client: Client) -> None:
    message = wire.encode(Message(sequence=0))
    ack = wire.encode(wire.Ack(partition=0, first=0, last=0))
    nack = wire.encode(wire.Nack(partition=0, first=0, last=0))
    openings = [
        wire.encode(wire.Produce(topic="t")), wire.encode(wire.Consume(topic="t")),
        wire.encode(wire.Topic(action=topics.Get(topic="t"))),
        wire.encode(wire.Group(action=topics.ListGroups())),
    ]
    first = [[frame] for frame in (message, ack, nack)]
    second = [[wire.encode(opening()), frame] for frame in (message, ack, nack, *openings)]
    for frames in (*first, *second):
        error = await answer_to(client, *frames)
        assert error.code == Code.INVALID_ACTION, (frames, error)
    await still_usable(client)


# Who may


@pytest.mark.skipif(not FOREIGN_CERTS, reason="TOLLGATE_FOREIGN_CERTS is not set")
@live
async def test_another_tenant_sees_nothing(client: Client) -> None:
    topic = next(names)
    await create(client, topic)
    await fill(client, topic, *numbered(0))
    [message] = await (await consume(client, topic, follow=False)).rest()
    (await consume(client, topic, group="g", follow=False)).finish()
    async with connect(
        *endpoint(), identity=identity(FOREIGN_CERTS), server_name=SERVER_NAME
    ) as foreign:
        questions: list[wire.ClientFrame] = [
            wire.Produce(topic=topic), wire.Consume(topic=topic),
            wire.Consume(topic=topic, group="g"),
            wire.Topic(action=topics.Get(topic=topic)),
            wire.Topic(action=topics.Delete(topic=topic)),
            wire.Topic(action=topics.Update(topic=topic, retention=topics.Retention())),
            wire.Topic(action=topics.GetMessage(id=message.id)),
            wire.Topic(action=topics.DeleteMessage(id=message.id)),
            wire.Group(action=topics.GetGroup(topic=topic, group="g")),
            wire.Group(action=topics.DeleteGroup(topic=topic, group="g")),
            wire.Group(action=topics.Reset(topic=topic, group="g", to=Earliest())),
        ]
        for frame in questions:
            error = await answer_to(foreign, wire.encode(frame))
            assert error.code == Code.NOT_FOUND, (frame, error)
        *listed, _ = await of_topic(foreign, topics.ListTopics())
        assert topic not in {info.topic for info in listed}
        *listed, _ = await of_group(foreign, topics.ListGroups())
        assert topic not in {info.topic for info in listed}
        # It may have one of the same name, which is another one.
        await create(foreign, topic)
        assert await (await consume(foreign, topic, follow=False)).rest() == []
    assert await of_topic(client, topics.GetMessage(id=message.id)) == [message]


@pytest.mark.skipif(not WORKER_CERTS, reason="TOLLGATE_WORKER_CERTS is not set")
def test_a_worker_uses_no_topics() -> None:
    async def scenario() -> None:
        async with connect(
            *endpoint(), identity=identity(WORKER_CERTS), server_name=SERVER_NAME
        ) as worker:
            for frame in (
                wire.Produce(topic="t"), wire.Consume(topic="t"),
                wire.Topic(action=topics.ListTopics()), wire.Group(action=topics.ListGroups()),
            ):
                error = await answer_to(worker, wire.encode(frame))
                assert error.code == Code.FORBIDDEN, (frame, error)

    bounded(scenario())
