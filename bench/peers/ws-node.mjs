// Node with `ws`: a room is a set of sockets, a publication a loop over it.
//
// Usage: node ws-node.mjs PORT
// The protocol is that of bun-publish.ts.

import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { WebSocket, WebSocketServer } from "ws";
import { BACKLOG_BYTES_MAX, isPublication, portFromArguments, publications, readMessage } from "./protocol.mjs";

/** Members of each room. @type {Map<string, Set<WebSocket>>} */
const rooms = new Map();

const http = createServer(async (request, response) => {
  if (!isPublication(request)) {
    response.writeHead(404).end("not found");
    return;
  }
  for (const { room, text: line } of publications(request, await text(request))) publish(room, line);
  response.setHeader("Content-Length", 2).end("ok");
});
// The publisher's connection may rest while the clients connect.
http.keepAliveTimeout = 0;

const sockets = new WebSocketServer({ server: http, perMessageDeflate: false });
sockets.on("connection", (socket) => {
  const joined = new Set();
  socket.on("message", (message) => {
    const { rooms: wanted, reply } = readMessage(message);
    for (const room of wanted) {
      if (!rooms.has(room)) rooms.set(room, new Set());
      rooms.get(room).add(socket);
      joined.add(room);
    }
    if (reply !== undefined) socket.send(reply);
  });
  socket.on("close", () => {
    for (const room of joined) {
      rooms.get(room).delete(socket);
      if (rooms.get(room).size === 0) rooms.delete(room);
    }
  });
  socket.on("error", (error) => console.error("socket: %s", error));
});

http.listen(portFromArguments(), "127.0.0.1", 4096, () => console.log(`ready ${http.address().port}`));

/** Sends one text to every member; it is encoded once for all of them. */
function publish(room, line) {
  const data = Buffer.from(line);
  for (const socket of rooms.get(room) ?? []) {
    if (socket.readyState !== WebSocket.OPEN) continue;
    if (socket.bufferedAmount > BACKLOG_BYTES_MAX) socket.terminate();
    else socket.send(data, { binary: false });
  }
}
