// Bare Bun: `server.publish` and nothing around it.
//
// Usage: bun bun-publish.ts PORT
// A client sends {"join":"ROOM"} and is answered {"joined":"ROOM"}. POST /publish/ROOM publishes every line of its
// body to the room. Says `ready` once it takes connections.

import { BACKLOG_BYTES_MAX, portFromArguments, publications, publishedRoom, readJoin } from "./protocol.mjs";

const HTTP_IDLE_SECONDS_MAX = 255;
const WEBSOCKET_IDLE_SECONDS_MAX = 960;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: portFromArguments(),
  idleTimeout: HTTP_IDLE_SECONDS_MAX,
  async fetch(request, server) {
    const room = publishedRoom(request);
    if (room !== undefined) {
      const body = await request.text();
      for (const line of publications(body)) server.publish(room, line);
      return new Response("ok");
    }
    if (server.upgrade(request)) return undefined;
    return new Response("not found", { status: 404 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: WEBSOCKET_IDLE_SECONDS_MAX,
    backpressureLimit: BACKLOG_BYTES_MAX,
    closeOnBackpressureLimit: true,
    message(socket, message) {
      const { room, reply } = readJoin(message);
      socket.subscribe(room);
      socket.send(reply);
    },
  },
});
console.log(`ready ${server.port}`);
