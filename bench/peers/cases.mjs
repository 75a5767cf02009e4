// The one table of cases: what each asks of the load generator, who can do it, and which figures of it count.
//
// `run` asks for the load, bench/report for the rest.
//
// Usage: node cases.mjs names "GROUP CASE…"          the cases, one a line
//        node cases.mjs peers CASE                   who can do it, one a line
//        node cases.mjs targets                      who takes part in the group of targets, one a line
//        node cases.mjs load CASE IS_QUICK           arguments of the load generator, one a line
//        node cases.mjs traits CASE                  what else the run has to do, a word each: `spread` and `dev`
//        node cases.mjs tell CASE RESULT.json        the figures that count, in a line

import { readFileSync } from "node:fs";
import { argv, exit, stderr } from "node:process";
import { pathToFileURL } from "node:url";
import { CPU, FIGURES, HEARTBEATS_PER_SECOND } from "./figures.mjs";

/** Who takes publications at least as fast as they are asked for at all rates below. */
const BATCHING = ["bun", "shardcast", "shardcast-redis", "ignis"];
/** The same, and clients of another protocol; what they do beside hearing is not compared. */
const HEARING = [...BATCHING, "shardcast-topic"];
/** Everybody. */
const ALL = [...BATCHING, "nchan", "ws"];
const ALL_HEARING = [...ALL, "shardcast-topic"];
/** Clients can be in several rooms. */
const MANY_ROOMS = [...BATCHING, "ws"];
/** Publications can be for a client, a user, or all but some. */
const IGNIS = ["shardcast", "shardcast-redis", "ignis"];
/** Percent of the duration of a flush that the next one waits; 0 is Shardcast as it comes. */
export const PACES = [0, 25, 50, 100, 200];

/** How publications come to Shardcast. */
const WAYS_IN = ["shardcast", "embedded", "shardcast-redis"];

const RATES = [100, 200, 400, 800, 1600];
const MEMBERS = ["-n", 1000];
const ROOM = ["--rooms", 1];
const FOUR_ROOMS = ["--rooms", 4, "--rooms-per-connection", 4];
const SMALL_ROOMS = ["-n", 5000, "--rooms", 1000];
const BYTES = ["--size", 128];
const SPIN = ["--wait", "spin"];
const HOT_ROOM = ["fanout", ...MEMBERS, ...ROOM, ...BYTES, ...SPIN];

const together = (count) => ["-w", count, "--burst", count];
const paced = (pace) => (pace === 0 ? "shardcast" : `shardcast-pace${pace}`);

/** Measured time: enough deliveries for a share of the CPU time, or enough publications for a p99. */
const MANY_DELIVERIES = { duration: "2s", warmup: "500ms" };
const MANY_PUBLICATIONS = { duration: "3s", warmup: "500ms" };
const SLOWNESS_SHOWS = { duration: "6s", warmup: "500ms" };

const fanout = (title, peers, load, figures = [CPU], time = MANY_DELIVERIES) => ({ title, peers, load, figures, time });

function rate(perSecond, peers) {
  const load = [...HOT_ROOM, "-r", perSecond];
  return fanout(`${perSecond.toLocaleString("en")} a second`, peers, load, ["cpu", "lastP50", "lastP99"], MANY_PUBLICATIONS);
}

/** Half of the members read a kilobyte a second, or are not there at all. */
function slow(title, members, share) {
  const load = ["fanout", "-n", members, ...ROOM, "--size", 16384, ...SPIN, "-r", 100];
  if (share > 0) load.push("--slow-share", share, "--slow-rate", 1024);
  return fanout(title, ALL, load, ["lastP99", "memoryPeak"], SLOWNESS_SHOWS);
}

/** One shard against two; both cores serve, and both load. */
function shards(title, pace) {
  const load = ["fanout", ...MEMBERS, ...ROOM, ...BYTES, ...pace, "--wait", "sleep"];
  const peers = ["shardcast-1shard", "shardcast-2shards"];
  return { ...fanout(title, peers, load, ["cpu", "deliveryRate"]), traits: ["spread"] };
}

/**
 * By name: what the reader is told, who takes part, the load, the figures that count, how long. Traits: `spread`, server
 * and load share their cores; `dev`, clients say who they are, as static tokens do not.
 */
export const CASES = {
  sparse: fanout("1,000 members, one at a time", ALL_HEARING, [...HOT_ROOM, "-w", 1]),
  burst4: fanout("1,000 members, 4 together", HEARING, [...HOT_ROOM, ...together(4)]),
  burst16: fanout("1,000 members, 16 together", HEARING, [...HOT_ROOM, ...together(16)]),
  burst: fanout("1,000 members, 64 together", ALL_HEARING, [...HOT_ROOM, ...together(64)]),
  "four-rooms": fanout("every member in 4 rooms, 64 together", HEARING, [
    ...["fanout", ...MEMBERS, ...FOUR_ROOMS, ...BYTES, ...SPIN, ...together(64)],
  ]),
  saturated: fanout("1,000 members, 128 outstanding", ALL_HEARING, [...HOT_ROOM, "-w", 128]),
  ...Object.fromEntries(RATES.map((perSecond) => [`rate${perSecond}`, rate(perSecond, [...HEARING, paced(100)])])),
  idle: {
    title: "idle connections, from 5,000 to 15,000",
    peers: ALL_HEARING,
    load: ["idle", "--at", "5000,15000", ...ROOM, "--rooms-per-connection", 1, ...SPIN],
    figures: ["bytesPerConnection", "idleCpu"],
    time: { settle: "2s", hold: "2s" },
  },

  // A minute, so that every silent connection is pinged.
  "idle-pings": {
    title: "10,000 connections that say nothing but pong",
    peers: ["shardcast", "ignis"],
    load: ["idle", "--at", 10_000, ...ROOM, "--rooms-per-connection", 1, "--heartbeat", "0s", ...SPIN],
    figures: ["idleCpu"],
    time: { settle: "2s", hold: "60s" },
  },

  ledger5000: fanout("5,000 members, one at a time", ALL, ["fanout", "-n", 5000, ...ROOM, ...BYTES, ...SPIN, "-w", 1]),
  "many-rooms": fanout("1,000 rooms of 5, one at a time", ALL_HEARING, ["fanout", ...SMALL_ROOMS, ...BYTES, ...SPIN, "-w", 1]),
  "many-rooms-burst": fanout("1,000 rooms of 5, 64 together", ALL_HEARING, [
    ...["fanout", ...SMALL_ROOMS, ...BYTES, ...SPIN, ...together(64)],
  ]),
  mixed: fanout("500 members, 64 B to 64 KiB, 4 together", ALL, [
    ...["fanout", "-n", 500, ...ROOM, "--size", "64,512,4096,65536", ...SPIN, ...together(4)],
  ]),
  direct: fanout("to one client each, 64 together", IGNIS, [
    ...["fanout", ...MEMBERS, "--publish-to", "client", ...BYTES, ...SPIN, ...together(64)],
  ]),
  users: {
    ...fanout("to one user of 4 connections each, 64 together", IGNIS, [
      ...["fanout", ...MEMBERS, "--publish-to", "user", "--users", 250, ...BYTES, ...SPIN, ...together(64)],
    ]),
    traits: ["dev"],
  },
  exclude: fanout("1,000 members without one, 64 together", IGNIS, [...HOT_ROOM, "--exclude", 1, ...together(64)]),
  churn: fanout(
    "500 members, 100 a second, 50 a second leave and come back",
    ALL,
    ["fanout", "-n", 500, ...ROOM, ...BYTES, ...SPIN, "-r", 100, "--churn", 50],
    ["cpu", "lastP99"],
    MANY_PUBLICATIONS,
  ),
  visitors: fanout(
    "the same members and rate, 500 a second connect, log in and leave",
    BATCHING,
    ["fanout", "-n", 500, ...ROOM, ...BYTES, ...SPIN, "-r", 100, "--visitors", 500],
    ["cpu", "lastP99"],
    MANY_PUBLICATIONS,
  ),
  "slow-none": slow("100 members, 100 a second of 16 KiB", 100, 0),
  "slow-half": slow("the same, and 100 more who read 1 KiB a second", 200, 0.5),
  storm: {
    title: "clients connect, log in and leave, 64 at a time",
    peers: ALL,
    load: ["connect", "--close", "clean", "--in-flight", 64, ...ROOM, "--rooms-per-connection", 1, ...SPIN],
    figures: ["cpuPerConnect"],
    time: { duration: "2s" },
  },
  heartbeats: {
    title: `1,000 clients send ${HEARTBEATS_PER_SECOND.toLocaleString("en")} small messages a second`,
    peers: MANY_ROOMS,
    load: [
      ...["idle", "--at", 1000, ...ROOM, "--rooms-per-connection", 1, ...SPIN],
      ...["--heartbeat", `${(1000 / HEARTBEATS_PER_SECOND) * 1000}ms`],
    ],
    figures: ["cpuPerReceived"],
    time: { settle: "1s", hold: "2s" },
  },

  ...Object.fromEntries(
    RATES.map((perSecond) => [`pace${perSecond}`, rate(perSecond, ["bun", ...PACES.map(paced)])]),
  ),
  "embedded-sparse": fanout("1,000 members, one at a time", WAYS_IN, [...HOT_ROOM, "-w", 1]),
  "embedded-burst": fanout("1,000 members, 64 together", WAYS_IN, [...HOT_ROOM, ...together(64)]),
  "embedded-rooms": fanout("1,000 rooms of 5, 64 together", WAYS_IN, [
    ...["fanout", ...SMALL_ROOMS, ...BYTES, ...SPIN, ...together(64)],
  ]),
  "shards-sparse": shards("1,000 members, one at a time", ["-w", 1]),
  "shards-burst": shards("1,000 members, 64 together", together(64)),
};

const TARGETS = ["sparse", "burst4", "burst16", "burst", "four-rooms", "saturated", ...named("rate"), "idle"];
const OWN = ["idle-pings", ...named("pace"), ...named("embedded-"), ...named("shards-")];

/** By name: cases that are run together. */
export const GROUPS = {
  targets: TARGETS,
  shapes: Object.keys(CASES).filter((name) => !TARGETS.includes(name) && !OWN.includes(name)),
  pings: ["idle-pings"],
  pacing: named("pace"),
  embedded: named("embedded-"),
  shards: named("shards-"),
  all: Object.keys(CASES),
};

/** In the group of targets only these take part: the others are no part of what was promised. */
export const TARGET_PEERS = [...HEARING, paced(100)];

function named(prefix) {
  return Object.keys(CASES).filter((name) => name.startsWith(prefix));
}

/** The cases that are asked for, each once, in the order of the table. */
function namesOf(asked) {
  const names = asked.split(/[\s,]+/).filter(Boolean).flatMap((name) => GROUPS[name] ?? [name]);
  const unknown = names.find((name) => !(name in CASES));
  if (unknown !== undefined) {
    const known = [...Object.keys(GROUPS), ...Object.keys(CASES)].join(" ");
    stderr.write(`run: unknown case: ${unknown}; there are: ${known}\n`);
    exit(2);
  }
  return Object.keys(CASES).filter((name) => names.includes(name));
}

/** Everything shorter, to see whether it works. */
const QUICK = { duration: "500ms", warmup: "200ms", settle: "300ms", hold: "500ms" };

function loadOf(name, isQuick) {
  const { load, time } = CASES[name];
  const spans = Object.entries(time).map(([key, span]) => [`--${key}`, isQuick ? QUICK[key] : span]);
  return [...load, ...spans.flat()];
}

function tell(name, file) {
  const report = JSON.parse(readFileSync(file));
  const told = CASES[name].figures.map((key) => {
    const { value, unit } = FIGURES[key];
    const found = value(report);
    return found == null ? undefined : `${Number(found.toPrecision(3))} ${unit}`;
  });
  return told.filter(Boolean).join(", ") || "no figure";
}

if (import.meta.url === pathToFileURL(argv[1] ?? "").href) {
  const [command, name, more] = argv.slice(2);
  const answers = {
    targets: () => TARGET_PEERS,
    names: () => namesOf(name),
    peers: () => CASES[name].peers,
    load: () => loadOf(name, more === "true"),
    traits: () => CASES[name].traits ?? [],
    tell: () => [tell(name, more)],
  };
  console.log(answers[command]().join("\n"));
}
