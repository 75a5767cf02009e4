// The generated parts of docs/benchmarks.md, each from the results alone.

import { CASES, GROUPS, PACES } from "../peers/cases.mjs";
import { FIGURES } from "../peers/figures.mjs";
import { barPlot, linePlot } from "./plot.mjs";
import { targetTable } from "./targets.mjs";
import { number, spread, table } from "./text.mjs";

/** By label: what a server is called, and how it is drawn. The first is what the others are held against. */
const PEERS = {
  bun: { title: "Bun", color: 0 },
  shardcast: { title: "Shardcast", color: 1 },
  "shardcast-redis": { title: "Shardcast, Redis", color: 2 },
  ignis: { title: "Ignis, Redis", color: 3 },
  nchan: { title: "Nchan", color: 4 },
  ws: { title: "ws", color: 5 },
  "shardcast-topic": { title: "Shardcast, topic (Redis)", color: 6 },
};
const BASE = "bun";
const labels = Object.keys(PEERS);

/** Cases with one room of 1,000, by how many messages come together. */
const TOGETHER = { sparse: 1, burst4: 4, burst16: 16, burst: 64 };
const RATES = GROUPS.targets.filter((name) => name.startsWith("rate"));
const OTHERS = ["many-rooms", "many-rooms-burst", "mixed", "ledger5000", "direct", "users", "exclude", "churn"];
const TROUBLED = ["churn", "visitors", "slow-none", "slow-half"];
const MARK = " †";

const perSecond = (name) => Number(/\d+$/.exec(name)[0]);
const measured = (results, names) => names.filter((name) => results.has(name));
const notMeasured = (group) => `Not measured: \`bench/figures --cases ${group}\`.`;
const image = (name, words) => `![${words}](benchmarks/${name}.svg)`;

/** Median, range, and in brackets the ratio to Bun. */
function cell(results, name, peer, figure) {
  const found = results.spread(name, peer, figure);
  if (found === undefined) return "–";
  const base = peer === BASE ? undefined : results.ratio(name, figure, peer, BASE);
  const isDoubted = FIGURES[figure].isOfTime && results.isDoubted(name, peer);
  return `${spread(found)}${base ? ` [${number(base.median)}]` : ""}${isDoubted ? MARK : ""}`;
}

/** A row a case, a column a server that has any result. */
function byCase(results, names, figure, head) {
  const peers = labels.filter((peer) => names.some((name) => results.spread(name, peer, figure)));
  const rows = names.map((name) => [CASES[name].title, ...peers.map((peer) => cell(results, name, peer, figure))]);
  return table([head, ...peers.map((peer) => PEERS[peer].title)], rows);
}

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
const heading = (figure) => `${FIGURES[figure].name}:`;

/** Every table of a section for which there is something, each under a line that says what it holds. */
function tables(results, parts) {
  return parts.flatMap(({ names, figure, head = "load" }) => {
    const found = measured(results, names).filter((name) => CASES[name].figures.includes(figure));
    return found.length > 0 ? [heading(figure), byCase(results, found, figure, head)] : [];
  });
}

function pointsOf(results, peer, figure, xs) {
  return Object.entries(xs).map(([name, x]) => {
    const found = results.spread(name, peer, figure);
    return { x, y: found?.median, low: found?.low, high: found?.high };
  });
}

function machine(results) {
  if (results.good === 0) return { text: notMeasured("all"), plots: {} };
  const rounds = results.rounds(Object.keys(CASES));
  const exact = `${counted(rounds, "round")} at most; of ${counted(results.all, "run")} ${results.good.toLocaleString("en")} had an exact ledger, warm-up included,
and lost no connection. Only these are in the tables.`;
  const doubt = results.isQuick ? "\n\n**Runs of half a second, to see whether everything works: no figures to keep.**" : "";
  return { text: `\`\`\`text\n${results.versions()}\n\`\`\`\n\n${exact}${doubt}`, plots: {} };
}

function targets(results) {
  if (measured(results, GROUPS.targets).length === 0) return { text: notMeasured("targets"), plots: {} };
  const note = "In parentheses: the lowest and the highest round. A † elsewhere on this page: in most runs something else than the\nserver was the limit.";
  return { text: `${targetTable(results)}\n\n${note}`, plots: {} };
}

function cost(results) {
  const names = [...Object.keys(TOGETHER), "four-rooms", "saturated"];
  const parts = tables(results, [{ names, figure: "cpu" }]);
  if (parts.length === 0) return { text: notMeasured("targets"), plots: {} };
  const title = "CPU time of a delivery by how many messages come together";
  const series = labels.map((peer) => ({ name: PEERS[peer].title, color: PEERS[peer].color, points: pointsOf(results, peer, "cpu", TOGETHER) }));
  const x = { name: "messages together, to 1,000 members each", scale: Object.values(TOGETHER) };
  const cpu = linePlot({ title, x, y: { name: "CPU-µs a delivery", scale: "log" }, series });
  return { text: [...parts, image("cpu", title)].join("\n\n"), plots: { cpu } };
}

function latency(results) {
  const parts = tables(results, ["lastP50", "lastP99", "cpu"].map((figure) => ({ names: RATES, figure, head: "to 1,000 members" })));
  if (parts.length === 0) return { text: notMeasured("targets"), plots: {} };
  const title = "p99 from publishing to the last of 1,000 members, by rate";
  const xs = Object.fromEntries(RATES.map((name) => [name, perSecond(name)]));
  const lines = labels.map((peer) => ({ name: PEERS[peer].title, color: PEERS[peer].color, peer }));
  const paced = { name: "Shardcast, paced", color: PEERS.shardcast.color, isDashed: true, peer: "shardcast-pace100" };
  const series = [...lines, paced].map((line) => ({ ...line, points: pointsOf(results, line.peer, "lastP99", xs) }));
  const x = { name: "publications a second", scale: Object.values(xs) };
  const p99 = linePlot({ title, x, y: { name: "ms", scale: "log" }, series });
  return { text: [...parts, image("latency", title)].join("\n\n"), plots: { latency: p99 } };
}

function pacing(results) {
  const names = measured(results, GROUPS.pacing);
  if (names.length === 0) return { text: notMeasured("pacing"), plots: {} };
  const columns = [{ label: "bun", title: "Bun" }, ...PACES.map((pace) => ({ label: pacedLabel(pace), title: `${pace} %` }))];
  const told = (figure) => {
    const rows = names.map((name) => [CASES[name].title, ...columns.map(({ label }) => cell(results, name, label, figure))]);
    return `${heading(figure)}\n\n${table(["to 1,000 members", ...columns.map(({ title }) => title)], rows)}`;
  };
  const title = "What pacing buys, and what it costs";
  const series = names.map((name, index) => ({ name: CASES[name].title, color: PEERS.shardcast.color, isDashed: index % 2 === 1, points: pacedPoints(results, name) }));
  const x = { name: "p50 to the last member, ms more than unpaced", scale: "linear" };
  const plot = linePlot({ title, x, y: { name: "CPU-µs a delivery; points in the order of pace 0, 25, 50, 100, 200 %", scale: "log" }, series });
  const text = [...["cpu", "lastP50", "lastP99"].map(told), image("pacing", title)].join("\n\n");
  return { text, plots: { pacing: plot } };
}

const pacedLabel = (pace) => (pace === 0 ? "shardcast" : `shardcast-pace${pace}`);

/** By pace: how much later the median publication has arrived than without, and what a delivery costs. */
function pacedPoints(results, name) {
  const unpaced = results.spread(name, "shardcast", "lastP50")?.median;
  return PACES.map((pace) => {
    const [late, cpu] = ["lastP50", "cpu"].map((figure) => results.spread(name, pacedLabel(pace), figure)?.median);
    return { x: late - unpaced, y: cpu, told: `${pace} %` };
  });
}

function idle(results) {
  const figures = CASES.idle.figures.filter((figure) => labels.some((peer) => results.spread("idle", peer, figure)));
  if (figures.length === 0) return { text: notMeasured("targets"), plots: {} };
  const peers = labels.filter((peer) => results.runs("idle", peer).length > 0);
  const rows = peers.map((peer) => [PEERS[peer].title, ...figures.map((figure) => cell(results, "idle", peer, figure))]);
  const title = "Resident memory of one more idle connection";
  const bars = peers.map((peer) => ({ name: PEERS[peer].title, color: PEERS[peer].color, ...results.spread("idle", peer, "bytesPerConnection") }));
  const plot = barPlot({ title, unit: "bytes a connection, from 5,000 to 15,000", bars: bars.filter((bar) => bar.median !== undefined) });
  const pings = tables(results, [{ names: ["idle-pings"], figure: "idleCpu" }]);
  const text = [table(["", ...figures.map((figure) => FIGURES[figure].name)], rows), ...pings, image("memory", title)];
  return { text: text.join("\n\n"), plots: { memory: plot } };
}

function shapes(results) {
  const parts = tables(results, [
    { names: OTHERS, figure: "cpu" },
    { names: ["heartbeats"], figure: "cpuPerReceived" },
    { names: ["storm"], figure: "cpuPerConnect" },
    { names: TROUBLED, figure: "lastP99" },
    { names: TROUBLED, figure: "memoryPeak" },
  ]);
  return { text: parts.length > 0 ? parts.join("\n\n") : notMeasured("shapes"), plots: {} };
}

function embedded(results) {
  const names = measured(results, GROUPS.embedded);
  if (names.length === 0) return { text: notMeasured("embedded"), plots: {} };
  const ways = ["shardcast", "embedded", "shardcast-redis"];
  const rows = names.map((name) => {
    const told = ways.map((way) => {
      const ratio = way === "shardcast" ? undefined : results.ratio(name, "cpu", way, "shardcast");
      return `${spread(results.spread(name, way, "cpu"))}${ratio ? ` [${number(ratio.median)}]` : ""}`;
    });
    return [CASES[name].title, ...told];
  });
  return { text: table(["CPU-µs a delivery", "HTTP API", "embedded", "Redis"], rows), plots: {} };
}

function shards(results) {
  const names = measured(results, GROUPS.shards);
  if (names.length === 0) return { text: notMeasured("shards"), plots: {} };
  const [one, two] = ["shardcast-1shard", "shardcast-2shards"];
  const rows = names.map((name) => {
    const ratio = results.ratio(name, "cpu", two, one);
    return [CASES[name].title, ...[one, two].map((peer) => spread(results.spread(name, peer, "cpu"))), spread(ratio)];
  });
  const head = ["CPU-µs a delivery", "one shard", "two shards", "two to one"];
  return { text: table(head, rows), plots: {} };
}

/** By the name of its place on the page: a function of the results that returns text and plots. */
export const SECTIONS = { machine, targets, cost, latency, pacing, idle, shapes, embedded, shards };
