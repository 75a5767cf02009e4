// Proves the two scripts against a real Redis, with Bun's own WebSocket as the client; no Shardcast involved.

import { deepStrictEqual, ok } from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";

const folder = mkdtempSync(join(tmpdir(), "interop-selftest-"));
const children: Bun.Subprocess[] = [];
const overdue = setTimeout(() => fail(new Error("selftest did not finish within 30 s")), 30_000);

try {
  await run();
  console.log("selftest passed");
} catch (error) {
  fail(error);
} finally {
  cleanUp();
}

async function run(): Promise<void> {
  const redisPort = await startRedis();
  const server = script("server.ts", redisPort);
  const emitter = script("emitter.ts", redisPort);
  const { port } = await server.line();
  await emitter.line();

  const refused = await connect(port);
  refused.send("authenticate", { token: "no" });
  deepStrictEqual(await refused.next(), { event: "error", data: { message: "Authentication failed" } });
  deepStrictEqual(await refused.next(), { close: 4003, reason: "Authentication failed" });

  const client = await connect(port);
  client.send("authenticate", { token: "ok", userId: "user-1" });
  const connected = await client.next();
  const clientId = connected.data.id;
  deepStrictEqual([connected.event, connected.data.userId], ["connected", "user-1"]);

  client.send("join", { rooms: ["room-a", "deny-b"] });
  client.send("rooms");
  const rooms = [clientId, "ws-default", "ws-notification", "room-a"];
  deepStrictEqual(await client.next(), { event: "rooms", data: { rooms, encrypted: false, state: "authenticated" } });
  client.send("custom", 1);
  deepStrictEqual(await client.next(), { event: "handled", data: { event: "custom", data: 1 } });

  for (const target of [
    { op: "toRoom", room: "room-a" },
    { op: "toUser", userId: "user-1" },
    { op: "toClient", clientId },
    { op: "broadcast" },
  ]) {
    deepStrictEqual(await emitter.ask({ ...target, event: target.op, data: { n: 1 } }), { ok: true });
    deepStrictEqual(await client.next(), { event: target.op, data: { n: 1 } });
  }
  await emitter.ask({ op: "toRoom", room: "room-a", event: "excluded", exclude: [clientId] });

  for (const command of [
    { op: "send", destination: "room-a", payload: { topic: "x", data: null } },
    { op: "sendToRoom", room: "room-a", event: "x", data: null },
    { op: "sendToUser", userId: "user-1", event: "x", data: null },
    { op: "sendToClient", clientId, event: "x", data: null },
    { op: "broadcast", event: "x", data: null },
  ]) {
    deepStrictEqual(await server.ask(command), { ok: true });
    deepStrictEqual(await client.next(), { event: "x", data: null });
  }
  const { clients } = await server.ask({ op: "clients" });
  deepStrictEqual(clients, [{ id: clientId, userId: "user-1", rooms, encrypted: false, state: "authenticated" }]);
  ok(!(await server.ask({ op: "nonsense" })).ok);

  await server.ask({ op: "shutdown" });
  deepStrictEqual(await client.next(), { close: 1001, reason: "Server shutting down" });
}

async function startRedis(): Promise<number> {
  const port = await freePort();
  spawn(["redis-server", "--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--dir", folder]);
  for (;;) {
    try {
      (await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } })).end();
      return port;
    } catch {
      await Bun.sleep(20);
    }
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

function script(name: string, redisPort: number) {
  const child = spawn([process.execPath, join(import.meta.dir, name), "--redis-port", `${redisPort}`]);
  const lines = createInterface({ input: Readable.fromWeb(child.stdout as never) })[Symbol.asyncIterator]();
  const line = async () => JSON.parse((await lines.next()).value ?? '"script ended"');
  const ask = async (command: object) => {
    child.stdin.write(`${JSON.stringify(command)}\n`);
    child.stdin.flush();
    return line();
  };
  return { line, ask };
}

function spawn(command: string[]) {
  const stderr = Bun.file(join(folder, `${children.length}.stderr`));
  const env = { ...process.env, APP_ENV_LOGGER_FOLDER_PATH: folder };
  const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr, env });
  children.push(child);
  return child;
}

async function connect(port: number) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
  const queue: object[] = [];
  const waiting: ((item: object) => void)[] = [];
  const push = (item: object) => {
    const wake = waiting.shift();
    if (wake) wake(item);
    else queue.push(item);
  };
  socket.onmessage = ({ data }) => push(JSON.parse(data));
  socket.onclose = ({ code, reason }) => push({ close: code, reason });
  await new Promise((resolve) => (socket.onopen = resolve));
  return {
    send: (event: string, data?: unknown) => socket.send(JSON.stringify({ event, data })),
    next: () => new Promise<any>((resolve) => (queue.length ? resolve(queue.shift()) : waiting.push(resolve))),
  };
}

function fail(error: unknown): never {
  console.error(error);
  cleanUp();
  process.exit(1);
}

function cleanUp(): void {
  clearTimeout(overdue);
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
