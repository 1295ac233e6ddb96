"""A batch client against a broker: what PROTOCOL.md promises, seen from outside.

Environment: `TOLLGATE_ADDR` (host:port), `TOLLGATE_CERTS` (a directory with cert.pem, key.pem
and ca.pem of a tenant's client), `TOLLGATE_SERVER_NAME` (default `localhost`).
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tollgate_interop import wire
from tollgate_interop.client import (
    BatchStream, Client, ConnectionClosed, Cut, Identity, Operation, Refused, Stopped, connect,
    uuid7,
)
from tollgate_interop.codes import Code, Stream
from tollgate_interop.wire import CancelScope, Ended, Mode, Order, Request, Subject

ADDRESS = os.environ.get("TOLLGATE_ADDR", "")
CERTS = Path(os.environ.get("TOLLGATE_CERTS", "."))
SERVER_NAME = os.environ.get("TOLLGATE_SERVER_NAME", "localhost")
IDENTITY = Identity(cert=CERTS / "cert.pem", key=CERTS / "key.pem", ca=CERTS / "ca.pem")
WAIT_S = 9.0
TLS_ALERT_CERTIFICATE_REQUIRED = 116
TLS_ALERT_NO_APPLICATION_PROTOCOL = 120

pytestmark = pytest.mark.skipif(not ADDRESS, reason="TOLLGATE_ADDR is not set")


def endpoint() -> tuple[str, int]:
    host, _, port = ADDRESS.rpartition(":")
    return host.strip("[]"), int(port)


def bounded(scenario: Awaitable[None]) -> None:
    async def run() -> None:
        await asyncio.wait_for(scenario, WAIT_S)
    asyncio.run(run())


def live(scenario: Callable[[Client], Awaitable[None]]) -> Callable[[], None]:
    """A test with a connection of its own, bounded in time."""
    async def connected() -> None:
        async with connect(*endpoint(), identity=IDENTITY, server_name=SERVER_NAME) as client:
            await scenario(client)

    def test() -> None:
        bounded(connected())

    test.__name__ = getattr(scenario, "__name__")
    test.__doc__ = scenario.__doc__
    return test


def opening(
    mode: Mode = Mode.BestEffort,
    order: Order = Order.Completion,
    concurrency_max: int = 0,
    deadline_ms: int | None = None,
) -> wire.Batch:
    return wire.Batch(
        batch_id=uuid7(), mode=mode, order=order, concurrency_max=concurrency_max,
        deadline_ms=deadline_ms,
    )


def delay(ms: int, steps: int = 1) -> bytes:
    return json.dumps({"ms": ms, "steps": steps}).encode()


async def started(batch: BatchStream) -> None:
    """Waits for a report of progress: then an item runs."""
    async for frame in batch.events():
        if isinstance(frame, wire.Progress):
            return


async def error_of(stream: Operation) -> wire.Error:
    """Reads up to the stream's `Error`, and sees that nothing follows it."""
    while True:
        frame = await stream.receive()
        if isinstance(frame, wire.Error):
            await stream.end()
            return frame


async def answer_to(client: Client, *frames: bytes) -> wire.Error:
    """What a new stream with these bytes is told."""
    stream = client.open()
    await stream.write(b"".join(frames))
    return await error_of(stream)


async def still_usable(client: Client) -> None:
    """Another stream of the connection runs a batch."""
    batch = await client.batch()
    await batch.request("echo", b"next")
    await batch.seal()
    summary = await batch.finished()
    assert (summary.ended, summary.succeeded) == (Ended.Sealed, 1)


def of_code(summary: wire.Summary) -> dict[int, int]:
    return dict(summary.failed)


def adds_up(summary: wire.Summary) -> None:
    codes = [code for code, _ in summary.failed]
    assert codes == sorted(set(codes)) and Code.OK not in codes
    assert summary.succeeded + sum(count for _, count in summary.failed) == summary.total


# Batches


@live
async def test_three_echoes(client: Client) -> None:
    batch = await client.batch()
    payloads = {1: b"one", 2: b"", 3: bytes(range(256)) * 64}
    for payload in payloads.values():
        await batch.request("echo", payload)
    await batch.seal()
    frames = [frame async for frame in batch.events()]
    await batch.end()

    assert isinstance(frames[0], wire.Accepted)
    assert frames[0].items_max >= 3 and frames[0].concurrency_max >= 1
    assert {id: result.payload for id, result in batch.results.items()} == payloads
    for result in batch.results.values():
        assert (result.status, result.code, result.attempts) == (200, Code.OK, 1)
        assert (result.tenant, result.epoch, result.sequence) == (None, 0, 0)
    summary = frames[-1]
    assert isinstance(summary, wire.Summary)
    assert (summary.ended, summary.total, summary.succeeded) == (Ended.Sealed, 3, 3)
    assert (summary.failed, summary.last_id_read) == ((), 3)
    moved = sum(map(len, payloads.values()))
    assert (summary.bytes_in, summary.bytes_out) == (moved, moved)
    assert await batch.wait_stopped() == Stream.DONE


@live
async def test_a_batch_of_nothing(client: Client) -> None:
    batch = await client.batch()
    await batch.seal()
    summary = await batch.finished()
    assert (summary.ended, summary.total, summary.last_id_read) == (Ended.Sealed, 0, None)


@live
async def test_fin_together_with_the_seal(client: Client) -> None:
    batch = await client.batch()
    await batch.request("echo", b"a")
    await batch.seal()
    batch.finish()
    summary = await batch.finished()
    await batch.end()
    assert (summary.ended, summary.succeeded) == (Ended.Sealed, 1)


@live
async def test_progress(client: Client) -> None:
    batch = await client.batch()
    id = await batch.request("delay", delay(ms=400, steps=4))
    await batch.seal()
    reports = [frame async for frame in batch.events() if isinstance(frame, wire.Progress)]
    assert reports and {report.id for report in reports} == {id}
    assert {report.attempt for report in reports} == {1}
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert all(report.done <= report.total or report.total == 0 for report in reports)
    result = batch.results[id]
    assert result.code == Code.OK and result.duration_us >= 400_000


@live
async def test_partial_failure(client: Client) -> None:
    batch = await client.batch()
    failed = await batch.request("fail")
    panicked = await batch.request("panic")
    unknown = await batch.request("nope")
    echoed = await batch.request("echo", b"fine")
    await batch.seal()
    summary = await batch.finished()

    assert batch.results[echoed].payload == b"fine"
    assert batch.results[panicked].code == Code.PANIC
    assert batch.results[panicked].status == 500
    assert not batch.results[panicked].failure.side_effect_free
    assert batch.results[unknown].code == Code.RECIPE_NOT_FOUND
    assert batch.results[unknown].status == 404
    assert batch.results[unknown].attempts == 0
    assert batch.results[unknown].failure.side_effect_free
    assert batch.results[failed].code not in (Code.OK, Code.PANIC, Code.RECIPE_NOT_FOUND)
    assert batch.results[failed].failure.message
    assert (summary.ended, summary.total, summary.succeeded) == (Ended.Sealed, 4, 1)
    assert of_code(summary) == {
        batch.results[id].code: 1 for id in (failed, panicked, unknown)
    }
    adds_up(summary)


@live
async def test_a_thousand_items_read_while_written(client: Client) -> None:
    batch = await client.batch()
    answered = asyncio.Event()

    async def write() -> None:
        for number in range(1000):
            if number == 999:
                # The broker answers while the last request is still to be sent.
                await answered.wait()
            await batch.request("echo", b"%d " % number * 256)
        await batch.seal()

    async def read() -> wire.Summary:
        async for frame in batch.events():
            if isinstance(frame, wire.Result):
                answered.set()
            if isinstance(frame, wire.Summary):
                return frame
        raise AssertionError("a batch ends with its summary")

    summary, _ = await asyncio.gather(read(), write())
    assert (summary.ended, summary.total, summary.succeeded) == (Ended.Sealed, 1000, 1000)
    assert summary.last_id_read == 1000
    for id, result in batch.results.items():
        assert result.payload == b"%d " % (id - 1) * 256
    assert len(batch.results) == 1000


@live
async def test_order_of_submission(client: Client) -> None:
    batch = await client.batch(opening(order=Order.Submission))
    await batch.request("delay", delay(ms=200))
    await batch.request("echo", b"fast")
    await batch.request("nope")
    await batch.seal()
    frames = [frame async for frame in batch.events()]
    assert [frame.id for frame in frames if isinstance(frame, wire.Result)] == [1, 2, 3]


@live
async def test_order_of_completion(client: Client) -> None:
    batch = await client.batch()
    await batch.request("delay", delay(ms=200))
    await batch.request("echo", b"fast")
    await batch.seal()
    frames = [frame async for frame in batch.events()]
    assert [frame.id for frame in frames if isinstance(frame, wire.Result)] == [2, 1]


@live
async def test_fail_fast(client: Client) -> None:
    batch = await client.batch(opening(mode=Mode.FailFast, concurrency_max=1))
    failed = await batch.request("fail")
    waiting = await batch.request("delay", delay(ms=60_000))
    summary = await batch.finished()
    assert summary.ended == Ended.FailFast
    assert batch.stopped == Stream.FAIL_FAST
    assert batch.results[failed].code != Code.OK
    # Either it was read and cancelled, or it was never read.
    if waiting in batch.results:
        assert batch.results[waiting].code == Code.CANCELLED
    else:
        assert summary.last_id_read is not None and summary.last_id_read < waiting
    adds_up(summary)
    with pytest.raises(Stopped):
        await batch.seal()


@live
async def test_deadlines_and_timeouts(client: Client) -> None:
    late = await client.batch(opening(deadline_ms=150))
    await late.request("delay", delay(ms=60_000))
    short = await client.batch()
    await short.request("delay", delay(ms=60_000), timeout_ms=100)
    await short.seal()

    summary = await late.finished()
    assert late.accepted and late.accepted.deadline_ms == 150
    assert summary.ended == Ended.DeadlineExceeded
    assert late.results[1].code == Code.DEADLINE_EXCEEDED
    summary = await short.finished()
    assert (summary.ended, of_code(summary)) == (Ended.Sealed, {Code.TIMEOUT: 1})


@live
async def test_a_deadline_of_nothing(client: Client) -> None:
    batch = await client.batch(opening(deadline_ms=0))
    await batch.request("echo", b"too late")
    await batch.seal()
    summary = await batch.finished()
    assert (summary.ended, summary.succeeded) == (Ended.DeadlineExceeded, 0)
    assert all(item.code == Code.DEADLINE_EXCEEDED for item in batch.results.values())


async def echo_that_fills_its_frame(client: Client, room: int) -> None:
    """An item whose request leaves `room` bytes of the largest frame."""
    [limits] = await client.describe(Subject.Limits)
    assert isinstance(limits, wire.Limits)
    empty = len(wire.encode(Request(id=1, recipe="echo"))) - wire.PREFIX_BYTES
    # A longer payload has a longer length: three bytes instead of one.
    payload = os.urandom(limits.frame_bytes_max - empty - 2 - room)
    batch = await client.batch()
    await batch.request("echo", payload)
    await batch.seal()
    await batch.finished()
    result = batch.results[1]
    assert result.code == Code.OK and result.payload == payload


@live
async def test_an_item_that_almost_fills_its_frame(client: Client) -> None:
    await echo_that_fills_its_frame(client, room=64)


@live
async def test_an_item_that_fills_its_frame(client: Client) -> None:
    # The limit is the client's: a result may be longer than the request it answers.
    await echo_that_fills_its_frame(client, room=0)


@live
async def test_more_items_than_allowed(client: Client) -> None:
    [limits] = await client.describe(Subject.Limits)
    assert isinstance(limits, wire.Limits)
    most = limits.batch_items_max
    batch = await client.batch()

    async def write() -> None:
        for _ in range(most + 1):
            await batch.request("echo")
        await batch.seal()

    summary, _ = await asyncio.gather(batch.finished(), write())
    assert (summary.ended, summary.succeeded) == (Ended.Sealed, most)
    assert of_code(summary) == {Code.BATCH_TOO_LARGE: 1}
    result = batch.results[most + 1]
    assert (result.code, result.attempts) == (Code.BATCH_TOO_LARGE, 0)
    assert result.failure.quota and result.failure.quota.quota == "batch_items"


@live
async def test_one_batch_too_many(client: Client) -> None:
    [limits] = await client.describe(Subject.Limits)
    assert isinstance(limits, wire.Limits)
    async with connect(*endpoint(), identity=IDENTITY, server_name=SERVER_NAME) as other:
        # More streams than one connection may have.
        batches = [
            await (client if number % 2 else other).batch()
            for number in range(limits.batches_in_flight_max)
        ]
        for batch in batches:
            assert isinstance(await batch.receive(), wire.Accepted)
        error = await answer_to(client, wire.encode(opening()))
    assert error.code == Code.QUOTA_EXCEEDED and error.failure.side_effect_free
    quota = error.failure.quota
    assert quota and quota.quota == "batches_in_flight" and quota.current == quota.limit
    # It frees up, and nobody knows when.
    assert error.failure.retryable and error.failure.retry_after_ms is None


@live
async def test_more_batches_at_once_than_the_first_stream_limit(client: Client) -> None:
    async def one(number: int) -> wire.Summary:
        batch = await client.batch()
        await batch.request("echo", b"%d" % number)
        await batch.seal()
        return await batch.finished()

    summaries = await asyncio.gather(*(one(number) for number in range(64)))
    assert [summary.succeeded for summary in summaries] == [1] * 64


@live
async def test_frames_that_arrive_byte_by_byte(client: Client) -> None:
    stream = client.open()
    frames: list[wire.ClientFrame] = [
        wire.Batch(batch_id=uuid7()), Request(id=7, recipe="echo", payload=b"hi"),
        wire.Seal(items=1),
    ]
    for byte in b"".join(wire.encode(frame) for frame in frames):
        await stream.write(bytes([byte]))
        # Sends what was written, so each byte travels in a packet of its own.
        await asyncio.sleep(0)
    assert isinstance(await stream.receive(), wire.Accepted)
    result = await stream.receive()
    assert isinstance(result, wire.Result) and (result.id, result.payload) == (7, b"hi")
    assert isinstance(await stream.receive(), wire.Summary)
    await stream.end()


# Ways to cancel


@live
async def test_cancel_all_by_frame(client: Client) -> None:
    batch = await client.batch()
    running = await batch.request("delay", delay(ms=60_000, steps=1_000))
    await started(batch)
    await batch.cancel(CancelScope.All)
    summary = await batch.finished()
    assert batch.results[running].code == Code.CANCELLED
    assert batch.results[running].status == 499
    assert (summary.ended, of_code(summary)) == (Ended.Cancelled, {Code.CANCELLED: 1})
    await batch.end()


@live
async def test_cancel_pending_by_frame(client: Client) -> None:
    batch = await client.batch(opening(concurrency_max=1))
    running = await batch.request("delay", delay(ms=500, steps=50))
    pending = await batch.request("delay", delay(ms=60_000))
    await started(batch)
    await batch.cancel(CancelScope.Pending)
    summary = await batch.finished()
    assert batch.results[running].code == Code.OK
    assert batch.results[pending].code == Code.CANCELLED
    assert batch.results[pending].attempts == 0
    assert batch.results[pending].failure.side_effect_free
    assert (summary.ended, summary.succeeded, summary.total) == (Ended.Cancelled, 1, 2)


@live
async def test_cancel_all_may_follow_cancel_pending(client: Client) -> None:
    batch = await client.batch(opening(concurrency_max=1))
    await batch.request("delay", delay(ms=60_000, steps=1_000))
    await batch.request("delay", delay(ms=60_000))
    await started(batch)
    await batch.cancel(CancelScope.Pending)
    await batch.cancel(CancelScope.All)
    summary = await batch.finished()
    assert (summary.ended, of_code(summary)) == (Ended.Cancelled, {Code.CANCELLED: 2})


@pytest.mark.parametrize("code", [Stream.CANCEL_ALL, Stream.DROPPED, 0x1234])
def test_cancel_all_by_reset(code: int) -> None:
    async def scenario(client: Client) -> None:
        batch = await client.batch()
        running = await batch.request("delay", delay(ms=60_000, steps=1_000))
        await started(batch)
        batch.reset(code)
        summary = await batch.finished()
        assert batch.results[running].code == Code.CANCELLED
        assert (summary.ended, of_code(summary)) == (Ended.Cancelled, {Code.CANCELLED: 1})
        assert summary.last_id_read == running
        await batch.end()

    live(scenario)()


@live
async def test_cancel_pending_by_reset(client: Client) -> None:
    batch = await client.batch(opening(concurrency_max=1))
    running = await batch.request("delay", delay(ms=500, steps=50))
    pending = await batch.request("delay", delay(ms=60_000))
    await batch.seal()
    await started(batch)
    batch.reset(Stream.CANCEL_PENDING)
    summary = await batch.finished()
    assert batch.results[running].code == Code.OK
    assert (summary.ended, summary.succeeded) == (Ended.Cancelled, 1)
    # The reset may overtake the second request.
    if summary.last_id_read == pending:
        assert batch.results[pending].code == Code.CANCELLED


@live
async def test_a_reset_that_overtakes_the_batch_leaves_nothing(client: Client) -> None:
    stream = client.open()
    await stream.write(wire.encode(wire.Batch(batch_id=uuid7()))[:10])
    stream.reset(Stream.CANCEL_ALL)
    await stream.end()
    await still_usable(client)


@live
async def test_stop_sending_cancels_and_nothing_more_is_written(client: Client) -> None:
    batch = await client.batch()
    await batch.request("delay", delay(ms=60_000, steps=1_000))
    await started(batch)
    batch.stop(Stream.CANCEL_ALL)
    with pytest.raises(Cut) as caught:
        await batch.finished()
    assert caught.value.reset_code is not None
    await still_usable(client)


@live
async def test_stop_sending_before_the_first_frame(client: Client) -> None:
    stream = client.open()
    await stream.write(b"\0")
    stream.stop(Stream.CANCEL_ALL)
    with pytest.raises(Cut) as caught:
        await asyncio.wait_for(stream.end(), 1)
    assert caught.value.reset_code is not None


@live
async def test_fin_without_seal_is_a_cut_batch(client: Client) -> None:
    batch = await client.batch()
    running = await batch.request("delay", delay(ms=60_000, steps=1_000))
    await started(batch)
    # A frame that the FIN cuts in two counts as not sent.
    await batch.write(wire.encode(Request(id=2, recipe="echo", payload=b"half"))[:-2])
    batch.finish()
    summary = await batch.finished()
    assert (summary.ended, summary.last_id_read) == (Ended.Cut, running)
    assert of_code(summary) == {Code.CANCELLED: 1}
    await batch.end()


# What each wrong thing gets


@pytest.mark.parametrize("text", [
    "00000000",
    "00000001 12",
    "00000002 0a80",
    "00000003 0a0000",
    "00000002 0b02",
    "00000001 03",
    "0000000b 0affffffffffffffffff7f",
    "00000007 0901ff7f616161",
], ids=[
    "empty", "unknown variant", "ends within a field", "bytes left over", "unknown enum",
    "an open frame without its fields", "varint too large", "length past the end",
])
@pytest.mark.parametrize("first", [True, False], ids=["first", "in a batch"])
def test_a_malformed_frame_fails_its_stream_alone(text: str, first: bool) -> None:
    async def scenario(client: Client) -> None:
        other = await client.batch()
        running = await other.request("delay", delay(ms=60_000, steps=1_000))
        await started(other)

        opened = [] if first else [wire.encode(wire.Batch(batch_id=uuid7()))]
        error = await answer_to(client, *opened, bytes.fromhex(text))
        assert error.code == Code.MALFORMED_FRAME, error
        assert not error.failure.retryable and error.failure.message
        assert dict(error.failure.details)["field"], error

        await still_usable(client)
        await other.cancel(CancelScope.All)
        await other.finished()
        assert other.results[running].code == Code.CANCELLED

    live(scenario)()


@live
async def test_a_frame_too_large(client: Client) -> None:
    [limits] = await client.describe(Subject.Limits)
    assert isinstance(limits, wire.Limits)
    length = limits.frame_bytes_max + 1
    prefix = length.to_bytes(4, "big")
    opened = wire.encode(wire.Batch(batch_id=uuid7()))
    for frames in ([opened, prefix], [prefix], [opened, b"\xff\xff\xff\xff"]):
        error = await answer_to(client, *frames)
        details = dict(error.failure.details)
        assert error.code == Code.FRAME_TOO_LARGE, error
        assert details["limit"] == str(limits.frame_bytes_max)
        assert details["length"] == str(int.from_bytes(frames[-1], "big"))
        assert details["config_key"] == "limits.frame_bytes_max"
    await still_usable(client)


@live
async def test_a_wrong_seal(client: Client) -> None:
    batch = await client.batch()
    await batch.request("echo", b"a")
    await batch.seal(items=2)
    with pytest.raises(Refused) as caught:
        await batch.finished()
    await batch.end()
    error = caught.value.error
    assert error.code == Code.VALIDATION_ERROR
    details = dict(error.failure.details)
    assert (details["field"], details["read"]) == ("items", "1")
    await still_usable(client)


@live
async def test_ids_that_do_not_rise(client: Client) -> None:
    opened = wire.encode(wire.Batch(batch_id=uuid7()))
    for first, second in ((5, 5), (5, 4)):
        error = await answer_to(
            client, opened, wire.encode(Request(id=first, recipe="echo")),
            wire.encode(Request(id=second, recipe="echo")),
        )
        assert error.code == Code.VALIDATION_ERROR
        assert dict(error.failure.details)["field"] == "id"


@live
async def test_ids_may_start_at_zero_and_leave_gaps(client: Client) -> None:
    batch = await client.batch()
    for id in (0, 7, 2**64 - 1):
        await batch.send_request(Request(id=id, recipe="echo", payload=b"%d" % id))
    await batch.seal()
    summary = await batch.finished()
    assert (summary.succeeded, summary.last_id_read) == (3, 2**64 - 1)
    assert all(result.payload == b"%d" % id for id, result in batch.results.items())


@live
async def test_frames_that_are_not_allowed_here(client: Client) -> None:
    item = wire.encode(Request(id=1, recipe="echo"))
    seal = wire.encode(wire.Seal(items=0))
    cancel = wire.encode(wire.Cancel(scope=CancelScope.All))
    describe = wire.encode(wire.Describe(subject=Subject.Limits))
    detach = wire.encode(wire.Detach())

    def opened() -> bytes:
        return wire.encode(wire.Batch(batch_id=uuid7()))

    wrong = {
        "a request first": [item],
        "a seal first": [seal],
        "a cancel first": [cancel],
        "a detach first": [detach],
        "a batch second": [opened(), opened()],
        "a describe second": [opened(), describe],
        "a detach before the seal": [opened(), detach],
    }
    for what, frames in wrong.items():
        error = await answer_to(client, *frames)
        assert error.code == Code.INVALID_ACTION, (what, error)

    # Sealed, with an item that is still running: otherwise the summary is the end.
    for frame in (wire.encode(Request(id=2, recipe="echo")), wire.encode(wire.Seal(items=1))):
        batch = await client.batch()
        await batch.request("delay", delay(ms=60_000))
        await batch.seal()
        await batch.write(frame)
        assert (await error_of(batch)).code == Code.INVALID_ACTION
    await still_usable(client)


@live
async def test_open_frames_out_of_bounds(client: Client) -> None:
    critical = wire.Extension(number=4711, critical=True, body=b"x")
    ignored = wire.Extension(number=4711, critical=False, body=b"x")
    wrong: list[tuple[wire.ClientFrame, str, str]] = [
        (wire.Batch(batch_id=uuid7(), priority=8), "field", "priority"),
        (wire.Batch(batch_id=uuid7(), traceparent="a" * 257), "field", "traceparent"),
        (wire.Batch(batch_id=uuid7(), tenant="a" * 64), "field", "tenant"),
        (wire.Batch(batch_id=uuid7(), extensions=(ignored,) * 17), "field", "extensions"),
        (wire.Batch(batch_id=uuid7(), extensions=(ignored, critical)), "extension", "4711"),
        (wire.Describe(subject=Subject.Limits, extensions=(critical,)), "extension", "4711"),
    ]
    for frame, key, value in wrong:
        error = await answer_to(client, wire.encode(frame, checked=False))
        assert error.code == Code.VALIDATION_ERROR, (frame, error)
        assert dict(error.failure.details)[key] == value, (frame, error)

    batch = await client.batch(wire.Batch(
        batch_id=uuid7(), extensions=(ignored,), traceparent="does not parse",
    ))
    await batch.seal()
    assert (await batch.finished()).ended == Ended.Sealed


@live
async def test_items_out_of_bounds_fail_alone(client: Client) -> None:
    batch = await client.batch()
    many = tuple((f"k{number}", "v") for number in range(65))
    wrong = {
        1: (Request(id=1, recipe="Not A Name"), "recipe"),
        2: (Request(id=2, recipe=""), "recipe"),
        3: (Request(id=3, recipe="a" * 129), "recipe"),
        4: (Request(id=4, recipe="echo", metadata=many), "metadata"),
        5: (Request(id=5, recipe="echo", metadata=(("k" * 129, ""),)), "metadata"),
    }
    for request, _ in wrong.values():
        await batch.send_request(request, checked=False)
    await batch.send_request(Request(id=7, recipe="echo", tenant="acme"))
    repeated = Request(id=8, recipe="echo", metadata=(("a", "1"), ("a", "2")), payload=b"fine")
    await batch.send_request(repeated)
    await batch.seal()
    summary = await batch.finished()

    for id, (_, field) in wrong.items():
        result = batch.results[id]
        assert result.code == Code.VALIDATION_ERROR, result
        assert dict(result.failure.details)["field"] == field, result
        assert result.attempts == 0
    assert batch.results[7].code == Code.FORBIDDEN
    assert batch.results[8].payload == b"fine"
    assert (summary.ended, summary.total, summary.succeeded) == (Ended.Sealed, 7, 1)
    adds_up(summary)


@live
async def test_a_client_names_no_tenant(client: Client) -> None:
    for frame in (
        wire.Batch(batch_id=uuid7(), tenant="acme"),
        wire.Batch(batch_id=uuid7(), tenant="someone-else"),
        wire.Describe(subject=Subject.Usage, tenant="acme"),
    ):
        error = await answer_to(client, wire.encode(frame))
        assert error.code == Code.FORBIDDEN, (frame, error)


@live
async def test_the_id_of_a_batch_that_is_open(client: Client) -> None:
    frame = opening()
    batch = await client.batch(frame)
    assert isinstance(await batch.receive(), wire.Accepted)
    error = await answer_to(client, wire.encode(frame))
    assert error.code == Code.CONFLICT
    await batch.seal()
    assert isinstance(await batch.receive(), wire.Summary)
    await batch.end()
    again = await client.batch(frame)
    await again.seal()
    assert (await again.finished()).ended == Ended.Sealed


@live
async def test_silence(client: Client) -> None:
    """Five seconds: an operation is told that the broker lives, an unused stream is ended."""
    async def alive() -> None:
        batch = await client.batch()
        await batch.request("delay", delay(ms=5_500))
        await batch.seal()
        assert (await batch.finished()).succeeded == 1
        assert batch.alive_frames >= 1

    async def stalled() -> None:
        stream = client.open()
        await stream.write(b"\0")
        with pytest.raises(Cut) as caught:
            await stream.receive()
        assert caught.value.reset_code == Stream.STALLED
        assert await stream.wait_stopped() == Stream.STALLED

    await asyncio.gather(alive(), stalled())


# Describe


@live
async def test_describe_recipes(client: Client) -> None:
    answer = await client.describe(Subject.Recipes)
    recipes = [frame for frame in answer if isinstance(frame, wire.Recipe)]
    assert len(recipes) == len(answer)
    names = [recipe.name for recipe in recipes]
    assert names == sorted(names)
    assert {"delay", "echo", "fail", "panic"} <= set(names)
    for recipe in recipes:
        assert recipe.timeout_ms > 0 and recipe.payload_bytes_max > 0
        if recipe.schema is not None:
            json.loads(recipe.schema)


@live
async def test_describe_limits(client: Client) -> None:
    [limits] = await client.describe(Subject.Limits)
    assert isinstance(limits, wire.Limits)
    batch = await client.batch()
    await batch.seal()
    await batch.finished()
    assert batch.accepted
    assert batch.accepted.frame_bytes_max == limits.frame_bytes_max <= wire.FRAME_BYTES_MOST
    assert batch.accepted.payload_bytes_max == limits.payload_bytes_max
    assert batch.accepted.items_max == limits.batch_items_max


@live
async def test_describe_usage(client: Client) -> None:
    batch = await client.batch()
    assert isinstance(await batch.receive(), wire.Accepted)
    [usage] = await client.describe(Subject.Usage)
    assert isinstance(usage, wire.Usage)
    lines = {line.quota: line for line in usage.lines}
    assert lines["connections"].current >= 1
    assert lines["batches_in_flight"].current >= 1
    await batch.cancel(CancelScope.All)
    assert isinstance(await batch.receive(), wire.Summary)


@live
async def test_describe_version(client: Client) -> None:
    [version] = await client.describe(Subject.Version)
    assert isinstance(version, wire.Version)
    assert version.protocol == "tollgate/1" and version.broker


# Who is let in


def test_another_alpn_is_refused() -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectionClosed) as caught:
            async with connect(
                *endpoint(), identity=IDENTITY, server_name=SERVER_NAME, alpn="tollgate/2"
            ):
                pass
        assert caught.value.tls_alert == TLS_ALERT_NO_APPLICATION_PROTOCOL

    bounded(scenario())


def test_no_certificate_is_refused() -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectionClosed) as caught:
            async with connect(
                *endpoint(), identity=None, ca=IDENTITY.ca, server_name=SERVER_NAME
            ) as client:
                await client.describe(Subject.Version)
        assert caught.value.tls_alert == TLS_ALERT_CERTIFICATE_REQUIRED

    bounded(scenario())


def test_the_client_verifies_the_broker() -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectionClosed):
            async with connect(*endpoint(), identity=IDENTITY, server_name="other.example"):
                pass

    bounded(scenario())
