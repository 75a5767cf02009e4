"""Tables of conversations with the echo mount, in the order of Autobahn's groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from peer import (
    BYTEWISE,
    COALESCED,
    DELIVERIES,
    NO_STATUS,
    WRITTEN,
    Expected,
    Step,
    Wishes,
    binary,
    close,
    frame,
    more,
    ping,
    pong,
    raw,
    text,
)
from websockets.frames import Opcode

CONT, TEXT, BINARY, CLOSE, PING, PONG = Opcode
# Opcodes RFC 6455 §5.2 reserves.
RESERVED = [*range(0x3, 0x8), *range(0xB, 0x10)]
# Bounds of the echo mount.
MIB = 1 << 20
MESSAGE_MAX = 16 * MIB
FRAGMENTS_MAX = 131_072
# Refusals.
PROTOCOL_ERROR, INVALID_DATA, POLICY, TOO_BIG = (1002, None), (1007, None), (1008, None), (1009, None)


@dataclass(frozen=True)
class Case:
    name: str
    steps: Sequence[Step]
    expected: Expected
    deliveries: Sequence[str] = DELIVERIES
    wishes: Wishes = Wishes()


def goes_on(name: str, steps: Sequence[Step], *frames: tuple[Opcode, bytes], deliveries=DELIVERIES) -> Case:
    """The server says `frames`, and answers a goodbye."""
    return Case(name, [*steps, close(1000)], Expected(frames), deliveries)


def ends(name: str, steps: Sequence[Step], *frames: tuple[Opcode, bytes], close, deliveries=DELIVERIES) -> Case:
    """The server says `frames`, then this close frame."""
    return Case(name, steps, Expected(frames, close), deliveries)


def all_cases() -> Iterator[Case]:
    for group in (
        echoes,
        pings,
        reserved_bits,
        reserved_opcodes,
        masks,
        fragments,
        valid_utf8,
        invalid_utf8,
        closings,
        close_codes,
        big_messages,
        limits,
        many_messages,
    ):
        yield from group()


def sized(size: int) -> bytes:
    """Text in which a byte that is lost or moved shows."""
    return (b"%07d " * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]


def echoes() -> Iterator[Case]:
    for size in (0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 262_144):
        yield goes_on(f"1.1 text of {size}", [text(sized(size))], (TEXT, sized(size)))
        data = bytes(range(256)) * (size // 256 + 1)
        yield goes_on(f"1.2 binary of {size}", [binary(data[:size])], (BINARY, data[:size]))


def pings() -> Iterator[Case]:
    yield goes_on("2.1 ping without payload", [ping()], (PONG, b""))
    yield goes_on("2.2 ping with text", [ping(b"Hello, world!")], (PONG, b"Hello, world!"))
    data = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    yield goes_on("2.3 ping with bytes that are no text", [ping(data)], (PONG, data))
    every = [bytes([0xFE]) * size for size in range(126)]
    yield goes_on("2.4 pings of every size", [ping(data) for data in every], *((PONG, data) for data in every))
    for opcode in (PING, PONG, CLOSE):
        for size in (126, 65_536):
            steps = [frame(opcode, b"\x03\xe8" + b"a" * (size - 2))]
            yield ends(f"2.5 {opcode.name} of {size}", steps, close=PROTOCOL_ERROR)
    yield goes_on("2.7 unsolicited pong", [pong()])
    yield goes_on("2.8 unsolicited pong with payload", [pong(b"unsolicited pong payload")])
    yield goes_on("2.9 unsolicited pong, then ping", [pong(b"a"), ping(b"b")], (PONG, b"b"))
    ten = [b"payload-%d" % n for n in range(10)]
    yield goes_on("2.10 ten pings", [ping(data) for data in ten], *((PONG, data) for data in ten))
    mixed = [step for data in ten for step in (text(data), ping(data))]
    answers = [answer for data in ten for answer in ((TEXT, data), (PONG, data))]
    yield goes_on("2.11 ten messages and ten pings in turn", mixed, *answers)


def reserved_bits() -> Iterator[Case]:
    payloads = {CLOSE: b"\x03\xe8", CONT: b"", TEXT: b"Hello", BINARY: b"\x00\xff", PING: b"", PONG: b""}
    for rsv in range(1, 8):
        for opcode, data in payloads.items():
            bad = frame(opcode, data, rsv=rsv)
            name = f"3 {opcode.name} with RSV {rsv:03b}"
            before = [text(b"Hel", fin=False)] if opcode is CONT else [text(b"before")]
            heard = [] if opcode is CONT else [(TEXT, b"before")]
            yield ends(f"{name} after a message", [*before, bad, frame(PING)], *heard, close=PROTOCOL_ERROR)
            if opcode is not CONT:
                yield ends(name, [bad], close=PROTOCOL_ERROR)


def reserved_opcodes() -> Iterator[Case]:
    for opcode in RESERVED:
        name = f"4 opcode {opcode:#x}"
        yield ends(name, [frame(opcode)], close=PROTOCOL_ERROR)
        yield ends(f"{name} with payload", [frame(opcode, b"reserved")], close=PROTOCOL_ERROR)
        steps = [text(b"before"), frame(opcode, b"reserved"), frame(PING)]
        yield ends(f"{name} after a message", steps, (TEXT, b"before"), close=PROTOCOL_ERROR)
        steps = [text(b"Hel", fin=False), frame(opcode, b"lo")]
        yield ends(f"{name} inside a message", steps, close=PROTOCOL_ERROR)


def masks() -> Iterator[Case]:
    """RFC 6455 §5.1; not among Autobahn's cases for servers."""
    for opcode, data in ((TEXT, b"Hello"), (BINARY, b""), (PING, b""), (PONG, b""), (CLOSE, b"\x03\xe8")):
        steps = [frame(opcode, data, mask=False)]
        yield ends(f"unmasked {opcode.name}", steps, close=PROTOCOL_ERROR)
    steps = [text(b"Hel", fin=False), frame(CONT, b"lo", mask=False)]
    yield ends("unmasked CONT", steps, close=PROTOCOL_ERROR)
    yield goes_on("masked with zero", [raw(b"\x81\x85\0\0\0\0Hello")], (TEXT, b"Hello"))


def fragments() -> Iterator[Case]:
    for opcode in (PING, PONG, CLOSE):
        steps = [frame(opcode, b"\x03\xe8", fin=False), frame(CONT, b"rest")]
        yield ends(f"5.1 {opcode.name} in fragments", steps, close=PROTOCOL_ERROR)
    for kind, opcode in ((text, TEXT), (binary, BINARY)):
        name = f"5.3 {opcode.name}"
        halves = [kind(b"frag1", fin=False), more(b"frag2", fin=True)]
        yield goes_on(f"{name} in two fragments", halves, (opcode, b"frag1frag2"))
        steps = [halves[0], ping(b"between"), halves[1]]
        yield goes_on(f"{name} with a ping between", steps, (PONG, b"between"), (opcode, b"frag1frag2"))
        five = [kind(b"1", fin=False), more(b"2"), ping(b"a"), more(b"3"), more(b"4"), ping(b"b"), pong()]
        heard = [(PONG, b"a"), (PONG, b"b"), (opcode, b"12345")]
        yield goes_on(f"{name} in five fragments with pings", [*five, more(b"5", fin=True)], *heard)
        steps = [kind(b"", fin=False), more(b""), more(b"x"), more(b"", fin=True)]
        yield goes_on(f"{name} with empty fragments", steps, (opcode, b"x"))
        steps = [step for word in (b"one", b"two") for step in (kind(word, fin=False), more(b"!", fin=True))]
        yield goes_on(f"{name} twice", steps, (opcode, b"one!"), (opcode, b"two!"))
    after = [(TEXT, b"before")]
    for fin in (True, False):
        stray = frame(CONT, b"stray", fin=fin)
        name = f"5.9 stray continuation, FIN {fin}"
        yield ends(name, [stray, frame(TEXT, b"after")], close=PROTOCOL_ERROR)
        yield ends(f"{name}, after a message", [text(b"before"), stray], *after, close=PROTOCOL_ERROR)
        steps = [text(b"be", fin=False), more(b"fore", fin=True), stray, frame(TEXT, b"after")]
        yield ends(f"5.15 stray continuation, FIN {fin}, after fragments", steps, *after, close=PROTOCOL_ERROR)
        for opcode in (TEXT, BINARY):
            steps = [text(b"frag1", fin=False), frame(opcode, b"frag2", fin=fin)]
            yield ends(f"5.18 new {opcode.name} inside a message, FIN {fin}", steps, close=PROTOCOL_ERROR)


KOSME = "κόσμε".encode()


def split_ways(name: str, data: bytes) -> Iterator[tuple[str, list[Step]]]:
    """A text as one frame, and with a byte in each frame."""
    yield name, [frame(TEXT, data)]
    if len(data) > 1:
        octets = [frame(CONT, data[at : at + 1], fin=at == len(data) - 1) for at in range(1, len(data))]
        yield f"{name}, a byte a fragment", [frame(TEXT, data[:1], fin=False), *octets]


def valid_utf8() -> Iterator[Case]:
    empty = [text(b"", fin=False), more(b""), more(b"", fin=True)]
    yield goes_on("6.1 three empty fragments", empty, (TEXT, b""))
    texts = ["Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\0", "\x7f", "𠜎𠜱𠝹𠱓", "\ufeffwith a mark"]
    points = [0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFD]
    points += [plane << 16 | low for plane in range(1, 17) for low in (0xFFFE, 0xFFFF)]
    for data in [string.encode() for string in texts + [chr(point) for point in points]]:
        for name, steps in split_ways(f"6.2 {data.hex(' ')}", data):
            yield goes_on(name, steps, (TEXT, data))
    steps = [text(KOSME[:4], fin=False), more(KOSME[4:], fin=True)]
    yield goes_on("6.2 two fragments between characters", steps, (TEXT, KOSME))
    # Not text, so nothing is wrong with it.
    yield goes_on("6.2 binary that is not UTF-8", [binary(b"\xed\xa0\x80\xff")], (BINARY, b"\xed\xa0\x80\xff"))


# Bytes that no continuation makes UTF-8 (Markus Kuhn's stress test, as in Autobahn 6.6 to 6.21).
NEVER_UTF8 = [
    *(b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf" * 3, bytes(range(0x80, 0xC0))),
    *(bytes([lead]) for lead in (*range(0xC0, 0xC2), *range(0xF5, 0x100))),
    *(bytes([lead, 0x20]) for lead in (0xC2, 0xDF, 0xE0, 0xEF, 0xF0, 0xF4)),
    *(b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"),
    *(b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf"),
    *(b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf7\xbf\xbf\xbf"),
    *(b"\xf8\x88\x80\x80\x80", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf", b"\xfe\xfe\xff\xff"),
    *(b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbf\xbf"),
    *(b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf"),
]
# Characters that stop before their end.
CUT_UTF8 = [b"\xc2", b"\xdf", b"\xe0\xa0", b"\xef\xbf", b"\xf0\x90\x80", b"\xf4\x8f\xbf", KOSME[:1], KOSME[:-1]]


def invalid_utf8() -> Iterator[Case]:
    for data in NEVER_UTF8 + CUT_UTF8:
        for name, steps in split_ways(f"6.3 {data.hex(' ')}", KOSME + data):
            yield ends(name, steps, close=INVALID_DATA)
    for data in NEVER_UTF8:
        # The rest never comes: the server must not wait for it.
        name = f"6.4 fail fast at {data.hex(' ')}"
        yield ends(f"{name}, between fragments", [frame(TEXT, KOSME + data, fin=False)], close=INVALID_DATA)
        whole = KOSME + data + b"edited"
        begun = frame_beginning(TEXT, whole, len(whole) - 6)
        yield ends(f"{name}, inside a frame", [begun], close=INVALID_DATA)
    for data in CUT_UTF8:
        name = f"6.3 {data.hex(' ')} goes on as another character"
        yield ends(name, [frame(TEXT, data, fin=False), frame(CONT, b"a", fin=False)], close=INVALID_DATA)


def frame_beginning(opcode: Opcode, data: bytes, payload_bytes: int) -> Step:
    """A short frame that stops after that much of its payload."""

    def step(protocol):
        frame(opcode, data)(protocol)
        protocol.writes[-1] = protocol.writes[-1][: 2 + 4 + payload_bytes]

    return step


def closings() -> Iterator[Case]:
    goodbye = (1000, "")
    yield ends("7.1.1 message, then close", [text(b"Hi"), close(1000)], (TEXT, b"Hi"), close=goodbye)
    for name, after in (
        ("close", frame(CLOSE, b"\x03\xe9")),
        ("ping", frame(PING, b"late")),
        ("text", frame(TEXT, b"late")),
        ("an invalid frame", frame(0x3, b"late")),
        ("an unmasked frame", frame(TEXT, b"late", mask=False)),
        ("garbage", raw(b"\xff" * 4096)),
    ):
        yield ends(f"7.1.2 close, then {name}", [close(1000), after], close=goodbye)
    steps = [text(b"frag1", fin=False), frame(CLOSE, b"\x03\xe8"), frame(CONT, b"frag2")]
    yield ends("7.1.5 close inside a message", steps, close=goodbye)
    big = sized(256 << 10)
    steps = [text(big), close(1000), frame(PING)]
    yield ends("7.1.6 256 KiB, close, ping", steps, (TEXT, big), close=goodbye)
    yield ends("7.3.1 close without payload", [close()], close=(NO_STATUS, ""))
    yield ends("7.3.2 close with one byte", [frame(CLOSE, b"\x03")], close=PROTOCOL_ERROR)
    yield ends("7.3.3 close with a code", [close(1000)], close=goodbye)
    for reason in ("Hello World!", "a" * 123, "é" * 61, "κόσμε", "\0"):
        name = f"7.3.4 close with a reason of {len(reason.encode())} bytes"
        yield ends(name, [close(1000, reason)], close=(1000, reason))
    yield ends("7.3.6 close with a reason of 124", [frame(CLOSE, b"\x03\xe8" + b"a" * 124)], close=PROTOCOL_ERROR)
    for data in NEVER_UTF8 + CUT_UTF8:
        if len(data) <= 100:
            steps = [frame(CLOSE, b"\x03\xe8" + KOSME + data)]
            yield ends(f"7.5.1 close reason with {data.hex(' ')}", steps, close=INVALID_DATA)


def close_codes() -> Iterator[Case]:
    for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999):
        yield ends(f"7.7 close with {code}", [close(code)], close=(code, ""))
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 32_768, 65_535):
        data = code.to_bytes(2)
        yield ends(f"7.9 close with {code}", [frame(CLOSE, data)], close=PROTOCOL_ERROR)
        steps = [frame(CLOSE, data + b"with a reason")]
        yield ends(f"7.9 close with {code} and a reason", steps, close=PROTOCOL_ERROR)


def cut(kind, data: bytes, size: int) -> list[Step]:
    """A message in fragments of that size."""
    starts = range(size, len(data), size)
    rest = [more(data[at : at + size], fin=at + size >= len(data)) for at in starts]
    return [kind(data[:size], fin=not rest), *rest]


def big_messages() -> Iterator[Case]:
    for kind, opcode in ((text, TEXT), (binary, BINARY)):
        for size in (MIB, 4 * MIB, MESSAGE_MAX):
            data = sized(size)
            yield goes_on(f"9.1 {opcode.name} of {size}", [kind(data)], (opcode, data))
        for size in (1 << 10, 16 << 10, 256 << 10):
            data = sized(4 * MIB)
            name = f"9.3 {opcode.name} of 4 MiB in fragments of {size}"
            yield goes_on(name, cut(kind, data, size), (opcode, data), deliveries=(WRITTEN, COALESCED))
        data = sized(65_536)
        yield goes_on(f"10.1 {opcode.name} in fragments of 1300", cut(kind, data, 1300), (opcode, data))
    data = sized(MIB)
    steps = cut(text, data, 64)
    yield goes_on("9.3 TEXT of 1 MiB in fragments of 64", steps, (TEXT, data), deliveries=(COALESCED,))
    data = "𠜎".encode() * (MIB // 4)
    yield goes_on("9.5 TEXT of 1 MiB, fragments inside characters", cut(text, data, 1023), (TEXT, data))


def limits() -> Iterator[Case]:
    over = bytes(MESSAGE_MAX + 1)
    yield ends("9 one byte over the limit", [binary(over)], close=TOO_BIG)
    # What is declared and never comes.
    for declared in (MESSAGE_MAX + 1, 1 << 32, (1 << 63) - 1):
        step = raw(b"\x82\xff" + declared.to_bytes(8) + b"mask")
        yield ends(f"9 {declared} bytes declared", [step], close=TOO_BIG)
    yield ends("9 over the limit in two fragments", cut(binary, over, MESSAGE_MAX), close=TOO_BIG)
    yield ends("9 over the limit in many", cut(binary, over, MIB), close=TOO_BIG)
    empty = [step for step in (text(b"", fin=False), raw(b"\x00\x80mask" * (FRAGMENTS_MAX - 2)))]
    steps = [*empty, more(b"end", fin=True)]
    yield goes_on("9 as many fragments as there may be", steps, (TEXT, b"end"), deliveries=(WRITTEN, COALESCED))
    steps = [*empty, more(b""), more(b"end", fin=True)]
    yield ends("9 one fragment more", steps, close=POLICY, deliveries=(WRITTEN, COALESCED))


def many_messages() -> Iterator[Case]:
    for size in (0, 16, 64, 256, 1024, 4096):
        data = sized(size)
        steps = [text(data) for _ in range(1000)]
        heard = [(TEXT, data)] * 1000
        deliveries = DELIVERIES if size <= 16 else (WRITTEN, COALESCED)
        yield goes_on(f"9.7 1000 messages of {size}", steps, *heard, deliveries=deliveries)
