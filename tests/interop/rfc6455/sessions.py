"""The library's ordinary clients, threads and asyncio, as an application uses them."""

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterable
from functools import partial

from cases import sized
from peer import MESSAGE_BYTES_MAX, PATIENCE
from websockets.asyncio.client import connect as connect_asyncio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_sync

# Bytes of the messages of a session, and of one in a crowd.
SIZES = (0, 1, 125, 126, 65_535, 65_536, 1 << 20)
CROWD_SIZES = (0, 125, 65_536)
COMPRESSIONS = (None, "deflate")
# Clients at the same time.
CROWD = 20
BOUNDS = {"max_size": MESSAGE_BYTES_MAX, "open_timeout": PATIENCE, "close_timeout": PATIENCE}

Differences = list[tuple[str, str]]


def all_runs(address: str, echo_path: str, ignis_path: str) -> list[tuple[str, Callable[[], Differences]]]:
    echo, ignis = f"ws://{address}{echo_path}", f"ws://{address}{ignis_path}"
    runs = []
    for compression in COMPRESSIONS:
        runs += [
            (f"sync client, compression {compression}", partial(sync_session, echo, compression)),
            (f"asyncio client, compression {compression}", partial(asyncio_session, echo, compression)),
            (f"room, compression {compression}", partial(room_session, address, ignis, compression)),
        ]
    return [*runs, ("asyncio crowd", partial(crowd, echo)), ("sync client, no such path", partial(lost, echo))]


def compare(found: Differences, what: str, expected, got) -> None:
    if expected != got:
        found.append((f"{what} {expected!r:.80}", f"{got!r:.80}"))


def messages(sizes: Iterable[int]) -> list[str | bytes]:
    return [message for size in sizes for message in (sized(size).decode(), sized(size))] + ["κόσμε 𠜎"]


def sync_session(url: str, compression: str | None) -> Differences:
    found: Differences = []
    with connect_sync(url, compression=compression, **BOUNDS) as peer:
        compare(found, "extensions", int(compression is not None), len(peer.protocol.extensions))
        for message in messages(SIZES):
            peer.send(message)
            compare(found, "echo", message, peer.recv(PATIENCE))
            compare(found, "pong", True, peer.ping().wait(PATIENCE))
        peer.send(["frag", "men", "ted"])
        compare(found, "echo", "fragmented", peer.recv(PATIENCE))
        peer.close(4321, "done")
    compare(found, "close", (4321, "done"), (peer.protocol.close_code, peer.protocol.close_reason))
    return found


def asyncio_session(url: str, compression: str | None) -> Differences:
    return asyncio.run(talk(url, compression, SIZES))


async def talk(url: str, compression: str | None, sizes: Iterable[int]) -> Differences:
    found: Differences = []
    async with asyncio.timeout(PATIENCE), connect_asyncio(url, compression=compression, **BOUNDS) as peer:
        compare(found, "extensions", int(compression is not None), len(peer.protocol.extensions))
        for message in messages(sizes):
            await peer.send(message)
            compare(found, "echo", message, await peer.recv())
            await (await peer.ping())
        await peer.send([b"frag", b"men", b"ted"])
        compare(found, "echo", b"fragmented", await peer.recv())
        await peer.close(4321, "done")
        try:
            compare(found, "end", "ConnectionClosed", await peer.recv())
        except ConnectionClosed as end:
            compare(found, "end", (4321, "done"), (end.rcvd.code, end.rcvd.reason) if end.rcvd else None)
    compare(found, "close", (4321, "done"), (peer.close_code, peer.close_reason))
    return found


def crowd(url: str) -> Differences:
    async def all_of_them() -> list[Differences]:
        return await asyncio.gather(*(talk(url, COMPRESSIONS[n % 2], CROWD_SIZES) for n in range(CROWD)))

    return [difference for found in asyncio.run(all_of_them()) for difference in found]


def lost(url: str) -> Differences:
    try:
        with connect_sync(f"{url}/nowhere", **BOUNDS):
            return [("status 404", "a connection")]
    except InvalidStatus as refusal:
        return [] if refusal.response.status_code == 404 else [("status 404", str(refusal))]


def room_session(address: str, url: str, compression: str | None) -> Differences:
    """A member of a room: what is published there is compressed for those who agreed."""
    found: Differences = []
    room = f"python-{compression}"
    with connect_sync(url, compression=compression, **BOUNDS) as peer:

        def say(event, data):
            peer.send(json.dumps({"event": event, "data": data}))

        def heard():
            return json.loads(peer.recv(PATIENCE))

        compare(found, "extensions", int(compression is not None), len(peer.protocol.extensions))
        say("authenticate", {"token": "token"})
        compare(found, "event", "connected", heard()["event"])
        say("join", {"rooms": [room]})
        # What is not JSON is answered once all before it is done.
        peer.send("{")
        compare(found, "event", "error", heard()["event"])
        for size in (0, 1, 1000, 100_000):
            data = [sized(size).decode(), "κόσμε"]
            emit(address, {"type": "room", "target": room, "event": "published", "data": data})
            compare(found, "message", {"event": "published", "data": data}, heard())
    compare(found, "close", 1000, peer.protocol.close_code)
    return found


def emit(address: str, message: dict) -> None:
    body = json.dumps(message).encode()
    with urllib.request.urlopen(f"http://{address}/api/emit", body, PATIENCE) as answer:
        answer.read()
