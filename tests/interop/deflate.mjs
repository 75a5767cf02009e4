// Two clients of the npm package `ws`, which brings its own zlib: one that compresses all it sends, one without
// compression. Run by Node (Bun has a `ws` of its own): node deflate.mjs <url> <room>
//
// Says one JSON line when both are members of the room, then one for each message that came: who heard what.

import WebSocket from "ws";

const [url, room] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function member(name, perMessageDeflate) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { perMessageDeflate });
    const send = (event, data) => socket.send(JSON.stringify({ event, data }));
    socket.on("error", reject);
    socket.on("close", (code, reason) => reject(new Error(`${name} was closed: ${code} ${reason}`)));
    socket.on("open", () => send("authenticate", { token: "token", userId: name }));
    socket.on("message", (data) => {
      const { event } = JSON.parse(data);
      if (event === "connected") {
        // A message that is not JSON is answered once all before it is done.
        send("join", { rooms: [room] });
        socket.send("{");
      } else if (event === "error") {
        resolve(socket.extensions);
      } else {
        say({ name, text: data.toString() });
      }
    });
  });
}

const deflating = await member("deflating", { threshold: 0 });
const plain = await member("plain", false);
say({ ready: true, extensions: { deflating, plain } });
process.stdin.resume().on("end", () => process.exit(0));
