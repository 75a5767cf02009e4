"""permessage-deflate (RFC 7692): what is agreed on, and compressed messages. Autobahn's groups 12 and 13.

The echo itself always comes back plain: what the server says to one client alone is never compressed. The other
direction is in `sessions.py`, by messages published to a room.
"""

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from cases import INVALID_DATA, MESSAGE_MAX, MIB, PROTOCOL_ERROR, TOO_BIG, Case, cut, ends, goes_on, sized
from peer import Step, Wishes, binary, frame, more, ping, text
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Opcode

CONT, TEXT, BINARY, CLOSE, PING, PONG = Opcode
AGREED = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
RSV1 = 0b100


def deflating(case: Case, server_bits: int | None = None, client_bits=None, **takeover: bool) -> Case:
    """The case with an offer; no agreement is expected on a window of the server below 15 bits."""
    factory = ClientPerMessageDeflateFactory(
        server_max_window_bits=server_bits, client_max_window_bits=client_bits, **takeover
    )
    agreed = {None: AGREED, 15: f"{AGREED}; server_max_window_bits=15"}.get(server_bits, "")
    assumed = [PerMessageDeflate(True, True, 15, 15)] if agreed else []
    wishes = Wishes(extensions=[factory], assumed=assumed)
    return replace(case, wishes=wishes, expected=replace(case.expected, extensions=agreed))


def all_cases() -> Iterator[Case]:
    yield from offers()
    for case in [*round_trips(), *forms_of_hello(), *broken(), *limits()]:
        yield deflating(case)


def offers() -> Iterator[Case]:
    data = sized(1024)
    steps, heard = [text(data), binary(data), text(b"")], [(TEXT, data), (BINARY, data), (TEXT, b"")]
    for ours, theirs, server_bits, client_bits in product(
        (False, True), (False, True), (None, 8, 9, 14, 15), (None, True, 9, 15)
    ):
        name = f"13 offer: no takeover {ours:d}{theirs:d}, windows {server_bits} {client_bits}"
        yield deflating(
            goes_on(name, steps, *heard),
            server_bits,
            client_bits,
            client_no_context_takeover=ours,
            server_no_context_takeover=theirs,
        )


def round_trips() -> Iterator[Case]:
    for size in (0, 1, 16, 125, 126, 1024, 8192, 65_535, 65_536, MIB):
        for kind, opcode in ((text, TEXT), (binary, BINARY)):
            data = sized(size)
            yield goes_on(f"12 {opcode.name} of {size}", [kind(data)], (opcode, data))
        noise = os.urandom(size)
        yield goes_on(f"12 noise of {size}", [binary(noise)], (BINARY, noise))
    # Each message would differ if the server took over what the one before had left.
    yield goes_on("12 ten times the same", [text(sized(500))] * 10, *[(TEXT, sized(500))] * 10)
    data = sized(8192)
    for size in (1, 500, 4096):
        steps = cut(text, data[: size * 100], size)
        with_pings = [step for part in steps for step in (part, ping(b"between"))][:-1]
        heard = [(PONG, b"between")] * (len(steps) - 1)
        yield goes_on(f"12 fragments of {size} and pings", with_pings, *heard, (TEXT, data[: size * 100]))
    plain = frame(TEXT, b"plain")
    yield goes_on("12 plain between compressed", [text(data), plain, text(data)], *at_both_ends(data, b"plain"))
    halves = [frame(TEXT, b"pl", fin=False), frame(CONT, b"ain")]
    yield goes_on("12 plain fragments", [text(data), *halves, text(data)], *at_both_ends(data, b"plain"))


def at_both_ends(data: bytes, between: bytes) -> list[tuple[Opcode, bytes]]:
    return [(TEXT, data), (TEXT, between), (TEXT, data)]


def compressed(data: bytes, opcode: Opcode = TEXT) -> Step:
    return frame(opcode, data, rsv=RSV1)


def forms_of_hello() -> Iterator[Case]:
    """The examples of RFC 7692 §7.2.3, which no compressor makes by itself."""
    for name, data in (
        ("one block", "f2 48 cd c9 c9 07 00"),
        ("a block without compression", "00 05 00 fa ff 48 65 6c 6c 6f 00"),
        ("a block marked as the last", "f3 48 cd c9 c9 07 00 00"),
        ("two blocks", "f2 48 05 00 00 00 ff ff ca c9 c9 07 00"),
    ):
        payload = bytes.fromhex(data)
        yield goes_on(f"7692 {name}", [compressed(payload)], (TEXT, b"Hello"))
        for at in (1, 3):
            steps = [frame(TEXT, payload[:at], rsv=RSV1, fin=False), frame(CONT, payload[at:])]
            yield goes_on(f"7692 {name}, in fragments at {at}", steps, (TEXT, b"Hello"))
    yield goes_on("7692 an empty message", [compressed(b"\0")], (TEXT, b""))
    steps = [compressed(bytes.fromhex("f2 48 cd c9 c9 07 00")), compressed(bytes.fromhex("f2 00 11 00 00"))]
    yield ends("7692 a window that was not taken over", steps, (TEXT, b"Hello"), close=INVALID_DATA)


def broken() -> Iterator[Case]:
    hello = bytes.fromhex("f2 48 cd c9 c9 07 00")
    for name, data in (
        ("reserved block type", b"\x06\0"),
        ("wrong length of a plain block", b"\0\5\0\0\0Hello"),
        ("cut off", hello[:3]),
        ("text that is not compressed", b"Hello"),
        ("something behind the last block", bytes.fromhex("f3 48 cd c9 c9 07 00 00 01 02 03")),
    ):
        yield ends(f"deflate: {name}", [compressed(data)], close=INVALID_DATA)
    yield ends("deflate: not UTF-8", [deflated(b"\xed\xa0\x80")], close=INVALID_DATA)
    begun = frame(TEXT, hello[:3], rsv=RSV1, fin=False)
    for opcode in (CONT, PING, PONG, CLOSE):
        steps = [begun, frame(opcode, b"\x03\xe8", rsv=RSV1)]
        yield ends(f"deflate: RSV1 on {opcode.name}", steps, close=PROTOCOL_ERROR)
    for rsv in (0b110, 0b101, 0b010, 0b001):
        yield ends(f"deflate: RSV {rsv:03b}", [frame(TEXT, hello, rsv=rsv)], close=PROTOCOL_ERROR)


def deflated(data: bytes, opcode: Opcode = TEXT, level: int = 9) -> Step:
    """A message as zlib compresses it, whatever the library would do."""
    stream = zlib.compressobj(level, wbits=-15)
    payload = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
    return compressed(payload[:-4], opcode)


def limits() -> Iterator[Case]:
    at_most = bytes(MESSAGE_MAX)
    yield goes_on("deflate: inflates to the limit", [deflated(at_most, BINARY)], (BINARY, at_most))
    yield ends("deflate: inflates to one byte more", [deflated(at_most + b"\0", BINARY)], close=TOO_BIG)
    yield ends("deflate: a bomb", [deflated(bytes(256 * MIB), BINARY, level=1)], close=TOO_BIG)
    fragments = [binary(b"", fin=False), *[more(bytes(MIB)) for _ in range(17)], more(b"", fin=True)]
    yield ends("deflate: a bomb in fragments", fragments, close=TOO_BIG)
