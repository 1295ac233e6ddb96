"""The codec against protocol/vectors and against the hex and the tables of PROTOCOL.md."""

import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from tollgate_interop import codes, jobs, topics, wire, work

PROTOCOL = Path(__file__).resolve().parents[2] / "protocol"
SPECIFICATION = (PROTOCOL / "PROTOCOL.md").read_text(encoding="utf-8")
VECTORS: list[dict[str, Any]] = json.loads((PROTOCOL / "vectors" / "vectors.json").read_bytes())
BYTES = [pytest.param(v["direction"], bytes.fromhex(v["hex"]), id=v["name"]) for v in VECTORS]


READ: dict[str, Callable[[bytes], Any]] = {
    "client": wire.decode_client, "broker": wire.decode_broker,
    "worker": work.decode_worker, "dispatch": work.decode_dispatch,
}
WRITE: dict[str, Callable[[Any], bytes]] = {
    "client": wire.encode, "broker": wire.encode,
    "worker": work.encode_worker, "dispatch": work.encode_dispatch,
}


def decode(direction: str, framed: bytes) -> Any:
    [body] = wire.Splitter().feed(framed)
    return READ[direction](body)


# What is one of several kinds, and the kind's name.
VARIANTS = {
    jobs.OfJob: "Job", jobs.OfBatch: "Batch", jobs.One: "One", jobs.Get: "Get",
    jobs.ListJobs: "List", jobs.CancelJobs: "Cancel", jobs.Replay: "Replay", jobs.Purge: "Purge",
    topics.Earliest: "Earliest", topics.Latest: "Latest", topics.Offset: "Offset",
    topics.Time: "Time", topics.Create: "Create", topics.Delete: "Delete", topics.Get: "Get",
    topics.ListTopics: "List", topics.Update: "Update", topics.GetMessage: "GetMessage",
    topics.DeleteMessage: "DeleteMessage", topics.GetGroup: "Get", topics.ListGroups: "List",
    topics.DeleteGroup: "Delete", topics.Reset: "Reset",
}
# Frames of both sides that share a name.
FRAMES = {wire.JobInfo: "Job", wire.TopicInfo: "Topic", wire.GroupInfo: "Group"}


def as_json(value: Any) -> Any:
    """A value the way vectors.json shows it."""
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [as_json(element) for element in value]
    if isinstance(value, jobs.Matching):
        return {"Filter": as_json(value.filter)}
    if type(value) in VARIANTS:
        name, values = VARIANTS[type(value)], fields_as_json(value)
        return {name: values} if values else name
    if is_dataclass(value):
        return fields_as_json(value)
    return value


def fields_as_json(value: Any) -> Any:
    return {
        field.name.rstrip("_"): as_json(getattr(value, field.name)) for field in fields(value)
    }


def frame_as_json(frame: Any) -> Any:
    if isinstance(frame, wire.Alive):
        return None
    name, values = FRAMES.get(type(frame), type(frame).__name__), as_json(frame)
    if isinstance(frame, wire.Result):
        kind = "Failure" if isinstance(frame.body, wire.Failure) else "Payload"
        values["body"] = {kind: values["body"]}
    if isinstance(frame, wire.Cancel):
        return {name: values["scope"]}
    return {name: values} if values else name


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_both_ways(vector: dict[str, Any]) -> None:
    framed = bytes.fromhex(vector["hex"])
    frame = decode(vector["direction"], framed)
    assert frame_as_json(frame) == vector["frame"]
    assert WRITE[vector["direction"]](frame) == framed


def test_every_file_is_in_the_list_and_holds_its_bytes() -> None:
    files = {path.stem: path.read_text() for path in (PROTOCOL / "vectors").glob("*.hex")}
    assert {name: "".join(text.split()) for name, text in files.items()} == {
        vector["name"]: vector["hex"] for vector in VECTORS
    }


def test_every_variant_has_a_vector() -> None:
    seen = {
        (vector["direction"], type(decode(vector["direction"], bytes.fromhex(vector["hex"]))))
        for vector in VECTORS
    }
    frames = {
        "client": wire.CLIENT_FRAMES, "broker": wire.BROKER_FRAMES,
        "worker": work.WORKER_FRAMES, "dispatch": work.DISPATCH_FRAMES,
    }
    known = {(direction, kind) for direction, kinds in frames.items() for kind in kinds.values()}
    assert seen == known | {("broker", wire.Alive)}


@pytest.mark.parametrize("direction, framed", BYTES)
def test_every_shorter_frame_is_malformed(direction: str, framed: bytes) -> None:
    body = framed[4:]
    for end in range(1, len(body)):
        with pytest.raises(wire.Malformed):
            decode(direction, end.to_bytes(4, "big") + body[:end])


@pytest.mark.parametrize("direction, framed", BYTES)
def test_a_longer_frame_is_malformed(direction: str, framed: bytes) -> None:
    longer = (len(framed) - 3).to_bytes(4, "big") + framed[4:] + b"\0"
    with pytest.raises(wire.Malformed):
        decode(direction, longer)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_frames_are_cut_out_of_any_pieces(step: int) -> None:
    stream = b"".join(bytes.fromhex(vector["hex"]) for vector in VECTORS)
    splitter = wire.Splitter()
    found = [
        body
        for at in range(0, len(stream), step)
        for body in splitter.feed(stream[at:at + step])
    ]
    assert found == [bytes.fromhex(vector["hex"])[4:] for vector in VECTORS]
    assert not splitter.within_a_frame


def test_a_length_too_large_is_refused_before_its_bytes_come() -> None:
    splitter = wire.Splitter(frame_bytes_max=100)
    assert list(splitter.feed(bytes.fromhex("00000064"))) == []
    with pytest.raises(wire.TooLarge):
        list(wire.Splitter(frame_bytes_max=100).feed(bytes.fromhex("00000065")))


@pytest.mark.parametrize("value, text", [
    (0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (65535, "ffff03"),
    (2**32 - 1, "ffffffff0f"), (2**64 - 1, "ffffffffffffffffff01"),
])
def test_varints_of_the_specification(value: int, text: str) -> None:
    sink = wire.Sink(checked=True)
    sink.varint(value)
    assert sink.data.hex() == text
    assert wire.Source(bytes.fromhex(text)).varint() == value


def test_longer_varints_are_read_up_to_ten_bytes_and_what_fits() -> None:
    assert wire.Source(bytes.fromhex("8000")).varint() == 0
    assert wire.Source(bytes.fromhex("80808080808080808000")).varint(16) == 0
    for text, bits in [
        ("8080808080808080808000", 64),
        ("ffffffffffffffffff02", 64),
        ("80808010", 16),
        ("808004", 16),
        ("80", 64),
    ]:
        with pytest.raises(wire.Malformed):
            wire.Source(bytes.fromhex(text)).varint(bits)


@pytest.mark.parametrize("direction, text, kind, field", [
    ("client", "0a" + "80" * 10 + "00", wire.Malformed, "items"),
    ("client", "0b02", wire.Malformed, "scope"),
    ("client", "0f", wire.Malformed, "sequence"),
    ("client", "12", wire.Malformed, ""),
    ("client", "0d 00", wire.Malformed, "lease"),
    ("client", "07 818004 00", wire.OutOfBounds, "credit"),
    ("client", "0804 00 00", wire.Malformed, "subject"),
    ("client", "0801 02 00", wire.Malformed, "tenant"),
    ("client", "0801 01 01 ff 00", wire.OutOfBounds, "tenant"),
    ("client", "0801 01 40" + "61" * 64 + "00", wire.OutOfBounds, "tenant"),
    ("client", "00" + "00" * 16 + "00 00 00 00 00 00 08 00 00", wire.OutOfBounds, "priority"),
    ("client", "09 01 00 00 00 00 00 ff7f", wire.Malformed, "metadata"),
    ("client", "09 01 00 00 00 00 00 41" + "0000" * 65 + "00", wire.OutOfBounds, "metadata"),
    ("client", "09 01 00 00 00 00 00 00 05 61", wire.Malformed, "payload"),
    ("client", "01 02", wire.Malformed, "target"),
    ("client", "01 00" + "00" * 16 + "00 00 00 02 00", wire.Malformed, "follow"),
    ("client", "02 00 05", wire.Malformed, "action"),
    ("client", "02 00 01 80 00 00", wire.OutOfBounds, "states"),
    ("client", "02 00 01 00 00 00 00 e907 00", wire.OutOfBounds, "limit"),
    ("client", "02 00 04 02", wire.Malformed, "which"),
    ("client", "03 01 61 00 02", wire.Malformed, "producer"),
    ("client", "03 01 61 00 00 02 00", wire.Malformed, "acks"),
    ("client", "04 01 61 00 00 04", wire.Malformed, "from"),
    ("client", "04 01 61 00 00 02", wire.Malformed, "offset"),
    ("client", "04 01 61 00 00 00 81 08" + "0101" * 1_025, wire.OutOfBounds, "offsets"),
    ("client", "05 00 07", wire.Malformed, "action"),
    ("client", "05 00 00 01 61 81 08 00 00 00", wire.OutOfBounds, "partitions"),
    ("client", "05 00 03 00 e907 00", wire.OutOfBounds, "limit"),
    ("client", "06 00 04", wire.Malformed, "action"),
    ("client", "06 00 00 01 61 81 01" + "61" * 129, wire.OutOfBounds, "group"),
    ("client", "0f 01 00 00 01 81 08" + "00" * 1_025, wire.OutOfBounds, "key"),
    ("client", "10 01 01", wire.Malformed, "last"),
    ("broker", "05 01 00" + "00" * 16 + "02", wire.Malformed, "existing"),
    ("broker", "06", wire.Malformed, "epoch"),
    ("broker", "0f 01 01 8102" + "61" * 257, wire.OutOfBounds, "next"),
    ("broker", "14 01 01 00 01 02", wire.Malformed, "duplicate"),
    ("broker", "19 01 81 08" + "01" * 1_025, wire.OutOfBounds, "partitions"),
    ("broker", "1b", wire.Malformed, ""),
    ("broker", "0402 00 00", wire.Malformed, "kind"),
    ("broker", "0801 00 02", wire.Malformed, "retryable"),
    ("worker", "", wire.Malformed, ""),
    ("worker", "06", wire.Malformed, ""),
    ("worker", "01 818004", wire.OutOfBounds, "add"),
    ("worker", "03 01 00 818004" + "00" * 65_537, wire.OutOfBounds, "payload"),
    ("worker", "04 01 11 02 00", wire.Malformed, "permanent"),
    ("dispatch", "06", wire.Malformed, ""),
    ("dispatch", "05 00", wire.Malformed, ""),
    ("dispatch", "01 01 00 01 01 01" + "00" * 16 + "40" + "61" * 64, wire.OutOfBounds, "tenant"),
])
def test_wrong_frames(direction: str, text: str, kind: type[wire.WireError], field: str) -> None:
    body = bytes.fromhex(text)
    with pytest.raises(kind) as caught:
        decode(direction, len(body).to_bytes(4, "big") + body)
    assert caught.value.field == field


def test_a_map_has_a_bound_in_bytes() -> None:
    # With its lengths, such a pair takes 1 + 1 + 2 + 4 091 bytes, and an empty one 2.
    fits = (*(("k", "v" * 4091) for _ in range(4)), ("", ""), ("", ""))
    assert wire.encode(wire.Request(id=1, recipe="echo", metadata=fits))
    over = wire.Request(id=1, recipe="echo", metadata=(*fits, ("", "")))
    with pytest.raises(wire.OutOfBounds):
        wire.encode(over)
    with pytest.raises(wire.OutOfBounds):
        decode("client", wire.encode(over, checked=False))


def between(name: str) -> str:
    found = re.search(rf"<!-- begin: {name} -->(.*?)<!-- end: {name} -->", SPECIFICATION, re.S)
    assert found, name
    return found.group(1)


def test_the_batch_in_hex_of_the_specification() -> None:
    frames: list[wire.ClientFrame | wire.BrokerFrame] = []
    blocks = r"^(Client|Broker),.*?```text\n(.*?)```"
    for who, block in re.findall(blocks, between("walk"), re.S | re.M):
        splitter = wire.Splitter()
        data = bytes.fromhex(" ".join(line.split("|")[0] for line in block.splitlines()))
        read = wire.decode_client if who == "Client" else wire.decode_broker
        frames += [read(body) for body in splitter.feed(data)]
        assert not splitter.within_a_frame
    assert [type(frame) for frame in frames] == [
        wire.Batch, wire.Request, wire.Request, wire.Request, wire.Seal,
        wire.Accepted, wire.Result, wire.Result, wire.Progress, wire.Result, wire.Summary,
    ]
    assert frames[2] == wire.Request(id=2, recipe="delay", timeout_ms=2000, payload=b'{"ms":300}')
    assert isinstance(frames[7], wire.Result)
    assert frames[7].failure.message == "no such recipe"


def test_the_call_in_hex_of_the_specification() -> None:
    frames: list[Any] = []
    blocks = r"^(Worker|Broker),.*?```text\n(.*?)```"
    for who, block in re.findall(blocks, between("work walk"), re.S | re.M):
        splitter = wire.Splitter()
        data = bytes.fromhex(" ".join(line.split("|")[0] for line in block.splitlines()))
        for body in splitter.feed(data):
            if not frames:
                frames.append(wire.decode_client(body))
            elif who == "Worker":
                frames.append(work.decode_worker(body))
            else:
                frames.append(work.decode_dispatch(body))
        assert not splitter.within_a_frame
    assert [type(frame) for frame in frames] == [
        wire.Work, work.Register, work.Registered, work.Dispatch,
        work.Progress, work.Answer, work.Drain, wire.End,
    ]
    assert frames[1] == work.Register(
        name="words.count", encoding=wire.Encoding.Json, timeout_ms=2000, idempotent=True,
    )
    assert frames[5] == work.Answer(lease=1, payload=b"2")


def test_the_job_in_hex_of_the_specification() -> None:
    frames: list[wire.ClientFrame | wire.BrokerFrame] = []
    blocks = r"^(Client|Broker),.*?```text\n(.*?)```"
    for who, block in re.findall(blocks, between("job walk"), re.S | re.M):
        splitter = wire.Splitter()
        data = bytes.fromhex(" ".join(line.split("|")[0] for line in block.splitlines()))
        read = wire.decode_client if who == "Client" else wire.decode_broker
        frames += [read(body) for body in splitter.feed(data)]
        assert not splitter.within_a_frame
    assert [type(frame) for frame in frames] == [
        wire.Batch, wire.Request, wire.Seal, wire.Detach, wire.Accepted, wire.JobAccepted, wire.End,
        wire.Attach, wire.Progress, wire.Result, wire.End,
    ]
    accepted, attach = frames[5], frames[7]
    assert isinstance(accepted, wire.JobAccepted)
    assert attach == wire.Attach(target=jobs.OfJob(job_id=accepted.job_id), after=accepted.number)


def test_the_messages_in_hex_of_the_specification() -> None:
    frames: list[wire.ClientFrame | wire.BrokerFrame] = []
    blocks = r"^(Client|Broker),.*?```text\n(.*?)```"
    for who, block in re.findall(blocks, between("topic walk"), re.S | re.M):
        splitter = wire.Splitter()
        data = bytes.fromhex(" ".join(line.split("|")[0] for line in block.splitlines()))
        read = wire.decode_client if who == "Client" else wire.decode_broker
        frames += [read(body) for body in splitter.feed(data)]
        assert not splitter.within_a_frame
    assert [type(frame) for frame in frames] == [
        wire.Produce, wire.Message, wire.Message, wire.Seal,
        wire.ProduceAccepted, wire.Produced, wire.End,
        wire.ProduceAccepted, wire.Produced,
        wire.Consume, wire.ConsumeAccepted, wire.Assigned, wire.Delivery, wire.Delivery,
        wire.Ack, wire.Committed, wire.End,
    ]
    assert frames[2] == wire.Message(sequence=1, key=b"c-17", payload=b"paid")
    assert frames[8] == wire.Produced(
        sequence=1, count=1, partition=1, offset=301, duplicate=True,
    )
    assert isinstance(frames[12], wire.Delivery) and isinstance(frames[13], wire.Delivery)
    assert frames[12].id < frames[13].id and frames[13].payload == b"paid"


@pytest.mark.parametrize("table, kind", [
    ("close codes", codes.Close), ("codes", codes.Code), ("stream codes", codes.Stream),
])
def test_the_numbers_of_the_specification(table: str, kind: type[IntEnum]) -> None:
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \|", between(table), re.M)
    assert {name: int(number, 0) for number, name in rows} == {
        member.name: member.value for member in kind
    }
