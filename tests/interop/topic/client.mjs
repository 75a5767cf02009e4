// A subscriber of a topic, by Node's `ws`.
//
// client.mjs URL TOKEN TOPIC: authorizes, subscribes, says {"ready":...}, then each message as it came. Leaves when standard
// input ends.

import { WebSocket } from "ws";

const [url, token, topic] = process.argv.slice(2);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const ws = new WebSocket(url);
const answers = [];
let session;
ws.on("error", fail);
ws.on("message", (data, isBinary) => {
  const text = data.toString();
  const message = JSON.parse(text);
  if (isBinary) fail(new Error(`binary: ${text}`));
  if (message.session) {
    ({ session } = message);
    send("authorization", token);
    send("subscribe", topic);
  } else if (message.action === "message") {
    say({ text });
  } else if (message.action !== "connect") {
    answers.push(message.message);
    if (answers.length === 2) say({ ready: answers });
  }
});
ws.on("close", (code) => process.exit(code === 1000 ? 0 : 1));
process.stdin.on("end", () => ws.close(1000)).resume();

function send(action, context) {
  ws.send(JSON.stringify({ action, session, context }));
}

function fail(error) {
  console.error(error);
  process.exit(1);
}
