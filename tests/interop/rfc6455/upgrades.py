"""Requests to become a WebSocket (RFC 6455 §4.2): which do, which do not."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cases import Case, goes_on
from peer import DELIVERIES, Expected, Wishes, text
from websockets.frames import Opcode

UPGRADE = b"Upgrade: websocket\r\n"
CONNECTION = b"Connection: Upgrade\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
HOST = b"Host: "
FIRST_LINE_END = b" HTTP/1.1\r\n"
KEY = b"Sec-WebSocket-Key: "
# Behind what is no upgrade stands a body or another request, not a frame: nothing to coalesce.
REFUSED_DELIVERIES = DELIVERIES[:2]


def accepted(name: str, *rewritten: tuple[bytes, bytes], subprotocols: Sequence[str] = ()) -> Case:
    """The request becomes a WebSocket that works; the first subprotocol is agreed on."""
    case = goes_on(f"upgrade: {name}", [text(b"Hello")], (Opcode.TEXT, b"Hello"))
    subprotocol = subprotocols[0] if subprotocols else None
    wishes = Wishes(rewritten=rewritten, subprotocols=subprotocols)
    return replace(case, wishes=wishes, expected=replace(case.expected, subprotocol=subprotocol))


def refused(name: str, status: int, *rewritten: tuple[bytes, bytes]) -> Case:
    """The request is answered with a status, and nothing else."""
    expected = Expected(status=status, close=None)
    return Case(f"upgrade: {name}", [], expected, REFUSED_DELIVERIES, Wishes(rewritten=rewritten))


def all_cases() -> Iterator[Case]:
    yield accepted("as the library asks")
    yield accepted("other case", (UPGRADE, b"uPGRADE: WebSocket\r\n"), (b"Connection:", b"CONNECTION:"))
    yield accepted("keep-alive, Upgrade", (b"Connection: Upgrade", b"Connection: keep-alive, Upgrade"))
    yield accepted("a query", (FIRST_LINE_END, b"?a=b&c=%20" + FIRST_LINE_END))
    yield accepted("other headers", (VERSION, VERSION + b"Cookie: a=b\r\nOrigin: https://example.com\r\nX:\r\n"))
    yield accepted("white space around a value", (VERSION, b"Sec-WebSocket-Version: \t13 \r\n"))
    yield accepted("an unknown extension", (VERSION, VERSION + b"Sec-WebSocket-Extensions: x-unknown; a=b\r\n"))
    yield refused("version 8", 426, (b"Version: 13", b"Version: 8"))
    yield refused("version missing", 426, (VERSION, b""))
    yield refused("version twice", 426, (VERSION, VERSION * 2))
    yield refused("Host missing", 400, (HOST, b"X-Host: "))
    yield refused("Host twice", 400, (HOST, b"Host: elsewhere\r\nHost: "))
    yield refused("no HTTP", 400, (b"GET ", b"\x16\x03\x01"))
    yield refused("a folded header", 400, (VERSION, VERSION + b" folded\r\n"))
    yield refused("a space before a colon", 400, (HOST, b"Host : "))
    yield refused("line feeds alone", 400, (b"\r\n", b"\n"))
    yield refused("a body", 400, (VERSION, VERSION + b"Content-Length: 5\r\n"))
    yield refused("HTTP/2.0", 505, (FIRST_LINE_END, b" HTTP/2.0\r\n"))
    yield refused("another path", 404, (FIRST_LINE_END, b"x HTTP/1.1\r\n"))
    yield refused("no Upgrade", 404, (UPGRADE, b""))
    yield refused("Upgrade to something else", 404, (UPGRADE, b"Upgrade: h2c\r\n"))
