// A real Ignis WebSocket server as an application would run it: tokens are checked, every room may be joined.
//
// Usage: bun ignis.ts PORT REDIS_PORT
// Publications come through Redis, as from any Ignis emitter. Says `ready` once Redis is subscribed and clients can
// connect. Ignis logs a line or two for every client; what is below a warning is not written.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [port, redisPort] = process.argv.slice(2).map(Number);
if (!port || !redisPort) throw new Error("usage: ignis.ts PORT REDIS_PORT");

// Ignis opens its log files as soon as it is imported, in the working directory unless told otherwise.
const logFolder = mkdtempSync(join(tmpdir(), "peers-ignis-"));
process.env.APP_ENV_LOGGER_FOLDER_PATH = logFolder;
const stop = () => {
  rmSync(logFolder, { recursive: true, force: true });
  process.exit(0);
};
process.on("SIGTERM", stop).on("SIGINT", stop);

const { applicationLogger, RedisHelper, WebSocketServerHelper } = await import("@venizia/ignis-helpers");
for (const transport of applicationLogger.transports) transport.level = "warn";

interface SocketData {
  clientId: string;
}

// The helper needs the server and the server's handler the helper, so the handler is put in afterwards, as the
// Ignis component does it.
const notFound = () => new Response("not found", { status: 404 });
const listen = { hostname: "127.0.0.1", port };
const server = Bun.serve<SocketData>({ ...listen, fetch: notFound, websocket: { message() {} } });

const redis = { name: "peers", host: "127.0.0.1", port: redisPort, password: "", autoConnect: false };
const helper = new WebSocketServerHelper({
  identifier: "peers",
  redisConnection: new RedisHelper(redis),
  server,
  authenticateFn: async ({ token, userId }: { token?: string; userId?: string }) =>
    token === "ok" ? { userId: userId ?? "anonymous" } : null,
  validateRoomFn: ({ rooms }: { rooms: string[] }) => rooms,
});
await helper.configure();

server.reload({
  fetch(request) {
    const isEndpoint = new URL(request.url).pathname === helper.getPath();
    if (isEndpoint && server.upgrade(request, { data: { clientId: crypto.randomUUID() } })) return undefined;
    return notFound();
  },
  websocket: helper.getBunWebSocketHandler() as Bun.WebSocketHandler<SocketData>,
});
console.log(`ready ${server.port}`);
