// A subscriber of a topic, in a headless Chromium.
//
// chromium.mjs URL TOKEN TOPIC: authorizes, subscribes, says {"ready":...}, then each message as it came. Leaves when standard
// input ends.

import { startChromium } from "../lib/chromium.mjs";

const [url, token, topic] = process.argv.slice(2);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const browser = await startChromium();
const page = await browser.newPage();
await page.exposeFunction("say", say);
const closed = new Promise((resolve) => page.exposeFunction("ended", resolve));
await page.evaluate(
  ([url, token, topic]) => {
    const ws = new WebSocket(url);
    const answers = [];
    ws.onmessage = ({ data }) => {
      const { action, message, session } = JSON.parse(data);
      if (session) {
        const send = (action, context) => ws.send(JSON.stringify({ action, session, context }));
        send("authorization", token);
        send("subscribe", topic);
      } else if (action === "message") {
        window.say({ text: data });
      } else if (action !== "connect") {
        answers.push(message);
        if (answers.length === 2) window.say({ ready: answers });
      }
    };
    ws.onclose = ({ code }) => window.ended(code);
    window.leave = () => ws.close(1000);
  },
  [url, token, topic],
);
process.stdin.on("end", () => page.evaluate("leave()")).resume();
const code = await closed;
await browser.close();
process.exit(code === 1000 ? 0 : 1);
