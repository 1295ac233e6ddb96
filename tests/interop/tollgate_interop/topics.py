"""The frames of topics: sections 5, 6 and 17 of PROTOCOL.md, but for `ProduceFailed`, which has a
failure and is in `wire`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, TypeAlias

from .values import (
    Bytes, Enumeration, Extensions, Flag, Id16, List, Metadata, Name, Option, OptU64, Pair, Payload,
    Str, Struct, Tenant, U32, U64, Uint, Union,
)

PARTITIONS_MOST = 1_024

Id = Annotated[bytes, Id16()]
Key = Annotated[bytes | None, Option(Bytes(1_024))]
Cursor = Annotated[str | None, Option(Str(256))]
OptName = Annotated[str | None, Option(Str(128))]
OptU32 = Annotated[int | None, Option(Uint(32))]
PageLimit = Annotated[int, Uint(32, most=1_000)]


# Frames of the client


class Acks(IntEnum):
    Synced = 0
    Received = 1


@dataclass(frozen=True, kw_only=True)
class Producer:
    id: Id
    epoch: U64


@dataclass(frozen=True, kw_only=True)
class Produce:
    topic: Name
    tenant: Tenant = None
    producer: Annotated[Producer | None, Option(Struct(Producer))] = None
    acks: Annotated[Acks, Enumeration(Acks)] = Acks.Synced
    extensions: Extensions = ()


@dataclass(frozen=True)
class Earliest:
    pass


@dataclass(frozen=True)
class Latest:
    pass


@dataclass(frozen=True)
class Offset:
    offset: U64


@dataclass(frozen=True)
class Time:
    time: U64


Start: TypeAlias = Earliest | Latest | Offset | Time
OfStart = Annotated[Start, Union(Earliest, Latest, Offset, Time)]


@dataclass(frozen=True, kw_only=True)
class Consume:
    topic: Name
    tenant: Tenant = None
    partition: OptU32 = None
    from_: OfStart = Earliest()
    offsets: Annotated[
        tuple[tuple[int, int], ...], List(Pair(Uint(32), Uint(64)), most=PARTITIONS_MOST)
    ] = ()
    group: OptName = None
    ack_timeout_ms: U64 = 0
    in_flight_max: U32 = 0
    follow: Flag = True
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class Retention:
    age_ms: OptU64 = None
    bytes: OptU64 = None


OfRetention = Annotated[Retention, Struct(Retention)]


@dataclass(frozen=True, kw_only=True)
class Create:
    topic: Name
    partitions: Annotated[int, Uint(32, most=PARTITIONS_MOST)] = 0
    retention: OfRetention = Retention()


@dataclass(frozen=True, kw_only=True)
class Delete:
    topic: Name


@dataclass(frozen=True, kw_only=True)
class Get:
    topic: Name


@dataclass(frozen=True, kw_only=True)
class ListTopics:
    cursor: Cursor = None
    limit: PageLimit = 0


@dataclass(frozen=True, kw_only=True)
class Update:
    topic: Name
    retention: OfRetention


@dataclass(frozen=True, kw_only=True)
class GetMessage:
    id: Id


@dataclass(frozen=True, kw_only=True)
class DeleteMessage:
    id: Id


OfTopic: TypeAlias = Create | Delete | Get | ListTopics | Update | GetMessage | DeleteMessage


@dataclass(frozen=True, kw_only=True)
class Topic:
    tenant: Tenant = None
    action: Annotated[
        OfTopic, Union(Create, Delete, Get, ListTopics, Update, GetMessage, DeleteMessage)
    ]
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class GetGroup:
    topic: Name
    group: Name


@dataclass(frozen=True, kw_only=True)
class ListGroups:
    topic: OptName = None
    cursor: Cursor = None
    limit: PageLimit = 0


@dataclass(frozen=True, kw_only=True)
class DeleteGroup:
    topic: Name
    group: Name


@dataclass(frozen=True, kw_only=True)
class Reset:
    topic: Name
    group: Name
    partition: OptU32 = None
    to: OfStart


OfGroup: TypeAlias = GetGroup | ListGroups | DeleteGroup | Reset


@dataclass(frozen=True, kw_only=True)
class Group:
    tenant: Tenant = None
    action: Annotated[OfGroup, Union(GetGroup, ListGroups, DeleteGroup, Reset)]
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class Message:
    sequence: U64
    partition: OptU32 = None
    timestamp_unix_ms: OptU64 = None
    key: Key = None
    headers: Metadata = ()
    payload: Payload = b""


@dataclass(frozen=True, kw_only=True)
class Ack:
    partition: U32
    first: U64
    last: U64


@dataclass(frozen=True, kw_only=True)
class Nack:
    partition: U32
    first: U64
    last: U64


# Frames of the broker


@dataclass(frozen=True, kw_only=True)
class PartitionInfo:
    first: U64
    next: U64
    bytes: U64


@dataclass(frozen=True, kw_only=True)
class TopicInfo:
    """The broker's frame `Topic`."""

    topic: Name
    partitions: Annotated[
        tuple[PartitionInfo, ...], List(Struct(PartitionInfo), most=PARTITIONS_MOST)
    ]
    retention: OfRetention
    created_unix_ms: U64
    groups: U32
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class GroupPartition:
    position: U64
    next: U64
    in_flight: U32
    member: OptU64


@dataclass(frozen=True, kw_only=True)
class GroupInfo:
    """The broker's frame `Group`."""

    topic: Name
    group: Name
    members: U32
    generation: U64
    partitions: Annotated[
        tuple[GroupPartition, ...], List(Struct(GroupPartition), most=PARTITIONS_MOST)
    ]
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class Listed:
    count: U64
    next: Cursor


@dataclass(frozen=True, kw_only=True)
class ProduceAccepted:
    partitions: U32
    last_sequence: OptU64
    frame_bytes_max: U32
    payload_bytes_max: U64
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class Produced:
    sequence: U64
    count: U32
    partition: U32
    offset: U64
    duplicate: Flag


@dataclass(frozen=True, kw_only=True)
class Received:
    sequence: U64


@dataclass(frozen=True, kw_only=True)
class ConsumeAccepted:
    partitions: U32
    ack_timeout_ms: U64
    in_flight_max: U32
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class Delivery:
    partition: U32
    offset: U64
    id: Id
    timestamp_unix_ms: U64
    deliveries: U32
    key: Key
    headers: Metadata
    payload: Payload


@dataclass(frozen=True, kw_only=True)
class Assigned:
    generation: U64
    partitions: Annotated[tuple[int, ...], List(Uint(32), most=PARTITIONS_MOST)]


@dataclass(frozen=True, kw_only=True)
class Committed:
    partition: U32
    position: U64
