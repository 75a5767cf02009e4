// Loads the published Ignis helpers for a script whose stdout carries a protocol.
//
// Ignis logs to stdout and to files in the working directory as soon as it is imported, so the folder must be
// chosen before the import, and the console transport is turned to stderr right after it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

if (!process.env.APP_ENV_LOGGER_FOLDER_PATH) {
  const folder = mkdtempSync(join(tmpdir(), "ignis-logs-"));
  process.env.APP_ENV_LOGGER_FOLDER_PATH = folder;
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
}

const ignis = await import("@venizia/ignis-helpers");

for (const transport of ignis.applicationLogger.transports) {
  if ("stderrLevels" in transport) {
    for (const level of Object.keys(ignis.applicationLogger.levels)) {
      (transport.stderrLevels as Record<string, boolean>)[level] = true;
    }
  }
}

export const { ECDH, WebSocketEmitter, WebSocketServerHelper } = ignis;

/** The application's Redis client, which Ignis only duplicates; it never connects itself. */
export function redisHelper(opts: { name: string; port: number; maxRetry: number }) {
  const { name, port, maxRetry } = opts;
  return new ignis.RedisHelper({ name, host: "127.0.0.1", port, password: "", maxRetry, autoConnect: false });
}
