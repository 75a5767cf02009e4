// Tests of what renders the figures: `node --test bench/report/test.mjs`.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CASES, GROUPS } from "../peers/cases.mjs";
import { FIGURES } from "../peers/figures.mjs";
import { barPlot, linePlot } from "./plot.mjs";
import { Results, spreadOf } from "./results.mjs";
import { SECTIONS } from "./sections.mjs";
import { targetTable } from "./targets.mjs";
import { number, replacePart, spread } from "./text.mjs";

/** A result with every figure; `cost` moves all of them. */
function report(cost) {
  const seconds = 2;
  const micros = 1000 * cost;
  return {
    seconds,
    deliveries: 1000,
    server: { cpu_us_per_delivery: cost, cpu_us_per_connect: cost },
    to_last_member: { p50_us: micros, p99_us: 3 * micros },
    timeline: { points: [{ server_resident_bytes: 2 ** 20 * cost }, { server_resident_bytes: null }] },
    server_bytes_per_connection: 1000 * cost,
    steps: [{ connections: 15_000, server_cpu_us_per_second: 15_000 * cost }],
    verdict: { limit: "server" },
  };
}

/** A folder of results, removed at the end of the test: `runs` are case, server, round, cost and how the run ended. */
function resultsOf(context, runs) {
  const folder = mkdtempSync(join(tmpdir(), "figures-"));
  context.after(() => rmSync(folder, { recursive: true }));
  for (const [name, peer, round, cost, status = 0] of runs) {
    mkdirSync(join(folder, name), { recursive: true });
    const file = join(folder, name, `${peer}-${round}`);
    writeFileSync(`${file}.json`, JSON.stringify(report(cost)));
    writeFileSync(`${file}.run`, JSON.stringify({ status, user_ticks: 1, kernel_ticks: 19 }));
  }
  return new Results(folder);
}

const everything = () =>
  Object.entries(CASES).flatMap(([name, { peers }]) => peers.flatMap((peer, index) => [1, 2, 3].map((round) => [name, peer, round, 1 + index / 10 + round / 100])));

test("every case has figures that exist, and is in a group", () => {
  for (const [name, { figures, peers }] of Object.entries(CASES)) {
    assert.ok(figures.length > 0 && figures.every((figure) => figure in FIGURES), name);
    assert.ok(new Set(peers).size === peers.length && peers.length > 1, name);
    const groups = ["targets", "shapes", "pings", "pacing", "embedded", "shards"].filter((group) => GROUPS[group].includes(name));
    assert.equal(groups.length, 1, name);
  }
});

test("a median is the middle, or between the two middle ones", () => {
  assert.equal(spreadOf([]), undefined);
  assert.deepEqual(spreadOf([3, undefined, 1, 2]), { median: 2, low: 1, high: 3 });
  assert.deepEqual(spreadOf([4, 1, 2, 3]), { median: 2.5, low: 1, high: 4 });
});

test("numbers have three digits that say something", () => {
  const found = [0, 0.0123456, 0.9996, 6.3, 12_500.4, Number.NaN].map(number);
  assert.deepEqual(found, ["0", "0.0123", "1.00", "6.30", "12,500", "–"]);
  assert.equal(spread(undefined), "–");
  assert.equal(spread({ median: 1, low: 1, high: 1 }), "1.00");
});

test("a ratio is that of the medians, its range that of rounds run by both", (context) => {
  const runs = [1, 2, 3].flatMap((round) => [["sparse", "bun", round, 2 * round], ["sparse", "shardcast", round, round === 3 ? 6 : round]]);
  const results = resultsOf(context, [...runs, ["sparse", "shardcast", 4, 2]]);
  assert.deepEqual(results.ratio("sparse", "cpu", "bun", "shardcast"), { median: 2, low: 1, high: 2 });
  assert.equal(results.ratio("sparse", "cpu", "bun", "ws"), undefined);
});

test("a run that failed is counted and nothing else", (context) => {
  const results = resultsOf(context, [["sparse", "bun", 1, 1], ["sparse", "bun", 2, 100, 1]]);
  assert.deepEqual([results.all, results.good], [2, 1]);
  assert.equal(results.spread("sparse", "bun", "cpu").high, 1);
});

test("a target that rests on several cases needs all of them", (context) => {
  const isMeasured = (runs) => !/200 to 1,600 a second, paced.*not measured/.test(targetTable(resultsOf(context, runs)));
  assert.ok(isMeasured(everything()));
  assert.ok(!isMeasured(everything().filter(([name]) => name !== "rate800")));
});

test("sections tell everything that was measured, and say what was not", (context) => {
  for (const runs of [everything(), [["sparse", "bun", 1, 1]]]) {
    const results = resultsOf(context, runs);
    for (const [name, section] of Object.entries(SECTIONS)) {
      const { text, plots } = section(results);
      assert.doesNotMatch(text, /NaN|undefined|Infinity/, name);
      for (const drawing of Object.values(plots)) assert.doesNotMatch(drawing ?? "", /NaN|undefined|Infinity/, name);
    }
  }
  assert.match(SECTIONS.pacing(resultsOf(context, [["sparse", "bun", 1, 1]])).text, /^Not measured/);
});

test("plots leave out what has no value", () => {
  const axes = { title: "T <&>", x: { name: "x", scale: "linear" }, y: { name: "y", scale: "log" } };
  const series = (points) => [{ name: "a", color: 0, points }];
  assert.equal(linePlot({ ...axes, series: series([{ x: 1, y: undefined }]) }), undefined);
  const drawn = linePlot({ ...axes, series: series([{ x: 1, y: undefined }, { x: 2, y: 5 }]) });
  assert.equal(drawn.match(/<circle/g).length, 1);
  assert.match(drawn, /T &lt;&amp;&gt;/);
  assert.equal(barPlot({ title: "T", unit: "u", bars: [] }), undefined);
});

test("a part of a page is replaced, and the same text again changes nothing", () => {
  const page = "a\n<!-- generated: x -->\nold\n<!-- end: x -->\nb\n";
  const once = replacePart(page, "x", "new");
  assert.equal(once, "a\n<!-- generated: x -->\n\nnew\n\n<!-- end: x -->\nb\n");
  assert.equal(replacePart(once, "x", "new"), once);
  assert.throws(() => replacePart(page, "y", "new"), /generated: y/);
});
