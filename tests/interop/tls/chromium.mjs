// A member of a room over wss, in a headless Chromium.
//
// chromium.mjs URL CERTIFICATE ROOM: trusts the key of that certificate alone, joins, says {"ready":...}, then each message
// as it came. Leaves when standard input ends.

import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { startChromium } from "../lib/chromium.mjs";

const [url, certificate, room] = process.argv.slice(2);
const key = new X509Certificate(readFileSync(certificate)).publicKey.export({ type: "spki", format: "der" });
const pin = createHash("sha256").update(key).digest("base64");
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const browser = await startChromium({ args: [`--ignore-certificate-errors-spki-list=${pin}`] });
const page = await browser.newPage();
await page.exposeFunction("say", say);
const closed = new Promise((resolve) => page.exposeFunction("ended", resolve));
await page.evaluate(
  ([url, room]) => {
    const ws = new WebSocket(url);
    const send = (event, data) => ws.send(JSON.stringify({ event, data }));
    ws.onopen = () => send("authenticate", { token: "chromium", userId: "chromium" });
    ws.onmessage = ({ data }) => {
      const { event } = JSON.parse(data);
      if (event === "connected") {
        send("join", { rooms: [room] });
        // Not JSON: answered once everything before it is handled.
        ws.send("{");
      } else if (event === "error") {
        window.say({ ready: "chromium" });
      } else {
        window.say({ text: data });
      }
    };
    ws.onclose = ({ code }) => window.ended(code);
    window.leave = () => ws.close(1000);
  },
  [url, room],
);
process.stdin.on("end", () => page.evaluate("leave()")).resume();
const code = await closed;
await browser.close();
process.exit(code === 1000 ? 0 : 1);
