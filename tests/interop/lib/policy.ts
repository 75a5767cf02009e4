// What the fixture application decides: who may log in, and which rooms may be joined. The recorded Ignis
// transcripts were made under the same policy.

interface Credentials {
  token?: unknown;
  userId?: string;
  ms?: number;
}

/** Decides by `token`; any other token is refused. */
export async function authenticate(data: Credentials) {
  const accepted = { userId: data.userId ?? "u1", metadata: { role: "tester" } };
  switch (data.token) {
    case "ok":
      return accepted;
    case "anon":
      return {};
    case "numid":
      // Ignis types the id as a string and passes a number through unchanged.
      return { userId: 42 as unknown as string };
    case "slow":
      await Bun.sleep(data.ms ?? 300);
      return accepted;
    case "hang":
      return new Promise<null>(() => {});
    case "throw":
      throw new Error("authenticate: token is `throw`");
    default:
      return null;
  }
}

/** Refuses `deny*`, delays `slow` by 300 ms, fails on `throw`, and adds unasked rooms on `inject`. */
export async function validateRooms({ rooms }: { rooms: string[] }): Promise<string[]> {
  if (rooms.includes("throw")) throw new Error("validateRooms: asked for `throw`");
  if (rooms.includes("slow")) await Bun.sleep(300);
  const allowed = rooms.filter((room) => !room.startsWith("deny"));
  if (!rooms.includes("inject")) return allowed;
  return [...allowed, "ws:internal:broadcast", "not-requested", "x".repeat(300)];
}
