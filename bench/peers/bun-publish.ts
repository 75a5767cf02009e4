// Bare Bun: `server.publish` and nothing around it.
//
// Usage: bun bun-publish.ts PORT
// A client sends {"join":"ROOM"} and is answered {"joined":"ROOM"}, or logs in and joins as in Ignis. POST /publish/ROOM
// publishes every line of its body to the room; POST /publish, every line to the room whose name and a space it begins
// with. Says `ready` once it takes connections.

import { BACKLOG_BYTES_MAX, isPublication, portFromArguments, publications, readMessage } from "./protocol.mjs";

const HTTP_IDLE_SECONDS_MAX = 255;
const WEBSOCKET_IDLE_SECONDS_MAX = 960;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: portFromArguments(),
  idleTimeout: HTTP_IDLE_SECONDS_MAX,
  async fetch(request, server) {
    if (isPublication(request)) {
      for (const { room, text } of publications(request, await request.text())) server.publish(room, text);
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
      const { rooms, reply } = readMessage(message);
      for (const room of rooms) socket.subscribe(room);
      if (reply !== undefined) socket.send(reply);
    },
  },
});
console.log(`ready ${server.port}`);
