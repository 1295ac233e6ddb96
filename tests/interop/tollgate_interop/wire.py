"""Frames as bytes and as values: sections 3, 5 and 6 of PROTOCOL.md. The values within them are in
`values`, the frames of jobs in `jobs`, those of topics in `topics`, those of workers in `work`.

Each frame is a dataclass, and `encode` and `decode_*` follow the annotations of its fields.

Bounds of length are checked both ways. What only the broker judges (the pattern of a recipe's
name, ids that rise) is not checked here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, TypeAlias, cast

from .jobs import Attach, CancelScope, Gap, Job, JobAccepted, JobInfo, Jobs
from .topics import (
    Ack, Assigned, Committed, Consume, ConsumeAccepted, Delivery, Group, GroupInfo, Listed, Message,
    Nack, Produce, ProduceAccepted, Produced, Received, Topic, TopicInfo,
)
from .values import (
    FRAME_BYTES_MOST, Byte, Bytes, Codec, Enumeration, Extension, Extensions, Flag, Id16, List,
    Malformed, Metadata, Name, Option, OptU64, OutOfBounds, Pair, Payload, Sink, Source, Str,
    Struct, Tenant, Text, TooLarge, U16, U32, U64, Uint, WireError,
)

# Whoever speaks of frames speaks of these as well.
__all__ = [
    "Ack", "Assigned", "Attach", "CancelScope", "Committed", "Consume", "ConsumeAccepted",
    "Delivery", "Extension", "FRAME_BYTES_MOST", "Gap", "Group", "GroupInfo", "Job", "JobAccepted",
    "JobInfo", "Jobs", "Listed", "Malformed", "Message", "Nack", "OutOfBounds", "Produce",
    "ProduceAccepted", "Produced", "Received", "Sink", "Source", "TooLarge", "Topic", "TopicInfo",
    "WireError",
]

PREFIX_BYTES = 4
FRAME_BYTES_DEFAULT = 1 << 20


# Section 5: frames of the client


class Durability(IntEnum):
    Ephemeral = 0
    Durable = 1


class Mode(IntEnum):
    BestEffort = 0
    FailFast = 1


class Order(IntEnum):
    Completion = 0
    Submission = 1


class Subject(IntEnum):
    Recipes = 0
    Limits = 1
    Usage = 2
    Version = 3


@dataclass(frozen=True, kw_only=True)
class Batch:
    batch_id: Annotated[bytes, Id16()]
    tenant: Tenant = None
    durability: Annotated[Durability, Enumeration(Durability)] = Durability.Ephemeral
    mode: Annotated[Mode, Enumeration(Mode)] = Mode.BestEffort
    order: Annotated[Order, Enumeration(Order)] = Order.Completion
    concurrency_max: U32 = 0
    deadline_ms: OptU64 = None
    priority: Annotated[int, Byte(7)] = 3
    traceparent: Annotated[str | None, Option(Str(256))] = None
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class Describe:
    subject: Annotated[Subject, Enumeration(Subject)]
    tenant: Tenant = None
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    id: U64
    recipe: Name
    timeout_ms: OptU64 = None
    idempotency_key: Annotated[str | None, Option(Str(256))] = None
    not_before_unix_ms: OptU64 = None
    tenant: Tenant = None
    metadata: Metadata = ()
    payload: Payload = b""


@dataclass(frozen=True, kw_only=True)
class Seal:
    items: U64


@dataclass(frozen=True, kw_only=True)
class Cancel:
    scope: Annotated[CancelScope, Enumeration(CancelScope)]


@dataclass(frozen=True)
class Detach:
    pass


@dataclass(frozen=True, kw_only=True)
class Work:
    credit: Annotated[int, Uint(32, most=65_536)]
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class Fetch:
    work: U64
    lease: U64


@dataclass(frozen=True, kw_only=True)
class Deliver:
    work: U64
    lease: U64
    size: U64
    metadata: Metadata = ()


ClientFrame: TypeAlias = (
    Batch | Attach | Job | Produce | Consume | Topic | Group | Work | Describe | Request | Seal
    | Cancel | Detach | Fetch | Deliver | Message | Ack | Nack
)


# Section 6: frames of the broker


class QuotaScope(IntEnum):
    Tenant = 0
    Gateway = 1
    Broker = 2


class NoticeKind(IntEnum):
    Draining = 0
    CertificateExpiring = 1


class Ended(IntEnum):
    Sealed = 0
    Cancelled = 1
    DeadlineExceeded = 2
    FailFast = 3
    Cut = 4
    SealedByBroker = 5
    Draining = 6


class RecipeKind(IntEnum):
    Embedded = 0
    Http = 1
    Worker = 2


class Encoding(IntEnum):
    Json = 0
    Postcard = 1
    Bytes = 2


@dataclass(frozen=True)
class Alive:
    """The empty frame: nothing to say."""


@dataclass(frozen=True, kw_only=True)
class QuotaRefusal:
    quota: Name
    scope: Annotated[QuotaScope, Enumeration(QuotaScope)]
    current: U64
    limit: U64


@dataclass(frozen=True, kw_only=True)
class Failure:
    message: Text
    retryable: Flag
    side_effect_free: Flag
    retry_after_ms: OptU64 = None
    app_code: Annotated[str | None, Option(Str(128))] = None
    quota: Annotated[QuotaRefusal | None, Option(Struct(QuotaRefusal))] = None
    details: Metadata = ()


class Body(Codec[bytes | Failure]):
    """The end of a `Result`: 0 and a payload, or 1 and a failure."""

    _payload = Bytes(FRAME_BYTES_MOST)
    _failure = Struct(Failure)

    def put(self, sink: Sink, value: bytes | Failure) -> None:
        if isinstance(value, Failure):
            sink.varint(1)
            self._failure.put(sink, value)
        else:
            sink.varint(0)
            self._payload.put(sink, value)

    def get(self, source: Source) -> bytes | Failure:
        number = source.varint()
        if number > 1:
            raise Malformed(f"{number} is no body of a result")
        return self._failure.get(source) if number else self._payload.get(source)


@dataclass(frozen=True, kw_only=True)
class Accepted:
    concurrency_max: U32
    items_max: U64
    frame_bytes_max: U32
    payload_bytes_max: U64
    deadline_ms: OptU64
    last_id: OptU64
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class Progress:
    id: U64
    attempt: U32
    done: U64
    total: U64
    at_unix_ms: U64
    message: Text
    metadata: Metadata


@dataclass(frozen=True, kw_only=True)
class Result:
    id: U64
    tenant: Tenant
    status: U16
    code: U16
    attempts: U32
    queued_us: U64
    duration_us: U64
    epoch: U64
    sequence: U64
    metadata: Metadata
    extensions: Extensions
    body: Annotated[bytes | Failure, Body()]

    @property
    def payload(self) -> bytes:
        assert isinstance(self.body, bytes), self
        return self.body

    @property
    def failure(self) -> Failure:
        assert isinstance(self.body, Failure), self
        return self.body


@dataclass(frozen=True, kw_only=True)
class Throttled:
    quota: Name
    scope: Annotated[QuotaScope, Enumeration(QuotaScope)]
    current: U64
    limit: U64
    resume_ms: U64


@dataclass(frozen=True, kw_only=True)
class Notice:
    kind: Annotated[NoticeKind, Enumeration(NoticeKind)]
    at_unix_ms: U64
    message: Text


@dataclass(frozen=True, kw_only=True)
class Summary:
    ended: Annotated[Ended, Enumeration(Ended)]
    total: U64
    succeeded: U64
    failed: Annotated[tuple[tuple[int, int], ...], List(Pair(Uint(16), Uint(64)), most=256)]
    last_id_read: OptU64
    duration_us: U64
    bytes_in: U64
    bytes_out: U64
    throttled_us: U64
    epoch: U64
    sequence: U64
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class Error:
    code: U16
    failure: Annotated[Failure, Struct(Failure)]


@dataclass(frozen=True, kw_only=True)
class ProduceFailed:
    sequence: U64
    code: U16
    failure: Annotated[Failure, Struct(Failure)]


@dataclass(frozen=True, kw_only=True)
class Version:
    protocol: Name
    broker: Name


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: Name
    kind: Annotated[RecipeKind, Enumeration(RecipeKind)]
    encoding: Annotated[Encoding, Enumeration(Encoding)]
    timeout_ms: U64
    queue_timeout_ms: U64
    estimated_duration_ms: U64
    concurrency_max: U32
    blocking: Flag
    idempotent: Flag
    attempts_max: U32
    payload_bytes_max: U64
    result_bytes_max: U64
    description: Text
    schema: Annotated[str | None, Option(Str(65_536))]
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class Limits:
    frame_bytes_max: U32
    payload_bytes_max: U64
    batch_items_max: U64
    concurrency_max: U32
    batches_in_flight_max: U64
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class UsageLine:
    quota: Name
    current: U64
    limit: OptU64


@dataclass(frozen=True, kw_only=True)
class Usage:
    lines: Annotated[tuple[UsageLine, ...], List(Struct(UsageLine), most=64)]


@dataclass(frozen=True)
class End:
    pass


BrokerFrame: TypeAlias = (
    Alive | Accepted | Progress | Result | Throttled | Notice | Summary | Error
    | Version | Recipe | Limits | Usage | End | JobAccepted | Gap | JobInfo | Jobs | TopicInfo
    | GroupInfo | Listed | ProduceAccepted | Produced | Received | ProduceFailed | ConsumeAccepted
    | Delivery | Assigned | Committed
)

CLIENT_FRAMES: dict[int, type] = {
    0: Batch, 1: Attach, 2: Job, 3: Produce, 4: Consume, 5: Topic, 6: Group, 7: Work, 8: Describe,
    9: Request, 10: Seal, 11: Cancel, 12: Detach, 13: Fetch, 14: Deliver, 15: Message, 16: Ack,
    17: Nack,
}
BROKER_FRAMES: dict[int, type] = {
    0: Accepted, 1: Progress, 2: Result, 3: Throttled, 4: Notice, 5: JobAccepted, 6: Gap,
    7: Summary, 8: Error, 9: Version, 10: Recipe, 11: Limits, 12: Usage, 13: End, 14: JobInfo,
    15: Jobs, 16: TopicInfo, 17: GroupInfo, 18: Listed, 19: ProduceAccepted, 20: Produced,
    21: Received, 22: ProduceFailed, 23: ConsumeAccepted, 24: Delivery, 25: Assigned, 26: Committed,
}
_NUMBERS = {
    kind: number
    for frames in (CLIENT_FRAMES, BROKER_FRAMES)
    for number, kind in frames.items()
}


def encode(frame: ClientFrame | BrokerFrame, checked: bool = True) -> bytes:
    """The frame's bytes, prefix included. Unchecked, it may break the bounds of its fields."""
    if isinstance(frame, Alive):
        return framed(b"")
    return encode_as(_NUMBERS[type(frame)], frame, checked)


def encode_as(number: int, frame: object, checked: bool = True) -> bytes:
    """A frame under this number."""
    sink = Sink(checked)
    sink.varint(number)
    Struct(type(frame)).put(sink, frame)
    return framed(bytes(sink.data))


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(PREFIX_BYTES, "big") + data


def decode_client(data: bytes) -> ClientFrame:
    """The client's frame in `data`, which is a whole frame without its prefix."""
    source = Source(data)
    return cast(ClientFrame, decode_as(CLIENT_FRAMES, source.varint(), source))


def decode_broker(data: bytes) -> BrokerFrame:
    """The broker's frame in `data`, which is a whole frame without its prefix."""
    if not data:
        return Alive()
    source = Source(data)
    return cast(BrokerFrame, decode_as(BROKER_FRAMES, source.varint(), source))


def decode_as(frames: dict[int, type], number: int, source: Source) -> object:
    """What follows the number of one of these frames, to the end."""
    if number not in frames:
        raise Malformed(f"variant {number} is unknown")
    frame: object = Struct(frames[number]).get(source)
    if source.left:
        raise Malformed(f"{source.left} bytes after the last field")
    return frame


class Splitter:
    """Cuts a stream's bytes into frames.

    It keeps the bytes that have arrived and no more: a length is only compared, never
    allocated.
    """

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MOST) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._data = bytearray()

    @property
    def within_a_frame(self) -> bool:
        return bool(self._data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes, without their prefixes."""
        self._data += data
        at = 0
        try:
            while len(self._data) - at >= PREFIX_BYTES:
                length = int.from_bytes(self._data[at:at + PREFIX_BYTES], "big")
                if length > self.frame_bytes_max:
                    raise TooLarge(f"a frame of {length} bytes")
                end = at + PREFIX_BYTES + length
                if len(self._data) < end:
                    return
                frame = bytes(self._data[at + PREFIX_BYTES:end])
                at = end
                yield frame
        finally:
            del self._data[:at]
