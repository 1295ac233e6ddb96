"""Frames as bytes and as values: sections 3 to 6 of PROTOCOL.md. Those of workers are in `work`.

Each frame is a dataclass. The annotation of a field names its encoding and its bound, in the
order of the specification's tables, and `encode` and `decode_*` follow these annotations.

Bounds of length are checked both ways. What only the broker judges (the pattern of a recipe's
name, ids that rise) is not checked here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, cast, get_type_hints

PREFIX_BYTES = 4
FRAME_BYTES_DEFAULT = 1 << 20
FRAME_BYTES_MOST = 16 << 20

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)


class WireError(Exception):
    """A frame that is wrong; `field` is the field at fault as the tables name it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.field = ""

    def __str__(self) -> str:
        return f"field `{self.field}`: {self.why}" if self.field else self.why


class Malformed(WireError):
    """The frame cannot be taken apart."""


class OutOfBounds(WireError):
    """The frame can be taken apart, and a field breaks its bound."""


class TooLarge(WireError):
    """The prefix announces more than this side accepts."""


# Section 4: encoding of values


class Source:
    """A cursor over one frame."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def byte(self) -> int:
        if self._at == len(self._data):
            raise Malformed("it reaches past the end of the frame")
        self._at += 1
        return self._data[self._at - 1]

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Malformed("it reaches past the end of the frame")
        self._at += count
        return self._data[self._at - count:self._at]

    def varint(self, bits: int = 64) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> bits:
                    raise Malformed(f"it does not fit {bits} bits")
                return value
        raise Malformed("a varint of more than ten bytes")


class Sink:
    """The bytes of a frame under construction. Unchecked, it lets bounds be broken."""

    def __init__(self, checked: bool) -> None:
        self.data = bytearray()
        self._checked = checked

    def bound(self, good: bool, why: str) -> None:
        if self._checked and not good:
            raise OutOfBounds(why)

    def varint(self, value: int, bits: int = 64) -> None:
        if value < 0 or value >> bits:
            raise OutOfBounds(f"{value} does not fit {bits} bits")
        while value >= 0x80:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)


class Codec(Generic[T]):
    """How one type of value is written and read."""

    def put(self, sink: Sink, value: T) -> None:
        raise NotImplementedError

    def get(self, source: Source) -> T:
        raise NotImplementedError


class Uint(Codec[int]):
    def __init__(self, bits: int, most: int | None = None) -> None:
        self.bits = bits
        self.most = (1 << bits) - 1 if most is None else most

    def put(self, sink: Sink, value: int) -> None:
        sink.bound(value <= self.most, f"{value} is more than {self.most}")
        sink.varint(value, self.bits)

    def get(self, source: Source) -> int:
        value = source.varint(self.bits)
        if value > self.most:
            raise OutOfBounds(f"{value} is more than {self.most}")
        return value


class Byte(Codec[int]):
    def __init__(self, most: int = 255) -> None:
        self.most = most

    def put(self, sink: Sink, value: int) -> None:
        sink.bound(value <= self.most, f"{value} is more than {self.most}")
        sink.data.append(value)

    def get(self, source: Source) -> int:
        value = source.byte()
        if value > self.most:
            raise OutOfBounds(f"{value} is more than {self.most}")
        return value


class Bool(Codec[bool]):
    def put(self, sink: Sink, value: bool) -> None:
        sink.data.append(int(value))

    def get(self, source: Source) -> bool:
        byte = source.byte()
        if byte > 1:
            raise Malformed(f"{byte} is no bool")
        return byte == 1


class Enumeration(Codec[E]):
    def __init__(self, kind: type[E]) -> None:
        self.kind = kind

    def put(self, sink: Sink, value: E) -> None:
        sink.varint(int(value))

    def get(self, source: Source) -> E:
        number = source.varint()
        try:
            return self.kind(number)
        except ValueError:
            raise Malformed(f"{number} is no {self.kind.__name__}") from None


class Option(Codec[T | None]):
    def __init__(self, inner: Codec[T]) -> None:
        self.inner = inner

    def put(self, sink: Sink, value: T | None) -> None:
        sink.data.append(0 if value is None else 1)
        if value is not None:
            self.inner.put(sink, value)

    def get(self, source: Source) -> T | None:
        tag = source.byte()
        if tag > 1:
            raise Malformed(f"{tag} is no tag of an option")
        return self.inner.get(source) if tag else None


class Bytes(Codec[bytes]):
    def __init__(self, most: int) -> None:
        self.most = most

    def put(self, sink: Sink, value: bytes) -> None:
        sink.bound(len(value) <= self.most, f"{len(value)} bytes of at most {self.most}")
        sink.varint(len(value))
        sink.data += value

    def get(self, source: Source) -> bytes:
        value = source.take(source.varint())
        if len(value) > self.most:
            raise OutOfBounds(f"{len(value)} bytes of at most {self.most}")
        return value


class Str(Codec[str]):
    def __init__(self, most: int) -> None:
        self._bytes = Bytes(most)

    def put(self, sink: Sink, value: str) -> None:
        self._bytes.put(sink, value.encode())

    def get(self, source: Source) -> str:
        try:
            return self._bytes.get(source).decode()
        except UnicodeDecodeError:
            raise OutOfBounds("it is not UTF-8") from None


class Id16(Codec[bytes]):
    def put(self, sink: Sink, value: bytes) -> None:
        if len(value) != 16:
            raise OutOfBounds("it takes 16 bytes")
        sink.data += value

    def get(self, source: Source) -> bytes:
        return source.take(16)


class List(Codec[tuple[T, ...]]):
    def __init__(self, inner: Codec[T], most: int) -> None:
        self.inner = inner
        self.most = most

    def put(self, sink: Sink, value: tuple[T, ...]) -> None:
        sink.bound(len(value) <= self.most, f"{len(value)} elements of at most {self.most}")
        sink.varint(len(value))
        for element in value:
            self.inner.put(sink, element)

    def get(self, source: Source) -> tuple[T, ...]:
        count = source.varint()
        if count > source.left:
            raise Malformed(f"{count} elements do not fit the frame")
        if count > self.most:
            raise OutOfBounds(f"{count} elements of at most {self.most}")
        return tuple(self.inner.get(source) for _ in range(count))


class Pair(Codec[tuple[Any, Any]]):
    def __init__(self, first: Codec[Any], second: Codec[Any]) -> None:
        self.first = first
        self.second = second

    def put(self, sink: Sink, value: tuple[Any, Any]) -> None:
        self.first.put(sink, value[0])
        self.second.put(sink, value[1])

    def get(self, source: Source) -> tuple[Any, Any]:
        return self.first.get(source), self.second.get(source)


class Struct(Codec[T]):
    """Fields of a dataclass, one after the other."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind

    def put(self, sink: Sink, value: T) -> None:
        for name, codec in _fields(self.kind):
            try:
                codec.put(sink, getattr(value, name))
            except WireError as error:
                error.field = error.field or name
                raise

    def get(self, source: Source) -> T:
        values = {}
        for name, codec in _fields(self.kind):
            try:
                values[name] = codec.get(source)
            except WireError as error:
                error.field = error.field or name
                raise
        return self.kind(**values)


_FIELDS: dict[type, list[tuple[str, Codec[Any]]]] = {}


def _fields(kind: type) -> list[tuple[str, Codec[Any]]]:
    if kind not in _FIELDS:
        hints = get_type_hints(kind, include_extras=True)
        _FIELDS[kind] = [(name, hint.__metadata__[0]) for name, hint in hints.items()]
    return _FIELDS[kind]


_MAP_BYTES_MOST = 16_384
_PAIRS = List(Pair(Str(128), Str(4_096)), most=64)


class Map(Codec[tuple[tuple[str, str], ...]]):
    """Pairs in their order, repeated keys kept: `dict(value)` lets the last one count."""

    def put(self, sink: Sink, value: tuple[tuple[str, str], ...]) -> None:
        start = len(sink.data)
        _PAIRS.put(sink, value)
        # The count takes one byte: a checked map has at most 64 pairs.
        taken = len(sink.data) - start - 1
        sink.bound(taken <= _MAP_BYTES_MOST, f"{taken} bytes of at most {_MAP_BYTES_MOST}")

    def get(self, source: Source) -> tuple[tuple[str, str], ...]:
        value = _PAIRS.get(source)
        taken = sum(_str_bytes(key) + _str_bytes(text) for key, text in value)
        if taken > _MAP_BYTES_MOST:
            raise OutOfBounds(f"{taken} bytes of at most {_MAP_BYTES_MOST}")
        return value


def _str_bytes(text: str) -> int:
    """What `text` takes, its length included (one or two bytes at these bounds)."""
    length = len(text.encode())
    return length + (1 if length < 0x80 else 2)


@dataclass(frozen=True, kw_only=True)
class Extension:
    number: Annotated[int, Uint(32)]
    critical: Annotated[bool, Bool()]
    body: Annotated[bytes, Bytes(1_024)]


U16 = Annotated[int, Uint(16)]
U32 = Annotated[int, Uint(32)]
U64 = Annotated[int, Uint(64)]
Flag = Annotated[bool, Bool()]
OptU64 = Annotated[int | None, Option(Uint(64))]
Tenant = Annotated[str | None, Option(Str(63))]
Name = Annotated[str, Str(128)]
Text = Annotated[str, Str(4_096)]
Metadata = Annotated[tuple[tuple[str, str], ...], Map()]
Payload = Annotated[bytes, Bytes(FRAME_BYTES_MOST)]
Extensions = Annotated[tuple[Extension, ...], List(Struct(Extension), most=16)]


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


class CancelScope(IntEnum):
    Pending = 0
    All = 1


class Operation(IntEnum):
    """Operations that are reserved."""

    Attach = 1
    Job = 2
    Produce = 3
    Consume = 4
    Topic = 5
    Group = 6


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


@dataclass(frozen=True)
class Reserved:
    """A reserved operation; `rest` is whatever follows its number."""

    operation: Operation
    rest: bytes = b""


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
    Batch | Reserved | Describe | Request | Seal | Cancel | Detach | Work | Fetch | Deliver
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
    | Version | Recipe | Limits | Usage | End
)

CLIENT_FRAMES: dict[int, type] = {
    0: Batch, 7: Work, 8: Describe, 9: Request, 10: Seal, 11: Cancel, 12: Detach, 13: Fetch,
    14: Deliver,
}
BROKER_FRAMES: dict[int, type] = {
    0: Accepted, 1: Progress, 2: Result, 3: Throttled, 4: Notice, 7: Summary, 8: Error,
    9: Version, 10: Recipe, 11: Limits, 12: Usage, 13: End,
}
_NUMBERS = {
    kind: number
    for frames in (CLIENT_FRAMES, BROKER_FRAMES)
    for number, kind in frames.items()
}


def encode(frame: ClientFrame | BrokerFrame, checked: bool = True) -> bytes:
    """The frame's bytes, prefix included. Unchecked, it may break the bounds of its fields."""
    if isinstance(frame, Reserved):
        sink = Sink(checked)
        sink.varint(frame.operation)
        return framed(bytes(sink.data) + frame.rest)
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
    number = source.varint()
    if Operation.Attach <= number <= Operation.Group:
        return Reserved(Operation(number), source.take(source.left))
    return cast(ClientFrame, decode_as(CLIENT_FRAMES, number, source))


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
