// A page of headless Chromium as an encrypted client, with WebCrypto alone: node encryption.mjs <url> <room>
//
// Says one JSON line when it is a member of the room, which it asked for encrypted, then one for each message that
// came, decrypted. A message that comes readable ends it.

import { startChromium } from "./lib/chromium.mjs";

const [url, room] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const browser = await startChromium();
const page = await browser.newPage();
await page.exposeFunction("say", say);
await page.evaluate(member, { url, room });
process.stdin.resume().on("end", async () => {
  await browser.close();
  process.exit(0);
});

/** Runs in the page; written from the protocol's description, without Ignis. */
async function member({ url, room }) {
  const toBase64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
  const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const curve = { name: "ECDH", namedCurve: "P-256" };
  const keys = await crypto.subtle.generateKey(curve, false, ["deriveBits"]);
  const publicKey = toBase64(await crypto.subtle.exportKey("raw", keys.publicKey));

  async function derive({ serverPublicKey, salt }) {
    const server = await crypto.subtle.importKey("raw", fromBase64(serverPublicKey), curve, false, []);
    const shared = await crypto.subtle.deriveBits({ name: "ECDH", public: server }, keys.privateKey, 256);
    const material = await crypto.subtle.importKey("raw", shared, "HKDF", false, ["deriveKey"]);
    const info = new TextEncoder().encode("ignis-ecdh-p256-aes-256-gcm-v1");
    const hkdf = { name: "HKDF", hash: "SHA-256", salt: fromBase64(salt), info };
    return crypto.subtle.deriveKey(hkdf, material, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
  }

  const socket = new WebSocket(url);
  const inbox = [];
  let wake = () => {};
  socket.onmessage = ({ data }) => {
    inbox.push(JSON.parse(data));
    wake();
  };
  socket.onclose = ({ code, reason }) => {
    throw new Error(`closed: ${code} ${reason}`);
  };
  const next = async () => {
    while (inbox.length === 0) await new Promise((resolve) => (wake = resolve));
    return inbox.shift();
  };
  await new Promise((resolve) => (socket.onopen = resolve));
  socket.send(JSON.stringify({ event: "authenticate", data: { token: "token", userId: "browser", publicKey } }));
  const connected = await next();
  if (connected.event !== "connected") throw new Error(JSON.stringify(connected));
  const key = await derive(connected.data);

  async function send(text) {
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const ct = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, new TextEncoder().encode(text));
    socket.send(JSON.stringify({ event: "encrypted", data: { iv: toBase64(iv), ct: toBase64(ct) } }));
  }
  async function receive() {
    const { event, data } = await next();
    if (event !== "encrypted") throw new Error(`${event} came readable`);
    const iv = fromBase64(data.iv);
    return new TextDecoder().decode(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, fromBase64(data.ct)));
  }
  await send(JSON.stringify({ event: "join", data: { rooms: [room] } }));
  // A message that is not JSON is answered once all before it is done.
  await send("{");
  await say({ ready: true, answer: JSON.parse(await receive()).data.message });
  (async () => {
    for (;;) await say({ text: await receive() });
  })();
}
