// Reads three snapshots of massif and prints who holds what: table.mjs FOLDER, with `few`, `many` and `rooms` in it.
import { readFileSync } from "node:fs";

// The first that occurs in the call stack of an allocation owns it.
const owners = [
    ["table of connections", /conn::Conns::insert/],
    ["table of sockets", /driver::core::Core::accept/],
    ["memberships, and the rooms' lists of members", /membership::<impl [^>]*>::enter/],
    ["timers", /timers::Wheel::arm/],
    ["directory: clients", /Directory::client_up/],
    ["directory: users", /Directory::user_up/],
    ["directory: rooms", /Directory::room_up/],
    ["rooms: table and names", /rooms::Rooms::find_or_make/],
    ["users", /users::Users::/],
    ["identity", /policy::|ignis::ids::UserId/],
    ["lists of a turn", /flush::|burst::|shard::Shard::step|shard::Shard::send/],
    ["unfinished input", /message::|handshake::|http::/],
    ["mailbox", /mailbox|crossbeam/],
    ["runtime", /monoio|tokio|mio::/],
];

// The leaves of massif's tree: bytes, and the stack as one text, innermost first.
function* leaves(lines) {
    const stack = [];
    for (const line of lines) {
        const node = /^( *)n(\d+): (\d+) (.*)$/.exec(line);
        if (!node) continue;
        const [, indent, children, bytes, text] = node;
        stack.length = indent.length;
        stack.push(text);
        if (children === "0") yield { bytes: Number(bytes), stack: stack.join("\n") };
    }
}

function byOwner(file) {
    const sums = new Map();
    for (const { bytes, stack } of leaves(readFileSync(file, "utf8").split("\n"))) {
        const owner = owners.find(([, frames]) => frames.test(stack))?.[0] ?? "everything else";
        sums.set(owner, (sums.get(owner) ?? 0) + bytes);
    }
    return sums;
}

function table(title, from, to, divisor) {
    const rows = [...new Set([...from.keys(), ...to.keys()])]
        .map((owner) => [owner, ((to.get(owner) ?? 0) - (from.get(owner) ?? 0)) / divisor])
        .filter(([, bytes]) => Math.abs(bytes) >= 0.5)
        .sort((a, b) => b[1] - a[1]);
    console.log(`| ${title} | bytes |\n|---|---|`);
    for (const [owner, bytes] of rows) console.log(`| ${owner} | ${bytes.toFixed(0)} |`);
    console.log(`| **together** | **${rows.reduce((sum, [, bytes]) => sum + bytes, 0).toFixed(0)}** |\n`);
}

const [few, many, rooms] = ["few", "many", "rooms"].map((name) => byOwner(`${process.argv[2]}/${name}`));
table("an idle connection in three rooms holds", few, many, 3000);
table("a room of three members holds, beside its members' seats", many, rooms, 4000);
