// What `bench/peers/run` left behind: by case and server, the runs that hold, and figures of them.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CASES } from "../peers/cases.mjs";
import { FIGURES } from "../peers/figures.mjs";

/** Limits of a run that were not the server's: its latencies and rates say little about it. */
const NOT_THE_SERVER = ["generator_busy", "generator_late", "machine", "publishing"];

/** Median, lowest and highest; undefined of nothing. */
export function spreadOf(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const half = sorted.length / 2;
  const median = sorted.length % 2 ? sorted[Math.floor(half)] : (sorted[half - 1] + sorted[half]) / 2;
  return { median, low: sorted[0], high: sorted.at(-1) };
}

/** All results in a folder. */
export class Results {
  #folder;
  /** Runs by case and server, in the order of their rounds. */
  #runs = new Map();
  /** Runs, and those of them that hold: the ledger exact, nobody lost. */
  all = 0;
  good = 0;
  /** Some of them were only to see whether everything works. */
  isQuick = false;

  constructor(folder) {
    this.#folder = folder;
    for (const name of Object.keys(CASES)) this.#read(name);
  }

  #read(name) {
    const folder = join(this.#folder, name);
    if (!existsSync(folder)) return;
    for (const file of readdirSync(folder)) {
      const [, peer, round] = /^(.+)-(\d+)\.run$/.exec(file) ?? [];
      const result = join(folder, `${peer}-${round}.json`);
      if (peer === undefined) continue;
      const { status, is_quick: isQuick, ...ticks } = JSON.parse(readFileSync(join(folder, file)));
      this.all += 1;
      this.isQuick ||= isQuick;
      if (status !== 0 || !existsSync(result)) continue;
      this.good += 1;
      const key = `${name}/${peer}`;
      if (!this.#runs.has(key)) this.#runs.set(key, []);
      this.#runs.get(key).push({ round: Number(round), report: JSON.parse(readFileSync(result)), ...ticks });
    }
  }

  /** Good runs of a case by a server. */
  runs(name, peer) {
    return this.#runs.get(`${name}/${peer}`) ?? [];
  }

  /** Whether a case has any result. */
  has(name) {
    return CASES[name].peers.some((peer) => this.runs(name, peer).length > 0);
  }

  /** Most rounds that any server has in these cases. */
  rounds(names) {
    const counts = names.flatMap((name) => CASES[name].peers.map((peer) => this.runs(name, peer).length));
    return Math.max(0, ...counts);
  }

  /** Median, lowest and highest of a figure; undefined when it was not measured. */
  spread(name, peer, figure) {
    return spreadOf(this.runs(name, peer).map((run) => FIGURES[figure].value(run.report)));
  }

  /** Whether something else than the server was the limit in most runs. */
  isDoubted(name, peer) {
    const runs = this.runs(name, peer);
    const doubted = runs.filter(({ report }) => NOT_THE_SERVER.includes(report.verdict?.limit));
    return doubted.length * 2 > runs.length;
  }

  /** Share of the server's CPU time that it spent outside of the kernel. */
  userShare(name, peer) {
    const shares = this.runs(name, peer).map((run) => run.user_ticks / (run.user_ticks + run.kernel_ticks));
    return spreadOf(shares);
  }

  /**
   * A figure of one server in units of the same of another: the ratio of the medians, and the lowest and the highest
   * ratio of a round. Undefined when one of them was not measured.
   */
  ratio(name, figure, peer, base) {
    const value = (run) => FIGURES[figure].value(run.report);
    const [ours, theirs] = [this.spread(name, peer, figure), this.spread(name, base, figure)];
    if (ours === undefined || theirs === undefined) return undefined;
    const rounds = this.runs(name, peer).map((run) => {
      const other = this.runs(name, base).find(({ round }) => round === run.round);
      return other === undefined ? Number.NaN : value(run) / value(other);
    });
    return { ...(spreadOf(rounds) ?? { low: Number.NaN, high: Number.NaN }), median: ours.median / theirs.median };
  }

  /** What was run on what: the lines that `run` wrote. */
  versions() {
    const file = join(this.#folder, "versions.txt");
    return existsSync(file) ? readFileSync(file, "utf8").trimEnd() : "";
  }
}
