// Publishes through the real Ignis WebSocketEmitter.
//
// Usage: bun emitter.ts --redis-port PORT [--redis-max-retry N]
// Says {"ready":true} once connected to Redis; commands are listed in README.md.

import { parseArgs } from "node:util";
import { type Operation, say, serveCommands } from "./lib/commands";
import { redisHelper, WebSocketEmitter } from "./lib/ignis";

const { values: args } = parseArgs({
  options: {
    "redis-port": { type: "string" },
    "redis-max-retry": { type: "string", default: "-1" },
  },
});

const emitter = new WebSocketEmitter({
  redisConnection: redisHelper({
    name: "emitter",
    port: Number(args["redis-port"]),
    maxRetry: Number(args["redis-max-retry"]),
  }),
});
await emitter.configure();
say({ ready: true });

const operations: Record<string, Operation> = {
  toClient: (command) => emitter.toClient(command),
  toUser: (command) => emitter.toUser(command),
  toRoom: (command) => emitter.toRoom(command),
  broadcast: (command) => emitter.broadcast(command),
};
await serveCommands(operations);
await emitter.shutdown();
process.exit(0);
