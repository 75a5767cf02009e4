// What the Bun and the Node server share, so that they differ in nothing but how they publish.

/** Bytes that may wait for one client. Beyond them it is closed, so that no loss is silent. */
export const BACKLOG_BYTES_MAX = 16 * 1024 * 1024;

/** The port to listen on: the only argument. */
export function portFromArguments() {
  const port = Number(process.argv[2]);
  if (!Number.isInteger(port)) throw new Error("usage: <script> PORT");
  return port;
}

/** Whether this is `POST /publish` or `POST /publish/ROOM`. */
export function isPublication({ method, url }) {
  return method === "POST" && /^\/publish(\/|$)/.test(new URL(url, "http://localhost").pathname);
}

/**
 * The publications in the body of such a request: its lines, the last of which may be ended or not. Where the path has
 * no room, each line begins with its own and a space.
 */
export function* publications({ url }, body) {
  const { pathname } = new URL(url, "http://localhost");
  const room = decodeURIComponent(pathname.slice("/publish/".length));
  for (const line of (body.endsWith("\n") ? body.slice(0, -1) : body).split("\n")) {
    if (room !== "") yield { room, text: line };
    else {
      const end = line.indexOf(" ");
      yield { room: line.slice(0, end), text: line.slice(end + 1) };
    }
  }
}

/**
 * What a client wants: the rooms it joins, and what it is told at once. Understands `{"join":"ROOM"}`, and of Ignis the
 * login, which everybody passes, and the join; all else is read and means nothing.
 */
export function readMessage(message) {
  const { join, event, data } = JSON.parse(message);
  if (join !== undefined) return { rooms: [join], reply: JSON.stringify({ joined: join }) };
  if (event === "authenticate") return { rooms: [], reply: CONNECTED };
  return { rooms: event === "join" ? data.rooms : [], reply: undefined };
}

const CONNECTED = JSON.stringify({ event: "connected" });
