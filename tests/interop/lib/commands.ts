// The control protocol of both scripts: one JSON command a line on stdin, one JSON reply a line on stdout,
// answered strictly in order.

import { createInterface } from "node:readline";

/**
 * Handles one command; what it returns is merged into the `{"ok":true}` reply. A command is `any` because it goes
 * to Ignis as it came: odd arguments are part of what is tested.
 */
export type Operation = (command: any) => object | void | Promise<object | void>;

/** Writes one protocol line. */
export function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Answers commands until stdin ends, which is also what happens when the driving process dies. */
export async function serveCommands(operations: Record<string, Operation>): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const { op, ...command } = JSON.parse(line);
      const operation = operations[op];
      if (!operation) throw new Error(`unknown op: ${op}`);
      say({ ok: true, ...(await operation(command)) });
    } catch (error) {
      say({ ok: false, error: String(error) });
    }
  }
}
