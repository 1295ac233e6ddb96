#!/usr/bin/env python3
"""A worker in Python, for the tenant `acme`.

    tollgate serve --tenant acme &
    tollgate cert issue --tenant acme --role worker --out certs/worker
    tollgate cert issue --tenant acme --out certs/acme
    python examples/python/worker.py 127.0.0.1:4433 certs/worker

Then, elsewhere:

    tollgate batch run --certs certs/acme --recipe words.count --payload 'to be or not to be'

It needs aioquic (`pip install -r tests/interop/requirements.txt`). The package it is built on,
`tests/interop/tollgate_interop`, was written from protocol/PROTOCOL.md alone.
"""

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "interop"))

from tollgate_interop import wire, work  # noqa: E402
from tollgate_interop.client import ConnectionClosed, Cut, Identity, Refused, connect  # noqa: E402
from tollgate_interop.codes import Close, Code  # noqa: E402
from tollgate_interop.worker import Call, CallFailed, Worker  # noqa: E402

WAIT_S, WAIT_MOST_S = 0.2, 5.0
IDLE_TIMEOUT_S = 4.0
CHUNK_LINES = 1_000
PASSES = {Code.DRAINING, Code.OVERLOADED, Code.CONFLICT, Code.QUOTA_EXCEEDED}


async def words_count(call: Call) -> bytes:
    """The ten most frequent words of a text, with progress."""
    try:
        lines = call.payload.decode().splitlines()
    except UnicodeDecodeError as error:
        raise CallFailed(Code.VALIDATION_ERROR, f"not a text: {error}", permanent=True) from error
    words: Counter[str] = Counter()
    for at in range(0, len(lines), CHUNK_LINES):
        for line in lines[at:at + CHUNK_LINES]:
            words.update(line.lower().split())
        call.progress(min(at + CHUNK_LINES, len(lines)), len(lines), "counting")
        # Other calls have their turn, and a cancellation ends this one here.
        await asyncio.sleep(0)
    return json.dumps(words.most_common(10)).encode()


async def serve(address: str, certs: Path, stop: asyncio.Event) -> None:
    """One connection: serves until it is lost, or until `stop`."""
    host, _, port = address.rpartition(":")
    identity = Identity(cert=certs / "cert.pem", key=certs / "key.pem", ca=certs / "ca.pem")
    # A worker that is gone without a word is missed after so many seconds.
    connected = connect(host.strip("[]"), int(port), identity, idle_timeout=IDLE_TIMEOUT_S)
    async with connected as client:
        worker = Worker(client, credit=16)
        worker.recipe(
            work.Register(
                name="words.count", encoding=wire.Encoding.Bytes, idempotent=True,
                description="the ten most frequent words of a text",
            ),
            words_count,
        )

        async def drain() -> None:
            await stop.wait()
            await worker.drain()

        draining = asyncio.create_task(drain())
        try:
            await worker.run()
        finally:
            draining.cancel()


async def main(address: str, certs: Path) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    wait = WAIT_S
    while not stop.is_set():
        try:
            await serve(address, certs, stop)
            wait = WAIT_S
        except Refused as refusal:
            if refusal.error.code not in PASSES:
                raise SystemExit(f"refused: {refusal.error.failure.message}") from None
            print(f"refused for now: {refusal.error.failure.message}", file=sys.stderr)
        except ConnectionClosed as closed:
            again = {Close.DONE, Close.DRAINING, Close.QUOTA_EXCEEDED, Close.OVERLOADED}
            if closed.tls_alert is not None or (closed.application and closed.code not in again):
                raise SystemExit(str(closed)) from None
            print(closed, file=sys.stderr)
        except Cut as cut:
            print(f"the stream was cut: {cut}", file=sys.stderr)
        if not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), wait)
            except TimeoutError:
                wait = min(wait * 2, WAIT_MOST_S)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
