// A member of a room over wss, by Node's `ws` and OpenSSL.
//
// client.mjs URL ROOT ROOM: trusts the root alone, joins, says {"ready":...}, then each message as it came; with the API
// asked over https by Node's own client. Leaves when standard input ends.

import { readFileSync } from "node:fs";
import { request } from "node:https";
import { WebSocket } from "ws";

const [url, root, room] = process.argv.slice(2);
const ca = readFileSync(root);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const ws = new WebSocket(url, { ca, perMessageDeflate: false });
ws.on("error", fail);
ws.on("open", () => {
  send("authenticate", { token: "node", userId: "node" });
});
ws.once("message", (text) => {
  if (JSON.parse(text).event !== "connected") fail(text);
  send("join", { rooms: [room] });
  ws.on("message", (text) => say({ text: text.toString() }));
  ws.ping();
});
ws.once("pong", async () => {
  const version = ws._socket.getProtocol();
  const status = await post("/api/emit", { type: "user", target: "nobody", event: "e", data: null });
  if (status !== 200) fail(new Error(`the API answers ${status}`));
  say({ ready: version });
});
ws.on("close", (code) => process.exit(code === 1000 ? 0 : 1));
process.stdin.on("end", () => ws.close(1000)).resume();

function send(event, data) {
  ws.send(JSON.stringify({ event, data }));
}

function post(path, body) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const asked = request({ hostname, port, path, method: "POST", ca }, (answer) => {
      answer.resume().on("end", () => resolve(answer.statusCode));
    });
    asked.on("error", reject).end(JSON.stringify(body));
  });
}

function fail(error) {
  console.error(error);
  process.exit(1);
}
