"""The frames of jobs: sections 5, 6 and 16 of PROTOCOL.md."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, TypeAlias

from .values import (
    U16, U32, U64, Byte, Enumeration, Extensions, Flag, Id16, List, Name, Option, OptU64, Str,
    Struct, Tenant, Text, Uint, Union,
)

Id = Annotated[bytes, Id16()]
Cursor = Annotated[str | None, Option(Str(256))]


class CancelScope(IntEnum):
    Pending = 0
    All = 1


class State(IntEnum):
    Queued = 0
    Running = 1
    Retrying = 2
    Succeeded = 3
    Failed = 4
    Cancelled = 5
    Dead = 6


@dataclass(frozen=True, kw_only=True)
class Number:
    """A place in the order of numbered frames; (0, 0) is before all of them."""

    epoch: U64 = 0
    sequence: U64 = 0


OfNumber = Annotated[Number, Struct(Number)]


@dataclass(frozen=True, kw_only=True)
class OfJob:
    job_id: Id


@dataclass(frozen=True, kw_only=True)
class OfBatch:
    batch_id: Id


@dataclass(frozen=True, kw_only=True)
class Attach:
    target: Annotated[OfJob | OfBatch, Union(OfJob, OfBatch)]
    tenant: Tenant = None
    after: OfNumber = Number()
    follow: Flag = True
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class Filter:
    """`states`: bit n for the state of number n; 0 for any."""

    states: Annotated[int, Byte(0x7F)] = 0
    recipe: Annotated[str | None, Option(Str(128))] = None
    batch_id: Annotated[bytes | None, Option(Id16())] = None


@dataclass(frozen=True, kw_only=True)
class One:
    job_id: Id


@dataclass(frozen=True, kw_only=True)
class Matching:
    filter: Annotated[Filter, Struct(Filter)] = Filter()


Which = Annotated[One | Matching, Union(One, Matching)]


@dataclass(frozen=True, kw_only=True)
class Get:
    job_id: Id


@dataclass(frozen=True, kw_only=True)
class ListJobs:
    filter: Annotated[Filter, Struct(Filter)] = Filter()
    cursor: Cursor = None
    limit: Annotated[int, Uint(32, most=1_000)] = 0


@dataclass(frozen=True, kw_only=True)
class CancelJobs:
    which: Which
    scope: Annotated[CancelScope, Enumeration(CancelScope)] = CancelScope.All


@dataclass(frozen=True, kw_only=True)
class Replay:
    which: Which


@dataclass(frozen=True, kw_only=True)
class Purge:
    which: Which


Action: TypeAlias = Get | ListJobs | CancelJobs | Replay | Purge


@dataclass(frozen=True, kw_only=True)
class Job:
    tenant: Tenant = None
    action: Annotated[Action, Union(Get, ListJobs, CancelJobs, Replay, Purge)]
    extensions: Extensions = ()


@dataclass(frozen=True, kw_only=True)
class JobAccepted:
    id: U64
    tenant: Tenant
    job_id: Id
    existing: Flag
    number: OfNumber
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class Gap:
    epoch: U64
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class AttemptError:
    attempt: U32
    at_unix_ms: U64
    code: U16
    message: Annotated[str, Str(512)]


@dataclass(frozen=True, kw_only=True)
class JobInfo:
    """The broker's frame `Job`."""

    job_id: Id
    batch_id: Id
    item_id: U64
    recipe: Name
    state: Annotated[State, Enumeration(State)]
    priority: Annotated[int, Byte()]
    attempts: U32
    attempts_max: U32
    payload_bytes: U64
    result_bytes: U64
    created_unix_ms: U64
    started_unix_ms: OptU64
    due_unix_ms: OptU64
    ended_unix_ms: OptU64
    expires_unix_ms: OptU64
    done: U64
    total: U64
    message: Text
    idempotency_key: Annotated[str | None, Option(Str(256))]
    accepted: OfNumber
    ended: OfNumber
    errors: Annotated[tuple[AttemptError, ...], List(Struct(AttemptError), most=32)]
    extensions: Extensions


@dataclass(frozen=True, kw_only=True)
class Jobs:
    count: U64
    next: Cursor
