"""One connection to the server, in three ways of delivering the same bytes.

What is sent is serialised by `websockets`, and what comes back is judged by it: its sans-I/O `ClientProtocol` parses
the upgrade and every frame. Frames a client must not send are serialised by the library too, with its check off.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from websockets.client import ClientProtocol
from websockets.extensions import ClientExtensionFactory, Extension
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLOSED, CONNECTING, OPEN, SEND_EOF, State
from websockets.uri import parse_uri

# One connection may take this long, seconds; a healthy one takes milliseconds.
PATIENCE = 20.0
# The close code the library reports for a close frame without one.
NO_STATUS = 1005
# More than any message of the suite, bytes.
MESSAGE_BYTES_MAX = 64 << 20

# "bytewise": writes up to this size go out a byte a segment, of longer ones the beginning and the end, and the rest
# in odd chunks of at least this size, at most this many.
BYTEWISE_WHOLE_MAX = 512
BYTEWISE_HEAD = 32
BYTEWISE_TAIL = 8
BYTEWISE_CHUNK_MIN = 997
BYTEWISE_CHUNKS_MAX = 500
# Writes that come to at most this much pause after each byte, so that the server reads it alone.
PAUSED_BYTES_MAX = 700
PAUSE = 0.000_05

# How the bytes of a conversation are delivered.
WRITTEN, BYTEWISE, COALESCED = DELIVERIES = ("as written", "bytewise", "coalesced")

# Makes the protocol put something into its writes.
Step = Callable[[ClientProtocol], None]


class Unchecked(Frame):
    """A frame that is serialised whether or not it may be sent."""

    def check(self) -> None:
        """Finds nothing wrong."""


def text(data: bytes, fin: bool = True) -> Step:
    return lambda protocol: protocol.send_text(data, fin)


def binary(data: bytes, fin: bool = True) -> Step:
    return lambda protocol: protocol.send_binary(data, fin)


def more(data: bytes, fin: bool = False) -> Step:
    return lambda protocol: protocol.send_continuation(data, fin)


def ping(data: bytes = b"") -> Step:
    return lambda protocol: protocol.send_ping(data)


def pong(data: bytes = b"") -> Step:
    return lambda protocol: protocol.send_pong(data)


def close(code: int | None = None, reason: str = "") -> Step:
    return lambda protocol: protocol.send_close(code, reason)


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True) -> Step:
    """A frame out of turn, or one that must not be sent; `rsv` is the three bits as a number."""
    made = Unchecked(opcode, data, fin, bool(rsv & 4), bool(rsv & 2), bool(rsv & 1))
    return raw(made.serialize(mask=mask))


def raw(data: bytes) -> Step:
    return lambda protocol: protocol.writes.append(data)


@dataclass(frozen=True)
class Wishes:
    """What a conversation asks for before it begins."""

    extensions: Sequence[ClientExtensionFactory] = ()
    # The extensions for what is sent before the server's answer.
    assumed: Sequence[Extension] = ()
    subprotocols: Sequence[str] = ()
    # Parts of the request, and what stands in their place.
    rewritten: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True)
class Expected:
    """What a conversation must come to.

    `close` is the code and reason of the server's close frame; a reason of `None` is any, no `close` is an upgrade
    that was refused with `status`.
    """

    frames: Sequence[tuple[Opcode, bytes]] = ()
    close: tuple[int, str | None] | None = (1000, "")
    status: int = 101
    extensions: str = ""
    subprotocol: str | None = None


@dataclass
class Outcome:
    """What it came to."""

    frames: list[tuple[Opcode, bytes]] = field(default_factory=list)
    close: Close | None = None
    status: int | None = None
    extensions: str = ""
    subprotocol: str | None = None
    # What the library, or the transport, found wrong.
    faults: list[str] = field(default_factory=list)

    def differences(self, expected: Expected) -> list[tuple[str, str]]:
        """Pairs of what was expected and what was got instead."""
        found = [("no fault", fault) for fault in self.faults]
        if self.status != expected.status:
            found.append((f"status {expected.status}", f"status {self.status}"))
        if self.extensions != expected.extensions:
            found.append((f"extensions {expected.extensions!r}", f"{self.extensions!r}"))
        if self.subprotocol != expected.subprotocol:
            found.append((f"subprotocol {expected.subprotocol}", f"{self.subprotocol}"))
        if self.frames != list(expected.frames):
            found.append((brief(expected.frames), brief(self.frames)))
        code, reason = expected.close or (None, None)
        got = self.close and (self.close.code, self.close.reason if reason is not None else None)
        if got != (expected.close and (code, reason)):
            found.append((f"close {expected.close}", f"close {self.close}"))
        return found


def brief(frames: Sequence[tuple[Opcode, bytes]]) -> str:
    """Frames on one short line."""
    shown = [f"{opcode.name} {len(data)} B {bytes(data[:24])!r}" for opcode, data in frames[:6]]
    rest = [f"and {len(frames) - 6} more"] if len(frames) > 6 else []
    return "[" + ", ".join(shown + rest) + "]"


class Peer:
    """A client of one conversation."""

    def __init__(self, url: str, wishes: Wishes = Wishes()):
        self.url = parse_uri(url)
        self.wishes = wishes
        self.protocol = ClientProtocol(
            self.url,
            extensions=wishes.extensions or None,
            subprotocols=wishes.subprotocols or None,
            max_size=MESSAGE_BYTES_MAX,
        )
        self.outcome = Outcome()
        self.is_ended = False
        # Of the server's answer to the upgrade, what has come of it.
        self.head = b""
        # Where the steps left the protocol, when they were made before that answer.
        self.state_after_upgrade: State | None = None

    def converse(self, steps: Sequence[Step], delivery: str) -> Outcome:
        """Connects, sends what the steps make, and reads until the server ends the connection."""
        self.deadline = time.monotonic() + PATIENCE
        with socket.create_connection((self.url.host, self.url.port), PATIENCE) as self.socket:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.setblocking(False)
            upgrade = self.upgrade()
            if delivery == COALESCED:
                self.send([b"".join(upgrade + self.writes_before_the_upgrade(steps))])
            else:
                # Where the upgrade is as the library makes it, its pieces need not be read one by one.
                self.send(self.pieces(upgrade, delivery), pauses=bool(self.wishes.rewritten))
                self.read_while(lambda: self.protocol.state is CONNECTING)
                if self.protocol.state is OPEN:
                    for step in steps:
                        step(self.protocol)
                    self.send(self.pieces(self.protocol.data_to_send(), delivery), pauses=True)
            self.read_while(lambda: True)
        return self.judge()

    def upgrade(self) -> list[bytes]:
        """The library's request, with what the case has otherwise."""
        self.protocol.send_request(self.protocol.connect())
        request = b"".join(self.protocol.data_to_send())
        for old, new in self.wishes.rewritten:
            assert old in request, f"{old!r} is not in the request"
            request = request.replace(old, new)
        return [request]

    def writes_before_the_upgrade(self, steps: Sequence[Step]) -> list[bytes]:
        """What the steps make, though the protocol has not seen the server's answer."""
        self.protocol.state = OPEN
        self.protocol.extensions = list(self.wishes.assumed)
        for step in steps:
            step(self.protocol)
        self.state_after_upgrade = self.protocol.state
        self.protocol.state = CONNECTING
        return self.protocol.data_to_send()

    def pieces(self, writes: list[bytes], delivery: str) -> list[bytes]:
        """What is sent in one segment each."""
        if delivery == WRITTEN:
            return writes
        pieces = []
        for write in writes:
            head, tail = BYTEWISE_HEAD, max(len(write) - BYTEWISE_TAIL, BYTEWISE_HEAD)
            if len(write) <= BYTEWISE_WHOLE_MAX:
                head = tail = len(write)
            chunk = max(len(write) // BYTEWISE_CHUNKS_MAX | 1, BYTEWISE_CHUNK_MIN)
            cuts = [*range(head), *range(head, tail, chunk), *range(tail, len(write)), len(write)]
            pieces += [write[start:end] for start, end in zip(cuts, cuts[1:])]
        return pieces

    def send(self, pieces: list[bytes], pauses: bool = False) -> None:
        """Sends a piece a segment, and reads what comes meanwhile."""
        is_paused = pauses and len(pieces) > 1 and sum(map(len, pieces)) <= PAUSED_BYTES_MAX
        for piece in pieces:
            rest = memoryview(piece)
            while rest and not self.is_ended:
                # Small pieces find room: the system is asked only when the socket is full.
                try:
                    rest = rest[self.socket.send(rest) :]
                except BlockingIOError:
                    self.wait(writes=True)
                except (BrokenPipeError, ConnectionResetError):
                    # The server had seen enough; what it said is still to be read.
                    return
            if is_paused:
                time.sleep(PAUSE)

    def read_while(self, wanted: Callable[[], bool]) -> None:
        while not self.is_ended and wanted():
            self.wait(writes=False)

    def wait(self, writes: bool) -> None:
        """Waits until the socket can be read or written, and reads."""
        left = self.deadline - time.monotonic()
        readable, writable, _ = select.select([self.socket], [self.socket] if writes else [], [], max(left, 0))
        if readable:
            self.read()
        elif not writable:
            self.fault(f"nothing came for {PATIENCE:.0f} s")

    def read(self) -> None:
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.fault("the connection was reset")
            return
        if data:
            self.take(data)
        else:
            self.is_ended = True
            self.protocol.receive_eof()

    def take(self, data: bytes) -> None:
        """Gives the protocol what was received, such that bytes behind a close frame are noticed."""
        if self.protocol.state is CONNECTING:
            self.head += data
            head, blank, data = self.head.partition(b"\r\n\r\n")
            if not blank:
                return
            self.protocol.receive_data(head + blank)
            if self.protocol.state is OPEN and self.state_after_upgrade is not None:
                self.protocol.state = self.state_after_upgrade
            self.head = b""
        # A close frame, and what stands behind it, is short.
        bulk = max(len(data) - 512, 0)
        for piece in (data[:bulk], *(data[at : at + 1] for at in range(bulk, len(data)))):
            if piece and self.protocol.close_rcvd and not self.protocol.parser_exc:
                self.fault("bytes after the close frame")
                return
            if piece and self.protocol.state is not CLOSED:
                self.protocol.receive_data(piece)
        for answer in self.protocol.data_to_send():
            if answer == SEND_EOF:
                self.socket.shutdown(socket.SHUT_WR)
            else:
                self.send([answer])

    def fault(self, what: str) -> None:
        self.outcome.faults.append(what)
        self.is_ended = True

    def judge(self) -> Outcome:
        """What the library says of all that came."""
        protocol, outcome = self.protocol, self.outcome
        for event in protocol.events_received():
            if not isinstance(event, Frame):
                outcome.status = event.status_code
                outcome.extensions = event.headers.get("Sec-WebSocket-Extensions", "")
            elif event.opcode is not Opcode.CLOSE:
                outcome.frames.append((event.opcode, bytes(event.data)))
                if not event.fin:
                    outcome.faults.append("a fragment from the server")
        outcome.close = protocol.close_rcvd
        outcome.subprotocol = protocol.subprotocol
        if protocol.handshake_exc and outcome.status in (None, 101):
            outcome.faults.append(f"upgrade: {protocol.handshake_exc!r}")
        if protocol.parser_exc:
            outcome.faults.append(f"{protocol.parser_exc!r}")
        if protocol.state is not CLOSED and not outcome.faults:
            outcome.faults.append(f"the connection is {protocol.state.name}")
        return outcome
