// What Shardcast is to reach, and whether it did. Ratios are those of medians; more is better in `atLeast` only.

import { GROUPS } from "../peers/cases.mjs";
import { number, spread, table } from "./text.mjs";

const PERCENT = (share) => `${number(share * 100)} %`;

const atLeast = (limit) => ({ sign: "≥", limit, isMet: (value) => value >= limit });
const atMost = (limit) => ({ sign: "≤", limit, isMet: (value) => value <= limit });

/** `base` over `peer`: how many times as many deliveries a CPU-second makes. */
const cheaper = (results, name, peer, base) => results.ratio(name, "cpu", base, peer);

const pick = (spreads, isWorse) =>
  spreads.filter(Boolean).reduce((worst, next) => (worst === undefined || isWorse(next.median, worst.median) ? next : worst), undefined);
const least = (spreads) => pick(spreads, (a, b) => a < b);
const most = (spreads) => pick(spreads, (a, b) => a > b);

/** Undefined unless all of them were measured: the worst of some is not the worst. */
function worst(choose, names, measure) {
  const found = names.map(measure);
  return found.some((one) => one === undefined) ? undefined : choose(found);
}

const rates = (from, to) => GROUPS.targets.filter((name) => /^rate/.test(name) && isWithin(Number(name.slice(4)), from, to));
const isWithin = (value, from, to) => value >= from && value <= to;

const scaled = (found, factor) =>
  found && { median: found.median * factor, low: found.low * factor, high: found.high * factor };

/** Rows: what, the target, what was measured, how it is written. */
function targets(results) {
  const toBun = (name) => cheaper(results, name, "shardcast", "bun");
  const toIgnis = (name) => cheaper(results, name, "shardcast-redis", "ignis");
  const p99ToBun = (peer) => (name) => results.ratio(name, "lastP99", peer, "bun");
  const paced = "shardcast-pace100";
  return [
    ["deliveries a CPU-second, to Bun: one at a time", atLeast(1.15), toBun("sparse")],
    ["… 4 together", atLeast(1.35), toBun("burst4")],
    ["… 16 together", atLeast(1.5), toBun("burst16")],
    ["… 64 together", atLeast(2.5), toBun("burst")],
    ["… 64 together, every member in 4 rooms", atLeast(2), toBun("four-rooms")],
    ["… 128 outstanding", atLeast(2.5), toBun("saturated")],
    ["… 200 to 1,600 a second, paced (`flush_pace_percent = 100`), the least", atLeast(2), worst(least, rates(200, 1600), (name) => cheaper(results, name, paced, "bun"))],
    ["p99 to the last member, to Bun: 200 to 1,600 a second, paced, the most", atMost(1.6), worst(most, rates(200, 1600), p99ToBun(paced))],
    ["… 100 to 1,600 a second, not paced, the most", atMost(1), worst(most, rates(100, 1600), p99ToBun("shardcast"))],
    ["p99 to the last member in ms, 100 to 400 a second, not paced, the most", atMost(10), worst(most, rates(100, 400), (name) => results.spread(name, "shardcast", "lastP99"))],
    ["deliveries a CPU-second, to Ignis through Redis: 128 outstanding", atLeast(4), toIgnis("saturated")],
    ["… one at a time", atLeast(1.8), toIgnis("sparse")],
    ["bytes of user memory an idle connection", atMost(1024), results.spread("idle", "shardcast", "bytesPerConnection")],
    ["CPU-µs a second and idle connection that is pinged", atMost(0.5), results.spread("idle-pings", "shardcast", "idleCpu")],
    ["share of CPU time outside the kernel, 128 outstanding", atMost(0.1), results.userShare("saturated", "shardcast"), PERCENT],
    ["two shards to one, had they the load elsewhere: 64 together", atLeast(1.8), scaled(results.ratio("shards-burst", "cpu", "shardcast-1shard", "shardcast-2shards"), 2)],
  ];
}

/** The table of targets. */
export function targetTable(results) {
  const rows = targets(results).map(([what, { sign, limit, isMet }, found, tell = number]) => [
    what,
    `${sign} ${tell === number ? limit.toLocaleString("en") : tell(limit)}`,
    spread(found, tell),
    found === undefined ? "not measured" : isMet(found.median) ? "yes" : "no",
  ]);
  return table(["what", "target", "measured", "met"], rows);
}
