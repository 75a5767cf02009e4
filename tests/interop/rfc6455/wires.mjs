// Sockets for `ws` that deliver what it writes in other pieces.

import net from "node:net";

// Bytewise: of a write this much goes out a byte a segment at the beginning and the end, the rest in odd chunks.
const HEAD = 64;
const TAIL = 8;
const CHUNK_MIN = 997;
const CHUNKS_MAX = 200;
// Coalesced: what is written within this time goes out in one write.
const GATHER_MS = 2;

/** Writes a byte at a time, each in a turn of the event loop. */
class Bytewise extends net.Socket {
  // A batch comes as single writes.
  _writev = null;

  _write(chunk, encoding, done) {
    const data = Buffer.from(chunk, encoding);
    const chunkLen = Math.max(Math.floor(data.length / CHUNKS_MAX) | 1, CHUNK_MIN);
    const step = (at, error) => {
      if (error || at === data.length) return done(error);
      const isBulk = at >= HEAD && at < data.length - TAIL;
      const end = isBulk ? Math.min(at + chunkLen, data.length - TAIL) : at + 1;
      super._write(data.subarray(at, end), "buffer", (failed) => setImmediate(step, end, failed));
    };
    step(0);
  }
}

/** Gathers writes; `early` goes out together with the first of them, which is the upgrade. */
class Coalescing extends net.Socket {
  _writev = null;
  #held = [];
  #timer;

  constructor(early) {
    super();
    if (early) this.#held.push(early);
  }

  _write(chunk, encoding, done) {
    const data = Buffer.from(chunk, encoding);
    if (this.connecting) this.#held.unshift(data);
    else this.#held.push(data);
    this.#timer ??= setTimeout(() => this.#release(() => {}), GATHER_MS);
    done();
  }

  _final(done) {
    this.#release((error) => (error ? done(error) : super._final(done)));
  }

  #release(done) {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const data = Buffer.concat(this.#held.splice(0));
    if (data.length === 0 || this.destroyed) return done();
    super._write(data, "buffer", done);
  }
}

const connected = (socket, { host, port }) => socket.connect({ host, port, noDelay: true });

/** Ways of delivery: what `ws` takes as `createConnection`, given the bytes that go with the upgrade. */
export const DELIVERIES = {
  "as written": () => (options) => connected(new net.Socket(), options),
  bytewise: () => (options) => connected(new Bytewise(), options),
  coalesced: () => (options) => connected(new Coalescing(), options),
  "with the upgrade": (early) => (options) => connected(new Coalescing(early), options),
};
