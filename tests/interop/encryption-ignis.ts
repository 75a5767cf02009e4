// An encrypted client whose cryptography is Ignis' own `ECDH`: bun encryption-ignis.ts <url> <room>
//
// Says the same lines as encryption.mjs.

import { say } from "./lib/commands";
import { ECDH } from "./lib/ignis";

const [url, room] = process.argv.slice(2);
const ecdh = ECDH.withAlgorithm();
const { keyPair, publicKeyB64 } = await ecdh.generateKeyPair();

const socket = new WebSocket(url);
const inbox: any[] = [];
let wake = () => {};
socket.onmessage = ({ data }) => {
  inbox.push(JSON.parse(data));
  wake();
};
socket.onclose = ({ code, reason }) => {
  console.error(`closed: ${code} ${reason}`);
  process.exit(1);
};
async function next() {
  while (inbox.length === 0) await new Promise<void>((resolve) => (wake = resolve));
  return inbox.shift();
}
await new Promise((resolve) => (socket.onopen = resolve));
const data = { token: "token", userId: "ignis", publicKey: publicKeyB64 };
socket.send(JSON.stringify({ event: "authenticate", data }));
const { event, data: connected } = await next();
if (event !== "connected") throw new Error(`${event} instead of connected`);
const peerPublicKey = await ecdh.importPublicKey({ rawKeyB64: connected.serverPublicKey });
const { key: secret } = await ecdh.deriveAESKey({ privateKey: keyPair.privateKey, peerPublicKey, salt: connected.salt });

async function send(message: string) {
  socket.send(JSON.stringify({ event: "encrypted", data: await ecdh.encrypt({ message, secret }) }));
}
async function receive() {
  const { event, data: message } = await next();
  if (event !== "encrypted") throw new Error(`${event} came readable`);
  return ecdh.decrypt({ message, secret });
}
await send(JSON.stringify({ event: "join", data: { rooms: [room] } }));
// A message that is not JSON is answered once all before it is done.
await send("{");
say({ ready: true, answer: JSON.parse(await receive()).data.message });
process.stdin.resume().on("end", () => process.exit(0));
for (;;) say({ text: await receive() });
