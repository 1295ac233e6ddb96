"""A worker over aioquic: section 15 of PROTOCOL.md.

One task reads the stream of work; each call is a task of its own. When a call is cancelled its task
is, and the lease is answered `CANCELLED`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from . import wire, work
from .client import Client, Cut, Operation, Refused, Stopped
from .codes import Code

PROGRESS_S = 0.1


class CallFailed(Exception):
    """What a handler raises to fail its call with a code of its choice."""

    def __init__(self, code: Code, message: str, permanent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.permanent = permanent


@dataclass(frozen=True)
class Call:
    """One call, as its handler sees it."""

    dispatch: work.Dispatch
    payload: bytes
    recipe: str
    _progress: "Callable[[int, int, str], None]"

    @property
    def tenant(self) -> str:
        return self.dispatch.tenant

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.dispatch.metadata)

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Reports how far it has come: newest wins, ten a second are sent."""
        self._progress(done, total, message)


Handler = Callable[[Call], Awaitable[bytes]]


class WorkStream(Operation):
    """A stream of work: frames out, frames in."""

    def _encode(self, frame: Any) -> bytes:
        return wire.encode(frame) if isinstance(frame, wire.Work) else work.encode_worker(frame)

    def _decode(self, data: bytes) -> Any:
        return work.decode_dispatch(data)


class Worker:
    """Serves recipes on one stream of a connection."""

    def __init__(self, client: Client, credit: int = 8) -> None:
        self.registered = asyncio.Event()
        """Set once the broker has taken every recipe."""
        self._client = client
        self._stream = WorkStream(client._protocol)
        self._credit = credit
        self._recipes: list[tuple[work.Register, Handler]] = []
        self._taken = 0
        self._last_lease = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}
        # Calls that are not answered: an answer beside the stream is one once it has begun.
        self._open: set[int] = set()
        # Calls that were given up before their tasks had their first turn.
        self._given_up: set[int] = set()
        self._started: set[int] = set()
        self._draining = False

    def recipe(self, spec: work.Register, handler: Handler) -> "Worker":
        """Adds a recipe; before `run`."""
        self._recipes.append((spec, handler))
        return self

    async def drain(self) -> None:
        """Takes no more calls: `run` returns once those it has are answered."""
        if not self._draining:
            self._draining = True
            await self._stream.send(work.Drain())

    async def run(self) -> None:
        """Serves until `drain`. An `Error` of the broker raises `Refused`, a lost stream `Cut`."""
        specs = [spec for spec, _ in self._recipes]
        await self._stream.send(wire.Work(credit=self._credit), *specs)
        try:
            while True:
                frame = await self._stream.receive()
                if isinstance(frame, wire.End) and self._draining:
                    with suppress(Stopped):
                        self._stream.finish()
                    return
                self._heed(frame)
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _heed(self, frame: work.DispatchFrame) -> None:
        if isinstance(frame, work.Dispatch):
            self._start(frame)
        elif isinstance(frame, work.Cancel):
            if not 0 < frame.lease <= self._last_lease:
                raise self._stream.fault(f"a cancellation of lease {frame.lease}")
            if frame.lease in self._started:
                self._tasks[frame.lease].cancel()
            elif frame.lease in self._tasks:
                # A task that is cancelled before it began would answer nothing.
                self._given_up.add(frame.lease)
        elif isinstance(frame, work.Registered):
            if frame.recipe != self._taken or self._taken == len(self._recipes):
                raise self._stream.fault(f"recipe {frame.recipe} out of turn")
            self._taken += 1
            if self._taken == len(self._recipes):
                self.registered.set()
        elif isinstance(frame, wire.Error):
            raise Refused(frame)
        elif not isinstance(frame, wire.Notice):
            raise self._stream.fault(f"`{type(frame).__name__}` on a stream of work")

    def _start(self, dispatch: work.Dispatch) -> None:
        if dispatch.lease != self._last_lease + 1:
            raise self._stream.fault(f"lease {dispatch.lease} out of turn")
        if dispatch.recipe >= self._taken:
            raise self._stream.fault(f"recipe {dispatch.recipe} was not registered")
        if len(self._open) >= self._credit:
            raise self._stream.fault(f"more than {self._credit} calls")
        self._last_lease = dispatch.lease
        self._open.add(dispatch.lease)
        task = asyncio.create_task(self._serve(dispatch))
        self._tasks[dispatch.lease] = task
        task.add_done_callback(lambda _: self._forget(dispatch.lease))

    def _forget(self, lease: int) -> None:
        self._tasks.pop(lease, None)
        for of in (self._open, self._given_up, self._started):
            of.discard(lease)

    async def _serve(self, dispatch: work.Dispatch) -> None:
        lease = dispatch.lease
        self._started.add(lease)
        try:
            if lease in self._given_up:
                raise asyncio.CancelledError
            end: work.Answer | work.Failed = await self._run(dispatch)
        except asyncio.CancelledError:
            end = work.Failed(lease=lease, code=Code.CANCELLED, message="given up")
        except CallFailed as error:
            end = work.Failed(
                lease=lease, code=error.code, message=error.message, permanent=error.permanent,
            )
        except Exception as error:
            end = work.Failed(lease=lease, code=Code.RECIPE_EXECUTION, message=str(error)[:1_000])
        # A stream that is over has nobody to answer to.
        with suppress(Stopped, ConnectionError, RuntimeError):
            if isinstance(end, work.Answer) and len(end.payload) > work.INLINE_BYTES_MOST:
                await self._deliver(end)
            else:
                self._open.discard(lease)
                await self._stream.write(work.encode_worker(end))

    async def _run(self, dispatch: work.Dispatch) -> work.Answer:
        payload = dispatch.payload
        if dispatch.apart is not None:
            payload = await self._fetch(dispatch.lease, dispatch.apart)
        spec, handler = self._recipes[dispatch.recipe]
        reports = _Reports(self._stream, dispatch.lease)
        try:
            result = await handler(Call(dispatch, payload, spec.name, reports.put))
        finally:
            await reports.close()
        # Too long for a frame, perhaps: `_serve` sees to it.
        return work.Answer(lease=dispatch.lease, payload=result)

    async def _fetch(self, lease: int, size: int) -> bytes:
        stream = self._client.open_raw()
        await stream.send(wire.Fetch(work=self._stream.stream_id, lease=lease))
        stream.finish()
        payload = await stream.read_to_end()
        if len(payload) != size:
            raise Cut(f"{len(payload)} of {size} bytes of payload came")
        return payload

    async def _deliver(self, answer: work.Answer) -> None:
        stream = self._client.open()
        self._open.discard(answer.lease)
        await stream.send(wire.Deliver(
            work=self._stream.stream_id, lease=answer.lease, size=len(answer.payload),
            metadata=answer.metadata,
        ))
        step = 64 << 10
        for at in range(0, len(answer.payload), step):
            await stream.write(answer.payload[at:at + step])
        stream.finish()
        await stream.end()


class _Reports:
    """Progress of one call: the newest, not more often than every tenth of a second."""

    def __init__(self, stream: WorkStream, lease: int) -> None:
        self._stream = stream
        self._lease = lease
        self._newest: work.Progress | None = None
        self._task: asyncio.Task[None] | None = None

    def put(self, done: int, total: int, message: str) -> None:
        self._newest = work.Progress(
            lease=self._lease, done=done, total=total, message=message[:1_000],
        )
        if not self._task:
            self._task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while True:
            await self._flush()
            await asyncio.sleep(PROGRESS_S)

    async def _flush(self) -> None:
        if report := self._newest:
            await self._stream.send(report)
            if self._newest is report:
                self._newest = None

    async def close(self) -> None:
        """The last report goes out before the answer."""
        if self._task:
            self._task.cancel()
            with suppress(Stopped, ConnectionError, RuntimeError):
                await self._flush()
