// What the Bun and the Node server share, so that they differ in nothing but how they publish.

/** Bytes that may wait for one client. Beyond them it is closed, so that no loss is silent. */
export const BACKLOG_BYTES_MAX = 16 * 1024 * 1024;

/** The port to listen on: the only argument. */
export function portFromArguments() {
  const port = Number(process.argv[2]);
  if (!Number.isInteger(port)) throw new Error("usage: <script> PORT");
  return port;
}

/** The room of `POST /publish/ROOM`; undefined for every other request. */
export function publishedRoom({ method, url }) {
  const { pathname } = new URL(url, "http://localhost");
  const prefix = "/publish/";
  if (method !== "POST" || !pathname.startsWith(prefix)) return undefined;
  return decodeURIComponent(pathname.slice(prefix.length));
}

/** The publications in the body of such a request: its lines, the last of which may be ended or not. */
export function publications(body) {
  return (body.endsWith("\n") ? body.slice(0, -1) : body).split("\n");
}

/** The room of a `{"join":"ROOM"}` and what the client is told once it is a member. */
export function readJoin(message) {
  const room = JSON.parse(message).join;
  return { room, reply: JSON.stringify({ joined: room }) };
}
