// A real Ignis WebSocket server under the fixture policy.
//
// Usage: bun server.ts --redis-port PORT [--port PORT] [--redis-max-retry N] [--options JSON]
// `--options` is merged into the WebSocketServerHelper options, e.g. {"authTimeout":300}.
// Says {"ready":true,"port":N,"id":"<serverId>"} once it takes connections; commands are listed in README.md.

import { parseArgs } from "node:util";
import { type Operation, say, serveCommands } from "./lib/commands";
import { redisHelper, WebSocketServerHelper } from "./lib/ignis";
import { authenticate, validateRooms } from "./lib/policy";

/** What Ignis expects to find on a socket. */
interface SocketData {
  clientId: string;
}

const { values: args } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    "redis-port": { type: "string" },
    "redis-max-retry": { type: "string", default: "-1" },
    options: { type: "string", default: "{}" },
  },
});

// The listener comes up first and is given the WebSocket handler afterwards, as the Ignis component does it:
// the helper needs the server, and the handler needs the helper.
const listen = { hostname: "127.0.0.1", port: Number(args.port) };
const server = Bun.serve<SocketData>({ ...listen, fetch: notFound, websocket: { message() {} } });

const helper = new WebSocketServerHelper({
  identifier: "interop-server",
  redisConnection: redisHelper({
    name: "server",
    port: Number(args["redis-port"]),
    maxRetry: Number(args["redis-max-retry"]),
  }),
  server,
  authenticateFn: authenticate,
  validateRoomFn: validateRooms,
  messageHandler: ({ clientId, message }) => {
    if (message.event === "rooms") helper.sendToClient({ clientId, event: "rooms", data: membership(clientId) });
    else helper.sendToClient({ clientId, event: "handled", data: message });
  },
  ...JSON.parse(args.options),
});
await helper.configure();

server.reload({
  fetch(request) {
    const isUpgrade = request.headers.get("upgrade")?.toLowerCase() === "websocket";
    if (!isUpgrade || new URL(request.url).pathname !== helper.getPath()) return notFound();
    if (server.upgrade(request, { data: { clientId: crypto.randomUUID() } })) return undefined;
    return new Response("WebSocket upgrade failed", { status: 500 });
  },
  websocket: helper.getBunWebSocketHandler() as Bun.WebSocketHandler<SocketData>,
});
say({ ready: true, port: server.port, id: Reflect.get(helper, "serverId") });

const operations: Record<string, Operation> = {
  send: (command) => helper.send(command),
  sendToRoom: (command) => helper.sendToRoom(command),
  sendToUser: (command) => helper.sendToUser(command),
  sendToClient: (command) => helper.sendToClient(command),
  broadcast: (command) => helper.broadcast(command),
  clients: () => ({
    clients: [...clients().values()].map(({ id, userId }) => ({ id, userId, ...membership(id) })),
  }),
  shutdown: () => helper.shutdown(),
};
await serveCommands(operations);
process.exit(0);

function clients() {
  return helper.getClients() as Exclude<ReturnType<typeof helper.getClients>, { id: string } | undefined>;
}

function membership(clientId: string) {
  const client = clients().get(clientId);
  return client && { rooms: [...client.rooms], encrypted: client.encrypted, state: client.state };
}

function notFound(): Response {
  return Response.json({ message: "URL NOT FOUND", statusCode: 404 }, { status: 404 });
}
