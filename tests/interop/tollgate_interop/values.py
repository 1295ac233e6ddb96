"""Values as bytes: section 4 of PROTOCOL.md. The frames made of them are in `wire`.

The annotation of a dataclass's field names its encoding and its bound, in the order of the
specification's tables, and `Struct` follows these annotations. A field whose name is a word of
Python's ends with an underscore.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

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
                error.field = error.field or name.rstrip("_")
                raise

    def get(self, source: Source) -> T:
        values = {}
        for name, codec in _fields(self.kind):
            try:
                values[name] = codec.get(source)
            except WireError as error:
                error.field = error.field or name.rstrip("_")
                raise
        return self.kind(**values)


class Union(Codec[Any]):
    """One of some dataclasses, by its place among them."""

    def __init__(self, *kinds: type) -> None:
        self.kinds = kinds

    def put(self, sink: Sink, value: Any) -> None:
        sink.varint(self.kinds.index(type(value)))
        Struct(type(value)).put(sink, value)

    def get(self, source: Source) -> Any:
        number = source.varint()
        if number >= len(self.kinds):
            raise Malformed(f"{number} is none of {len(self.kinds)} kinds")
        return Struct(self.kinds[number]).get(source)


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
