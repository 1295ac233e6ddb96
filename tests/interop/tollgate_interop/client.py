"""A client of tollgate/1 over aioquic: sections 1, 2, 8 and 9 of PROTOCOL.md.

aioquic hands over what arrives as it arrives, so frames are read whether or not the program
asks for them; what is not asked for is kept, up to `UNREAD_BYTES_MOST`.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion

from . import wire
from .codes import Close, Stream

ALPN = "tollgate/1"
IDLE_TIMEOUT_S = 15.0
KEEP_ALIVE_S = 1.5
UNREAD_BYTES_MOST = 64 << 20
UNSENT_BYTES_MOST = 256 << 10
BURST_BYTES = 4 << 10
SOCKET_BYTES = 1 << 20
CLOSING_S = 0.25


class ConnectionClosed(Exception):
    """The connection is over. `application` tells a close code from a transport error."""

    def __init__(self, code: int, application: bool, reason: str) -> None:
        kind = "application" if application else "transport"
        super().__init__(f"connection closed: {kind} code {code:#x} {reason!r}")
        self.code = code
        self.application = application
        self.reason = reason

    @property
    def tls_alert(self) -> int | None:
        """The alert within a `CRYPTO_ERROR`."""
        crypto = not self.application and 0x100 <= self.code <= 0x1FF
        return self.code - 0x100 if crypto else None


class Cut(Exception):
    """The stream ended without its final frame, or the broker broke the protocol.

    Items without a result are unknown. `reset_code` is that of the broker's RESET_STREAM.
    """

    def __init__(self, why: str, reset_code: int | None = None) -> None:
        super().__init__(why)
        self.reset_code = reset_code


class Stopped(Exception):
    """Nothing can be written any more: the broker sent STOP_SENDING. Read on."""


class Refused(Exception):
    """The operation failed as a whole: `error` is the broker's `Error`."""

    def __init__(self, error: wire.Error) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Identity:
    """The files of a client: its certificate and key, and the authority of the broker's."""

    cert: Path
    key: Path
    ca: Path


class _Protocol(QuicConnectionProtocol):
    """Leads events to their streams, and tells them when something was sent."""

    streams: "dict[int, Operation]"
    closed: ConnectionClosed | None = None

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.ConnectionTerminated):
            application = event.frame_type is None
            self.closed = ConnectionClosed(event.error_code, application, event.reason_phrase)
            for stream in list(self.streams.values()):
                stream._on_end(self.closed)
            self.streams.clear()
        elif isinstance(event, events.StreamDataReceived):
            if operation := self.streams.get(event.stream_id):
                operation._on_data(event.data)
                if event.end_stream:
                    operation._on_end(None)
        elif isinstance(event, events.StreamReset):
            if operation := self.streams.get(event.stream_id):
                operation._on_end(Cut("the broker reset the stream", event.error_code))
        elif isinstance(event, events.StopSendingReceived):
            if operation := self.streams.get(event.stream_id):
                operation._on_stop(event.error_code)

    def transmit(self) -> None:
        super().transmit()
        for operation in list(self.streams.values()):
            operation._changed.set()

    def unsent(self, stream_id: int) -> int:
        """Bytes written to a stream that are not acknowledged yet.

        aioquic has no public way to ask, and takes any amount: this is what bounds a writer.
        """
        stream = self._quic._streams.get(stream_id)
        return len(stream.sender._buffer) if stream else 0


class Client:
    """A connection."""

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol

    @property
    def closed(self) -> ConnectionClosed | None:
        return self._protocol.closed

    async def wait_closed(self) -> ConnectionClosed:
        """Waits for the end of the connection, and tells how it ended."""
        await self._protocol.wait_closed()
        assert self._protocol.closed
        return self._protocol.closed

    def open(self) -> "Operation":
        """Opens a stream. Without stream credit, what is written waits for it."""
        return Operation(self._protocol)

    def open_raw(self) -> "RawStream":
        """Opens a stream whose answer is bytes."""
        return RawStream(self._protocol)

    async def batch(self, opening: wire.Batch | None = None) -> "BatchStream":
        """Opens a batch. What the broker grants is the first of its events."""
        stream = BatchStream(self._protocol)
        await stream.send(opening or wire.Batch(batch_id=uuid7()))
        return stream

    async def describe(
        self, subject: wire.Subject, tenant: str | None = None
    ) -> list[wire.BrokerFrame]:
        """Asks, and gives the frames of the answer without its `End`."""
        stream = self.open()
        await stream.send(wire.Describe(subject=subject, tenant=tenant))
        stream.finish()
        answer: list[wire.BrokerFrame] = []
        while True:
            frame = await stream.receive()
            if isinstance(frame, wire.End):
                return answer
            if isinstance(frame, wire.Error):
                raise Refused(frame)
            answer.append(frame)


@asynccontextmanager
async def connect(
    host: str,
    port: int,
    identity: Identity | None,
    ca: Path | None = None,
    server_name: str = "localhost",
    alpn: str = ALPN,
    idle_timeout: float = IDLE_TIMEOUT_S,
) -> AsyncIterator[Client]:
    """Connects, and closes with `DONE` at the end.

    After `idle_timeout` seconds without a sign of life either side gives the other up.

    A broker that refuses the client's certificate may do so after this has succeeded:
    then the first operation raises `ConnectionClosed`.
    """
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[alpn],
        idle_timeout=idle_timeout,
        server_name=server_name,
        supported_versions=[QuicProtocolVersion.VERSION_1],
    )
    trusted = ca or (identity and identity.ca)
    configuration.load_verify_locations(cafile=str(trusted) if trusted else None)
    if identity:
        configuration.load_cert_chain(identity.cert, identity.key)

    loop = asyncio.get_running_loop()
    family, _, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Protocol(QuicConnection(configuration=configuration)), family=family,
        local_addr=("::" if family == socket.AF_INET6 else "0.0.0.0", 0),
    )
    protocol.streams = {}
    transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES
    )
    keep_alive = asyncio.create_task(_keep_alive(protocol))
    try:
        protocol.connect(address)
        try:
            await protocol.wait_connected()
        except ConnectionError:
            assert protocol.closed
            raise protocol.closed from None
        yield Client(protocol)
    finally:
        keep_alive.cancel()
        protocol.close(error_code=Close.DONE)
        with suppress(asyncio.TimeoutError):
            # aioquic stays for three probe time-outs, to repeat the close for packets that still
            # come: after a busy time on a slow machine these take seconds.
            await asyncio.wait_for(protocol.wait_closed(), CLOSING_S)
        transport.close()


async def _keep_alive(protocol: _Protocol) -> None:
    while True:
        await asyncio.sleep(KEEP_ALIVE_S)
        if protocol.streams:
            protocol._quic.send_ping(0)
            protocol.transmit()


class Operation:
    """One bidirectional stream: frames out, frames in."""

    def __init__(self, protocol: _Protocol) -> None:
        self.stopped: int | None = None
        """The code of the broker's STOP_SENDING."""
        self.alive_frames = 0
        """How many empty frames came."""
        self.frame_bytes_max = wire.FRAME_BYTES_MOST
        """What the broker may send: the format's bound. What it tells is for the client to keep."""
        self._protocol = protocol
        self._splitter = wire.Splitter()
        self._frames: deque[bytes] = deque()
        self._unread = 0
        self._burst = 0
        self._ended = False
        self._fault: Exception | None = None
        self._finished = False
        self._changed = asyncio.Event()
        if protocol.closed:
            raise protocol.closed
        self.stream_id = protocol._quic.get_next_available_stream_id()
        # Writing nothing takes the number, and sends nothing.
        protocol._quic.send_stream_data(self.stream_id, b"")
        protocol.streams[self.stream_id] = self

    # Writing

    async def send(self, *frames: Any) -> None:
        """Sends frames, all in one write."""
        await self.write(b"".join(self._encode(frame) for frame in frames))

    async def write(self, data: bytes) -> None:
        """Sends bytes as they are, and waits while too many are under way."""
        while True:
            self._check_writing()
            if self._protocol.unsent(self.stream_id) < UNSENT_BYTES_MOST:
                break
            self._changed.clear()
            await self._changed.wait()
        self._protocol._quic.send_stream_data(self.stream_id, data)
        # Soon and not at once: many small frames then share packets.
        self._protocol._transmit_soon()
        self._burst += len(data)
        if self._burst >= BURST_BYTES:
            # A loop of writes must let the others have their turn: packets go out and come in.
            self._burst = 0
            await asyncio.sleep(0)

    def finish(self) -> None:
        """Ends this side of the stream (FIN)."""
        self._check_writing()
        self._finished = True
        self._protocol._quic.send_stream_data(self.stream_id, b"", end_stream=True)
        self._protocol.transmit()

    def reset(self, code: int) -> None:
        """RESET_STREAM: what was not sent yet never is."""
        self._finished = True
        self._protocol._quic.reset_stream(self.stream_id, code)
        self._protocol.transmit()

    def stop(self, code: int) -> None:
        """STOP_SENDING: the broker writes no more."""
        if not self._ended:
            self._protocol._quic.stop_stream(self.stream_id, code)
            self._protocol.transmit()

    def _check_writing(self) -> None:
        if self._protocol.closed:
            raise self._protocol.closed
        if self.stopped is not None:
            raise Stopped(f"STOP_SENDING with code {self.stopped}")
        if self._ended:
            raise Stopped("the broker's side is over")
        if self._finished:
            raise RuntimeError("this side of the stream is over")

    # How frames are written and read: a stream of work has its own.

    def _encode(self, frame: Any) -> bytes:
        return wire.encode(frame)

    def _decode(self, data: bytes) -> Any:
        return wire.decode_broker(data)

    # Reading

    async def receive(self) -> Any:
        """The next frame that says something. Any end of the stream is a `Cut` or worse."""
        while True:
            data = await self._next()
            if data is None:
                raise self._fault or Cut("the stream ended without a final frame")
            if len(data) > self.frame_bytes_max:
                raise self.fault(f"a frame of {len(data)} bytes")
            try:
                frame = self._decode(data)
                _check(frame)
            except wire.WireError as error:
                raise self.fault(str(error)) from error
            if not isinstance(frame, wire.Alive):
                return frame
            self.alive_frames += 1

    async def wait_stopped(self) -> int:
        """Waits for the broker's STOP_SENDING, and gives its code."""
        while self.stopped is None:
            if self._protocol.closed:
                raise self._protocol.closed
            self._changed.clear()
            await self._changed.wait()
        return self.stopped

    async def end(self) -> None:
        """Waits for the broker's FIN, and raises for anything else that comes."""
        data = await self._next()
        if data is not None:
            raise self.fault("a frame after the final one")
        if self._fault:
            raise self._fault

    def fault(self, why: str) -> Cut:
        """The broker broke the protocol: gives the stream up."""
        self.reset(Stream.CANCEL_ALL)
        self.stop(Stream.CANCEL_ALL)
        self._protocol.streams.pop(self.stream_id, None)
        return Cut(why)

    async def _next(self) -> bytes | None:
        while not self._frames:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        data = self._frames.popleft()
        self._unread -= len(data)
        return data

    # What the protocol tells

    def _on_data(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            for frame in self._splitter.feed(data):
                self._frames.append(frame)
                self._unread += len(frame)
            if self._unread > UNREAD_BYTES_MOST:
                raise Cut("the program does not read")
        except (wire.TooLarge, Cut) as error:
            self.fault(str(error))
            self._on_end(Cut(str(error)))
        self._changed.set()

    def _on_end(self, fault: Exception | None) -> None:
        if fault is None and self._splitter.within_a_frame:
            fault = Cut("the stream ended within a frame")
        if not self._ended:
            self._ended = True
            self._fault = fault
        self._forget_if_over()
        self._changed.set()

    def _on_stop(self, code: int) -> None:
        self.stopped = code
        self._forget_if_over()
        self._changed.set()

    def _forget_if_over(self) -> None:
        # When this side is open at the broker's FIN, its STOP_SENDING is still to come.
        if self._ended and (self._finished or self.stopped is not None):
            self._protocol.streams.pop(self.stream_id, None)


class RawStream(Operation):
    """A stream whose answer is bytes, not frames."""

    def __init__(self, protocol: _Protocol) -> None:
        super().__init__(protocol)
        self._bytes = bytearray()

    async def read_to_end(self) -> bytes:
        """What comes until the broker's FIN. Any other end of the stream raises."""
        while not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if self._fault:
            raise self._fault
        return bytes(self._bytes)

    def _on_data(self, data: bytes) -> None:
        self._bytes += data
        if len(self._bytes) > wire.FRAME_BYTES_MOST:
            self._on_end(self.fault("more bytes than any payload has"))
        self._changed.set()


class BatchStream(Operation):
    """A batch: the client's side of section 8."""

    def __init__(self, protocol: _Protocol) -> None:
        super().__init__(protocol)
        self.accepted: wire.Accepted | None = None
        self.results: dict[int, wire.Result] = {}
        self.jobs: dict[int, wire.JobAccepted] = {}
        self._sent = 0
        self._last_id = 0
        self._open: set[int] = set()

    async def request(
        self, recipe: str, payload: bytes = b"", timeout_ms: int | None = None
    ) -> int:
        """Sends an item under the next id, and gives the id."""
        return await self.send_request(wire.Request(
            id=self._last_id + 1, recipe=recipe, timeout_ms=timeout_ms, payload=payload,
        ))

    async def send_request(self, request: wire.Request, checked: bool = True) -> int:
        data = wire.encode(request, checked)
        # Before the write: the answer must not come before the id is known.
        self._sent += 1
        self._last_id = request.id
        self._open.add(request.id)
        await self.write(data)
        return request.id

    async def seal(self, items: int | None = None) -> None:
        await self.send(wire.Seal(items=self._sent if items is None else items))

    async def cancel(self, scope: wire.CancelScope) -> None:
        """Cancels in band. No request may follow."""
        await self.send(wire.Cancel(scope=scope))

    async def events(self) -> AsyncIterator[wire.BrokerFrame]:
        """What comes, up to and with the `Summary`. An `Error` raises `Refused`."""
        while True:
            frame = await self.receive()
            self._note(frame)
            yield frame
            if isinstance(frame, wire.Summary):
                return

    async def finished(self) -> wire.Summary:
        """Reads to the end."""
        async for frame in self.events():
            if isinstance(frame, wire.Summary):
                return frame
        raise AssertionError("events() ends with a summary or raises")

    def _note(self, frame: wire.BrokerFrame) -> None:
        if isinstance(frame, wire.Error):
            raise Refused(frame)
        if isinstance(frame, wire.Accepted):
            if self.accepted:
                raise self.fault("a second `Accepted`")
            self.accepted = frame
            return
        if not self.accepted:
            raise self.fault(f"`{type(frame).__name__}` before `Accepted`")
        if isinstance(frame, (wire.Progress, wire.Result, wire.JobAccepted)):
            if frame.id not in self._open:
                raise self.fault(f"item {frame.id} was not sent or has its result")
            if isinstance(frame, wire.Result):
                self._open.remove(frame.id)
                self.results[frame.id] = frame
            if isinstance(frame, wire.JobAccepted):
                self.jobs[frame.id] = frame
        elif not isinstance(frame, (wire.Throttled, wire.Notice, wire.Summary)):
            raise self.fault(f"`{type(frame).__name__}` in a batch")


def _check(frame: wire.BrokerFrame) -> None:
    """What a frame must keep beyond its encoding."""
    for extension in getattr(frame, "extensions", ()):
        if extension.critical:
            raise wire.Malformed(f"critical extension {extension.number} is unknown")
    if isinstance(frame, wire.Result) and isinstance(frame.body, bytes) != (frame.code == 0):
        raise wire.Malformed("`code` and `body` disagree")
    if isinstance(frame, wire.Error) and frame.code == 0:
        raise wire.Malformed("an `Error` of code 0")


def uuid7() -> bytes:
    """A UUID of version 7 (RFC 9562)."""
    stamp = time.time_ns() // 1_000_000
    data = bytearray(stamp.to_bytes(6, "big") + os.urandom(10))
    data[6] = data[6] & 0x0F | 0x70
    data[8] = data[8] & 0x3F | 0x80
    return bytes(data)
