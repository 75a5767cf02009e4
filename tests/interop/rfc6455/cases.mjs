// Tables of conversations of `ws` with the echo mount.
//
// A case has steps, which `suite.mjs` gives to `ws`, and what is heard: messages and pongs in order, then the code
// and reason of the close (no reason: any). `isOver`: the steps end the connection; else `ws` says goodbye with 1000.
// What `ws` does not send comes out of its own `Sender.frame`, changed.

import { deflateRawSync, constants } from "node:zlib";
import { Sender } from "ws";

const MIB = 1 << 20;
const MESSAGE_MAX = 16 * MIB;
export const OPCODES = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa };
const RESERVED = [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf];
const BOTH = [false, true];
const ONLY_WRITTEN = ["as written"];

const text = (data, fin = true) => ({ op: "text", data: Buffer.from(data), fin });
const binary = (data, fin = true) => ({ op: "binary", data: Buffer.from(data), fin });
const ping = (data = "") => ({ op: "ping", data: Buffer.from(data) });
const pong = (data = "") => ({ op: "pong", data: Buffer.from(data) });
const close = (code, reason = "") => ({ op: "close", code, reason });
const raw = (data) => ({ op: "raw", data });

/** A frame that `Sender` makes; `change` gets its bytes. */
export function frame(opcode, data = "", { fin = true, rsv = 0, mask = true } = {}) {
  const options = { fin, opcode, mask, readOnly: true };
  const bytes = Buffer.concat(Sender.frame(Buffer.from(data), options));
  bytes[0] |= rsv << 4;
  return bytes;
}

const bad = (...args) => raw(frame(...args));

const ok = (name, steps, heard, more = {}) => ({
  ...{ name, steps, heard, close: [1000, ""], isOver: false, deflate: BOTH },
  ...more,
});
const ends = (name, steps, code, more = {}) => ({
  ...{ name, steps, heard: [], close: [code], isOver: true, deflate: [false] },
  ...more,
});

/** Text in which a byte that is lost or moved shows. */
function sized(size) {
  const words = Array.from({ length: Math.floor(size / 8) + 1 }, (_, n) => `${String(n).padStart(7, "0")} `);
  return Buffer.from(words.join("").slice(0, size));
}

const heardText = (data) => ["text", Buffer.from(data)];
const heardBinary = (data) => ["binary", Buffer.from(data)];
const heardPong = (data) => ["pong", Buffer.from(data)];

function echoes() {
  const cases = [0, 1, 125, 126, 127, 128, 1300, 65_535, 65_536, MIB].flatMap((size) => {
    const data = sized(size);
    const bytes = Buffer.from(data, "latin1").map((byte, at) => byte ^ (at & 0xff));
    return [
      ok(`text of ${size}`, [text(data)], [heardText(data)]),
      ok(`binary of ${size}`, [binary(bytes)], [heardBinary(bytes)]),
    ];
  });
  const whole = sized(MESSAGE_MAX);
  const many = Array.from({ length: 500 }, (_, n) => `message ${n}`);
  return [
    ...cases,
    ok("text of 16 MiB", [text(whole)], [heardText(whole)], { deliveries: ONLY_WRITTEN }),
    ok("500 messages", many.map((data) => text(data)), many.map(heardText)),
    ok("characters of every length", [text("aµ€𠜎\0")], [heardText("aµ€𠜎\0")]),
  ];
}

function fragments() {
  const ways = [["text", text, heardText], ["binary", binary, heardBinary]];
  const rows = ways.flatMap(([kind, say, heard]) => [
    ok(`${kind} in three fragments`, [say("one", false), say("", false), say("two")], [heard("onetwo")]),
    ok(
      `${kind} in fragments with pings`,
      [say("1", false), ping("a"), say("2", false), ping("b"), pong("c"), say("3")],
      [heardPong("a"), heardPong("b"), heard("123")],
    ),
    ok(
      `${kind} of 64 KiB in fragments of 1300`,
      Array.from({ length: 50 }, (_, n) => say(sized(65_000).subarray(n * 1300, (n + 1) * 1300), n === 49)),
      [heard(sized(65_000))],
    ),
  ]);
  const halves = [text(Buffer.from([0xce]), false), text(Buffer.from([0xba]))];
  return [...rows, ok("a character in two fragments", halves, [heardText("κ")])];
}

function pings() {
  const sizes = Array.from({ length: 126 }, (_, size) => Buffer.alloc(size, 0xfe));
  const ten = Array.from({ length: 10 }, (_, n) => `payload ${n}`);
  return [
    ok("pings of every size", sizes.map(ping), sizes.map(heardPong)),
    ok("ten pings", ten.map(ping), ten.map(heardPong)),
    ok("unsolicited pongs", [pong(), pong("unsolicited"), ping("asked")], [heardPong("asked")]),
    ok("pings between messages", [text("a"), ping("b"), text("c")], [heardText("a"), heardPong("b"), heardText("c")]),
  ];
}

function closings() {
  const codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
  const echoed = (name, steps, code, reason) => ok(name, steps, [], { close: [code, reason], isOver: true });
  const goodbye = bad(OPCODES.close, Buffer.from([3, 232]));
  return [
    ...codes.map((code) => echoed(`close ${code}`, [close(code)], code, "")),
    // 1005 is how `ws` reports a close frame without a code.
    echoed("close without a code", [close()], 1005, ""),
    echoed("close with a reason", [close(1000, "κόσμε")], 1000, "κόσμε"),
    echoed("close with the longest reason", [close(4000, "r".repeat(123))], 4000, "r".repeat(123)),
    echoed("close inside a message", [text("a", false), close(1000)], 1000, ""),
    ok("message, then close", [text("a"), close(1001)], [heardText("a")], { close: [1001, ""], isOver: true }),
    echoed("text behind a close", [goodbye, bad(OPCODES.text, "late")], 1000, ""),
    echoed("a ping behind a close", [goodbye, bad(OPCODES.ping, "late")], 1000, ""),
    echoed("garbage behind a close", [goodbye, raw(Buffer.alloc(4096, 0xff))], 1000, ""),
  ];
}

function invalidFrames() {
  const { continuation, ...named } = OPCODES;
  const cases = Object.entries(named).flatMap(([name, opcode]) => {
    const data = opcode === OPCODES.close ? Buffer.from([3, 232]) : "Hello";
    const bits = Array.from({ length: 7 }, (_, n) => n + 1);
    return [
      ...bits.map((rsv) => ends(`${name} with RSV ${rsv}`, [bad(opcode, data, { rsv })], 1002)),
      ends(`unmasked ${name}`, [bad(opcode, data, { mask: false })], 1002),
    ];
  });
  for (const opcode of RESERVED) {
    cases.push(ends(`opcode ${opcode}`, [bad(opcode, "reserved")], 1002));
    const steps = [text("before"), bad(opcode), bad(OPCODES.ping)];
    cases.push(ends(`opcode ${opcode} after a message`, steps, 1002, { heard: [heardText("before")] }));
  }
  for (const [name, opcode] of Object.entries({ close: OPCODES.close, ping: OPCODES.ping, pong: OPCODES.pong })) {
    cases.push(ends(`${name} in fragments`, [bad(opcode, "", { fin: false }), bad(continuation)], 1002));
    cases.push(ends(`${name} of 126`, [bad(opcode, Buffer.alloc(126, 3))], 1002));
  }
  return cases.concat(
    ends("stray continuation", [bad(continuation, "stray")], 1002),
    ends("stray continuation that goes on", [bad(continuation, "stray", { fin: false })], 1002),
    ends("message inside a message", [text("a", false), bad(OPCODES.text, "b")], 1002),
    ends("one byte over the limit", [binary(Buffer.alloc(MESSAGE_MAX + 1))], 1009, { deliveries: ONLY_WRITTEN }),
    ends("over the limit in fragments", [binary(Buffer.alloc(MESSAGE_MAX), false), binary("x")], 1009, {
      deliveries: ONLY_WRITTEN,
    }),
  );
}

function invalidPayloads() {
  const broken = ["80", "c0af", "e080af", "eda080", "f4908080", "f8888080", "fe", "ff", "c2", "e282", "f09f98"];
  const cases = broken.flatMap((hex) => {
    const data = Buffer.from(`61${hex}`, "hex");
    return [
      ends(`text with ${hex}`, [bad(OPCODES.text, data)], 1007),
      ends(`reason with ${hex}`, [bad(OPCODES.close, Buffer.concat([Buffer.from([3, 232]), data]))], 1007),
    ];
  });
  for (const code of [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535]) {
    cases.push(ends(`close ${code}`, [bad(OPCODES.close, Buffer.from([code >> 8, code & 0xff]))], 1002));
  }
  const begun = Buffer.from("61eda080", "hex");
  return cases.concat(
    ends("close of one byte", [bad(OPCODES.close, "x")], 1002),
    ends("text that is wrong before its end", [bad(OPCODES.text, begun, { fin: false })], 1007),
  );
}

function deflated() {
  const deflate = [true];
  const sync = { finishFlush: constants.Z_SYNC_FLUSH };
  const squeezed = (data) => deflateRawSync(data, sync).subarray(0, -4);
  const compressed = (data) => bad(OPCODES.text, data, { rsv: 4 });
  const broken = { "no deflate": Buffer.from("Hello"), "cut off": squeezed(sized(500)).subarray(0, 20) };
  return [
    ok("ten times the same", Array(10).fill(text(sized(500))), Array(10).fill(heardText(sized(500))), { deflate }),
    ok("the example of RFC 7692", [compressed(Buffer.from("f248cdc9c90700", "hex"))], [heardText("Hello")], { deflate }),
    ...Object.entries(broken).map(([name, data]) => ends(`deflate: ${name}`, [compressed(data)], 1007, { deflate })),
    ends("deflate: not UTF-8", [compressed(squeezed(Buffer.from("eda080", "hex")))], 1007, { deflate }),
    ends("deflate: a bomb", [compressed(squeezed(Buffer.alloc(MESSAGE_MAX + 1)))], 1009, { deflate }),
    ends("deflate: RSV2", [bad(OPCODES.text, "Hello", { rsv: 2 })], 1002, { deflate }),
    ends("deflate: RSV1 on a ping", [bad(OPCODES.ping, "", { rsv: 4 })], 1002, { deflate }),
  ];
}

export const CASES = [
  ...echoes(),
  ...fragments(),
  ...pings(),
  ...closings(),
  ...invalidFrames(),
  ...invalidPayloads(),
  ...deflated(),
];
