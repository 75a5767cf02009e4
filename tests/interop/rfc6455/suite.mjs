// Conversations of the npm package `ws` with the echo mount, judged by its own Receiver.
//
//     node suite.mjs ADDRESS ECHO_PATH [IGNIS_PATH] [--only=TEXT]
//
// Says one line for each failure and a summary, `N cases, M failed`; the exit code is 1 when a case failed. The echo
// mount has its default bounds and compression. The Ignis mount is not used: `deflate.mjs` has what comes compressed.

import { isDeepStrictEqual } from "node:util";
import WebSocket from "ws";

import { CASES, OPCODES, frame } from "./cases.mjs";
import { DELIVERIES } from "./wires.mjs";

// Conversations that go on at the same time.
const WORKERS = 8;
// One may take this long; a healthy one takes milliseconds.
const PATIENCE_MS = 20_000;
const TOGETHER = "with the upgrade";

const [address, path] = process.argv.slice(2);
const only = process.argv.find((arg) => arg.startsWith("--only="))?.slice("--only=".length) ?? "";

function allRuns() {
  return CASES.flatMap((row) =>
    row.deflate.flatMap((deflate) =>
      (row.deliveries ?? Object.keys(DELIVERIES)).map((delivery) => ({
        row,
        deflate,
        delivery,
        name: `${row.name} [${delivery}${deflate ? ", deflate" : ""}]`,
      })),
    ),
  ).filter(({ name }) => name.includes(only));
}

/** The bytes of steps that go out before `ws` may send, framed by its Sender. */
function early(steps) {
  let isContinued = false;
  const bytes = steps.map(({ op, data, fin = true, code, reason }) => {
    if (op === "raw") return data;
    if (op === "close") {
      const payload = code === undefined ? "" : Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)]);
      return frame(OPCODES.close, payload);
    }
    if (op === "ping" || op === "pong") return frame(OPCODES[op], data);
    const opcode = isContinued ? OPCODES.continuation : OPCODES[op];
    isContinued = !fin;
    return frame(opcode, data, { fin });
  });
  return Buffer.concat(bytes);
}

function perform(socket, steps) {
  for (const { op, data, fin, code, reason } of steps) {
    if (op === "raw") socket._socket.write(data);
    else if (op === "close") socket.close(code, reason);
    else if (op === "ping" || op === "pong") socket[op](data);
    else socket.send(data, { binary: op === "binary", fin });
  }
}

function converse({ row, deflate, delivery }) {
  const { steps, isOver } = row;
  const isTogether = delivery === TOGETHER;
  return new Promise((resolve) => {
    const got = { heard: [], faults: [] };
    const socket = new WebSocket(`ws://${address}${path}`, {
      perMessageDeflate: deflate && { threshold: 0 },
      createConnection: DELIVERIES[delivery](isTogether ? early(steps) : undefined),
      maxPayload: 64 << 20,
    });
    const timer = setTimeout(() => {
      got.faults.push(`not over after ${PATIENCE_MS} ms`);
      socket.terminate();
    }, PATIENCE_MS);
    socket.on("open", () => {
      got.extensions = socket.extensions;
      if (!isTogether) perform(socket, steps);
      if (!isOver) socket.close(1000);
    });
    socket.on("message", (data, isBinary) => got.heard.push([isBinary ? "binary" : "text", data]));
    socket.on("pong", (data) => got.heard.push(["pong", data]));
    socket.on("error", (error) => got.faults.push(String(error)));
    socket.on("close", (code, reason) => {
      clearTimeout(timer);
      resolve({ ...got, close: [code, reason.toString()] });
    });
  });
}

function differences({ row, deflate }, got) {
  const [code, reason = got.close[1]] = row.close;
  const pairs = [
    ["faults", [], got.faults],
    ["extensions", deflate ? "permessage-deflate" : "", got.extensions],
    ["close", [code, reason], got.close],
    ["heard", row.heard, got.heard],
  ];
  return pairs.filter(([, expected, found]) => !isDeepStrictEqual(expected, found));
}

const brief = (value) =>
  JSON.stringify(value, (_, inner) => (inner?.type === "Buffer" ? `${inner.data.length} B` : inner))?.slice(0, 200);

const runs = allRuns();
const failures = [];
let next = 0;
await Promise.all(
  Array.from({ length: WORKERS }, async () => {
    while (next < runs.length) {
      const run = runs[next++];
      const found = differences(run, await converse(run));
      if (found.length > 0) failures.push([run.name, found]);
    }
  }),
);
for (const [name, found] of failures) {
  for (const [what, expected, got] of found) {
    console.log(`${name}: expected ${what} ${brief(expected)}, got ${brief(got)}`);
  }
}
console.log(`${runs.length} cases, ${failures.length} failed`);
process.exitCode = failures.length > 0 ? 1 : 0;
