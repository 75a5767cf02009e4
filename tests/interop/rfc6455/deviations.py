"""Where the server differs from the letter of RFC 6455 on purpose, as Bun under Ignis does.

Each entry has cases like any other, so that a difference that goes away, or another that comes, is noticed.
`docs/protocols/ignis.md` §1 and §2 describe the server's behaviour.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cases import TOO_BIG, Case, ends, goes_on
from peer import raw
from upgrades import CONNECTION, FIRST_LINE_END, KEY, UPGRADE, accepted, refused
from websockets.frames import Opcode


@dataclass(frozen=True)
class Deviation:
    """`rule` is what the RFC says, `reason` why the server does otherwise."""

    rule: str
    reason: str
    cases: tuple[Case, ...]


HELLO = (Opcode.TEXT, b"Hello")
ZERO_MASK = b"\0\0\0\0"

DEVIATIONS = [
    Deviation(
        "§5.2: a length takes the fewest bytes that hold it",
        "the rule binds the sender; a longer form harms nobody, and Bun accepts it",
        (
            goes_on("5 bytes, length of 16 bits", [raw(b"\x81\xfe\0\5" + ZERO_MASK + b"Hello")], HELLO),
            goes_on("5 bytes, length of 64 bits", [raw(b"\x81\xff\0\0\0\0\0\0\0\5" + ZERO_MASK + b"Hello")], HELLO),
        ),
    ),
    Deviation(
        "§5.2: the highest bit of a 64-bit length is 0",
        "with it the length is beyond any limit: 1009 instead of 1002, and the connection ends as well",
        (ends("a length with the highest bit", [raw(b"\x82\xff" + b"\xff" * 8 + b"mask")], close=TOO_BIG),),
    ),
    Deviation(
        "§4.2.1: the request is HTTP/1.1 or later and has Connection: Upgrade",
        "Bun asks for neither, so Ignis' clients connect through proxies that take them away",
        (
            accepted("Connection missing", (CONNECTION, b"")),
            accepted("HTTP/1.0", (FIRST_LINE_END, b" HTTP/1.0\r\n")),
        ),
    ),
    Deviation(
        "§4.2.1: Upgrade contains the token websocket",
        "to Bun it is the only token, or the request is one for the HTTP application",
        (refused("Upgrade: websocket, foo", 404, (UPGRADE, b"Upgrade: websocket, foo\r\n")),),
    ),
    Deviation(
        "§4.2.2: a request that does not conform is answered with an error such as 400",
        "Ignis answers 500 when Bun does not upgrade",
        (
            refused("not GET", 500, (b"GET ", b"POST ")),
            refused("key missing", 500, (KEY, b"X-Key: ")),
            refused("key too short", 500, (KEY, KEY + b"AAAA\r\nX-Key: ")),
            refused("key twice", 500, (KEY, KEY + b"AAAAAAAAAAAAAAAAAAAAAA==\r\n" + KEY)),
        ),
    ),
    Deviation(
        "§4.2.2: the server chooses a subprotocol that it is ready to speak, or none",
        "as Bun does it answers with the first that is offered: a browser leaves when none of its own comes back",
        (
            accepted("a subprotocol", subprotocols=["chat.example"]),
            accepted("three subprotocols", subprotocols=["b", "a", "c"]),
        ),
    ),
]


def all_cases() -> Iterator[Case]:
    for deviation in DEVIATIONS:
        yield from deviation.cases
