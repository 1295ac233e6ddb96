"""A worker against a broker, and a client that calls it: section 15 of PROTOCOL.md.

Environment: as for `test_live.py`, and `TOLLGATE_WORKER_CERTS`, a directory with cert.pem, key.pem
and ca.pem of a worker of the same tenant.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tollgate_interop import wire, work
from tollgate_interop.client import Client, Cut, Identity, Refused, connect
from tollgate_interop.codes import Code
from tollgate_interop.worker import Call, CallFailed, Handler, Worker, WorkStream

from test_live import IDENTITY, SERVER_NAME, bounded, endpoint, uuid7

CERTS = os.environ.get("TOLLGATE_WORKER_CERTS", "")

pytestmark = pytest.mark.skipif(not CERTS, reason="TOLLGATE_WORKER_CERTS is not set")

names = (f"interop.{number}" for number in range(1_000))


def worker_identity() -> Identity:
    certs = Path(CERTS)
    return Identity(cert=certs / "cert.pem", key=certs / "key.pem", ca=certs / "ca.pem")


def scenario(test: Callable[[Client, Client], Awaitable[None]]) -> Callable[[], None]:
    """A test with a connection of a worker and one of a client of the same tenant."""
    async def connected() -> None:
        async with connect(
            *endpoint(), identity=worker_identity(), server_name=SERVER_NAME
        ) as working, connect(
            *endpoint(), identity=IDENTITY, server_name=SERVER_NAME
        ) as asking:
            await test(working, asking)

    def run() -> None:
        bounded(connected())

    run.__name__ = getattr(test, "__name__")
    run.__doc__ = test.__doc__
    return run


@asynccontextmanager
async def serving(
    client: Client, handler: Handler, spec: work.Register, credit: int = 8
) -> AsyncIterator[Worker]:
    """A worker that has registered; it drains at the end, and must end well."""
    worker = Worker(client, credit).recipe(spec, handler)
    running = asyncio.create_task(worker.run())
    registered = asyncio.create_task(worker.registered.wait())
    await asyncio.wait({running, registered}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        registered.cancel()
        running.result()
    try:
        yield worker
        await worker.drain()
        await running
    finally:
        running.cancel()


async def call(client: Client, recipe: str, *payloads: bytes) -> list[wire.Result]:
    batch = await client.batch()
    for payload in payloads:
        await batch.request(recipe, payload)
    await batch.seal()
    await batch.finished()
    return [batch.results[id] for id in sorted(batch.results)]


@scenario
async def test_calls_are_answered(working: Client, asking: Client) -> None:
    async def upper(call: Call) -> bytes:
        assert call.tenant
        return call.payload.upper()

    spec = work.Register(name=next(names))
    async with serving(working, upper, spec):
        results = await call(asking, spec.name, *(f"item {n}".encode() for n in range(50)))
    assert [result.payload for result in results] == [f"ITEM {n}".encode() for n in range(50)]


@scenario
async def test_no_more_calls_than_credit(working: Client, asking: Client) -> None:
    now = most = 0

    async def count(call: Call) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return b""

    spec = work.Register(name=next(names))
    async with serving(working, count, spec, credit=3):
        results = await call(asking, spec.name, *[b""] * 20)
    assert all(result.code == 0 for result in results)
    assert most == 3


@scenario
async def test_failures_keep_their_code(working: Client, asking: Client) -> None:
    async def fail(call: Call) -> bytes:
        if call.payload == b"mine":
            raise CallFailed(Code.NOT_FOUND, "no such page", permanent=True)
        if call.payload == b"not mine":
            raise CallFailed(Code.DRAINING, "not for a worker to say")
        raise ValueError("something else")

    spec = work.Register(name=next(names))
    async with serving(working, fail, spec):
        results = await call(asking, spec.name, b"mine", b"not mine", b"")
    assert [result.code for result in results] == [
        Code.NOT_FOUND, Code.RECIPE_EXECUTION, Code.RECIPE_EXECUTION,
    ]
    assert results[0].failure.message == "no such page"


@scenario
async def test_progress_arrives(working: Client, asking: Client) -> None:
    async def steps(call: Call) -> bytes:
        for step in range(4):
            call.progress(step, 4, "at it")
            await asyncio.sleep(0.12)
        return b"done"

    spec = work.Register(name=next(names))
    async with serving(working, steps, spec):
        batch = await asking.batch()
        await batch.request(spec.name)
        await batch.seal()
        reports = [frame async for frame in batch.events() if isinstance(frame, wire.Progress)]
    assert any(report.message == "at it" and report.total == 4 for report in reports)
    assert [report.done for report in reports] == sorted(report.done for report in reports)


@scenario
async def test_a_cancellation_reaches_the_worker(working: Client, asking: Client) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang(call: Call) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    spec = work.Register(name=next(names))
    async with serving(working, hang, spec):
        batch = await asking.batch()
        await batch.request(spec.name)
        await batch.seal()
        await started.wait()
        await batch.cancel(wire.CancelScope.All)
        summary = await batch.finished()
        await ended.wait()
    assert dict(summary.failed) == {Code.CANCELLED: 1}


@scenario
async def test_what_is_given_up_at_once_is_answered(working: Client, asking: Client) -> None:
    async def hang(call: Call) -> bytes:
        await asyncio.Event().wait()
        return b""

    spec = work.Register(name=next(names))
    # It drains at the end, which takes an answer to every call.
    async with serving(working, hang, spec):
        for _ in range(20):
            batch = await asking.batch()
            await batch.request(spec.name)
            await batch.cancel(wire.CancelScope.All)
            await batch.finished()


@scenario
async def test_large_results_stay_within_the_credit(working: Client, asking: Client) -> None:
    async def much(call: Call) -> bytes:
        return bytes(int(call.payload))

    spec = work.Register(name=next(names), result_bytes_max=100_000)
    sizes = [150_000, 90_000] * 20
    # The worker ends its stream when it is given more.
    async with serving(working, much, spec, credit=2):
        results = await call(asking, spec.name, *(str(size).encode() for size in sizes))
    assert [result.code for result in results] == [Code.RESULT_TOO_LARGE, 0] * 20


@scenario
async def test_large_payloads_travel_apart(working: Client, asking: Client) -> None:
    async def turn(call: Call) -> bytes:
        assert call.dispatch.apart == 200_000 and not call.dispatch.payload
        return call.payload[::-1]

    spec = work.Register(name=next(names))
    payload = os.urandom(200_000)
    async with serving(working, turn, spec):
        [result] = await call(asking, spec.name, payload)
    assert result.payload == payload[::-1]


@scenario
async def test_a_result_over_its_bound(working: Client, asking: Client) -> None:
    async def much(call: Call) -> bytes:
        return bytes(100_000)

    spec = work.Register(name=next(names), result_bytes_max=70_000)
    async with serving(working, much, spec):
        [result] = await call(asking, spec.name, b"")
    assert result.code == Code.RESULT_TOO_LARGE


@scenario
async def test_a_lost_worker(working: Client, asking: Client) -> None:
    """What is idempotent goes to another; anything else is lost."""
    hanging = asyncio.Event()

    async def hang(call: Call) -> bytes:
        hanging.set()
        await asyncio.Event().wait()
        return b""

    async def answer(call: Call) -> bytes:
        return f"attempt {call.dispatch.attempt}".encode()

    for idempotent in (True, False):
        hanging.clear()
        spec = work.Register(name=next(names), idempotent=idempotent)
        first = Worker(working).recipe(spec, hang)
        running = asyncio.create_task(first.run())
        await first.registered.wait()
        asked = asyncio.create_task(call(asking, spec.name, b""))
        await hanging.wait()
        async with serving(working, answer, spec):
            first._stream.reset(0)
            running.cancel()
            [result] = await asked
        if idempotent:
            assert result.payload == b"attempt 2"
        else:
            assert result.code == Code.WORKER_LOST


async def refusal(client: Client, *frames: bytes) -> wire.Error:
    """What a new stream of work with these bytes is told in the end."""
    stream = WorkStream(client._protocol)
    await stream.write(b"".join(frames))
    while True:
        frame = await stream.receive()
        if isinstance(frame, wire.Error):
            await stream.end()
            return frame
        assert isinstance(frame, work.Registered), frame


@scenario
async def test_what_ends_the_stream(working: Client, asking: Client) -> None:
    opened = wire.encode(wire.Work(credit=1))
    name = next(names)
    registered = work.encode_worker(work.Register(name=name))
    cases = [
        (work.encode_worker(work.Answer(lease=1)), Code.INVALID_ACTION),
        (wire.framed(b""), Code.MALFORMED_FRAME),
        (wire.framed(b"\6"), Code.MALFORMED_FRAME),
        (work.encode_worker(work.Register(name="No Name")), Code.VALIDATION_ERROR),
        (work.encode_worker(work.Register(name=next(names), attempts_max=0)), Code.VALIDATION_ERROR),
        (registered + registered, Code.CONFLICT),
    ]
    for frames, code in cases:
        error = await refusal(working, opened, frames)
        assert error.code == code, error


@scenario
async def test_another_spec_is_a_conflict_while_it_is_served(
    working: Client, asking: Client
) -> None:
    async def echo(call: Call) -> bytes:
        return call.payload

    spec = work.Register(name=next(names), timeout_ms=1_000)
    other = work.Register(name=spec.name, timeout_ms=2_000)
    async with serving(working, echo, spec):
        with pytest.raises(Refused) as caught:
            async with serving(working, echo, other):
                pass
        assert caught.value.error.code == Code.CONFLICT
    async with serving(working, echo, other):
        [result] = await call(asking, other.name, b"new")
    assert result.payload == b"new"


@scenario
async def test_each_does_its_own(working: Client, asking: Client) -> None:
    error = await refusal(asking, wire.encode(wire.Work(credit=1)))
    assert error.code == Code.FORBIDDEN
    with pytest.raises(Refused) as caught:
        batch = await working.batch(wire.Batch(batch_id=uuid7()))
        await batch.seal()
        await batch.finished()
    assert caught.value.error.code == Code.FORBIDDEN


@scenario
async def test_a_fetch_of_no_lease_is_refused(working: Client, asking: Client) -> None:
    stream = working.open_raw()
    await stream.send(wire.Fetch(work=0, lease=1))
    stream.finish()
    with pytest.raises(Cut) as caught:
        await stream.read_to_end()
    assert caught.value.reset_code == 7
