"""The frames of a stream of work: section 15 of PROTOCOL.md.

`wire.Work` opens the stream. From then on each direction has numbers of its own; `Notice`, `Error`
and `End` have the fields that they have elsewhere.
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias, cast

from .values import (
    Bytes, Enumeration, Extensions, Flag, Id16, Malformed, Metadata, Name, Option, OptU64, Source,
    Str, Text, U16, U32, U64, Uint,
)
from .wire import Alive, Encoding, End, Error, Notice, decode_as, encode_as, framed

INLINE_BYTES_MOST = 65_536

OptU32 = Annotated[int | None, Option(Uint(32))]
Inline = Annotated[bytes, Bytes(INLINE_BYTES_MOST)]


# Frames of the worker


@dataclass(frozen=True, kw_only=True)
class Register:
    name: Name
    encoding: Annotated[Encoding, Enumeration(Encoding)] = Encoding.Bytes
    timeout_ms: OptU64 = None
    queue_timeout_ms: OptU64 = None
    estimated_duration_ms: U64 = 0
    concurrency_max: OptU32 = None
    idempotent: Flag = False
    attempts_max: U32 = 5
    retry_first_ms: U64 = 1_000
    retry_factor_percent: U32 = 200
    retry_cap_ms: U64 = 300_000
    payload_bytes_max: OptU64 = None
    result_bytes_max: OptU64 = None
    description: Text = ""
    schema: Annotated[str | None, Option(Str(65_536))] = None
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class Credit:
    add: Annotated[int, Uint(32, most=65_536)]


@dataclass(frozen=True, kw_only=True)
class Progress:
    lease: U64
    done: U64
    total: U64
    message: Text = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    lease: U64
    metadata: Metadata = ()
    payload: Inline = b""


@dataclass(frozen=True, kw_only=True)
class Failed:
    lease: U64
    code: U16
    permanent: Flag = False
    message: Text = ""
    retry_after_ms: OptU64 = None
    app_code: Annotated[str | None, Option(Str(128))] = None
    details: Metadata = ()


@dataclass(frozen=True)
class Drain:
    pass


WorkerFrame: TypeAlias = Register | Credit | Progress | Answer | Failed | Drain


# Frames of the broker to a worker


@dataclass(frozen=True, kw_only=True)
class Registered:
    recipe: U32


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    lease: U64
    recipe: U32
    attempt: U32
    timeout_ms: U64
    item_id: U64
    batch_id: Annotated[bytes, Id16()]
    tenant: Annotated[str, Str(63)]
    traceparent: Annotated[str | None, Option(Str(256))] = None
    metadata: Metadata = ()
    apart: OptU64 = None
    payload: Inline = b""


@dataclass(frozen=True, kw_only=True)
class Cancel:
    lease: U64


DispatchFrame: TypeAlias = Alive | Registered | Dispatch | Cancel | Notice | Error | End

WORKER_FRAMES: dict[int, type] = {
    0: Register, 1: Credit, 2: Progress, 3: Answer, 4: Failed, 5: Drain,
}
DISPATCH_FRAMES: dict[int, type] = {
    0: Registered, 1: Dispatch, 2: Cancel, 3: Notice, 4: Error, 5: End,
}


def encode_worker(frame: WorkerFrame, checked: bool = True) -> bytes:
    """A worker's frame, prefix included. Unchecked, it may break the bounds of its fields."""
    return encode_as(_number(WORKER_FRAMES, frame), frame, checked)


def encode_dispatch(frame: DispatchFrame) -> bytes:
    """A frame to a worker, prefix included."""
    if isinstance(frame, Alive):
        return framed(b"")
    return encode_as(_number(DISPATCH_FRAMES, frame), frame)


def decode_worker(data: bytes) -> WorkerFrame:
    """The worker's frame in `data`, which is a whole frame without its prefix."""
    if not data:
        raise Malformed("an empty frame")
    source = Source(data)
    return cast(WorkerFrame, decode_as(WORKER_FRAMES, source.varint(), source))


def decode_dispatch(data: bytes) -> DispatchFrame:
    """The frame to a worker in `data`, which is a whole frame without its prefix."""
    if not data:
        return Alive()
    source = Source(data)
    return cast(DispatchFrame, decode_as(DISPATCH_FRAMES, source.varint(), source))


def _number(frames: dict[int, type], frame: object) -> int:
    return next(number for number, kind in frames.items() if isinstance(frame, kind))
