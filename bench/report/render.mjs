// Writes the generated parts of docs/benchmarks.md and its plots from the results of bench/peers/run.
//
// Usage: node render.mjs RESULTS PAGE.md PLOTS_FOLDER
// Says which parts have nothing to tell. A plot without values is removed.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { argv } from "node:process";
import { Results } from "./results.mjs";
import { SECTIONS } from "./sections.mjs";
import { replacePart } from "./text.mjs";

const [folder, page, plotsFolder] = argv.slice(2);
if (!plotsFolder) throw new Error("usage: render.mjs RESULTS PAGE.md PLOTS_FOLDER");

const results = new Results(folder);
if (results.good === 0) throw new Error(`no run that holds in ${folder}`);
mkdirSync(plotsFolder, { recursive: true });
let text = readFileSync(page, "utf8");
for (const [name, section] of Object.entries(SECTIONS)) {
  const { text: part, plots } = section(results);
  text = replacePart(text, name, part);
  for (const [plot, drawing] of Object.entries(plots)) {
    const file = join(plotsFolder, `${plot}.svg`);
    if (drawing === undefined) rmSync(file, { force: true });
    else writeFileSync(file, drawing);
  }
  if (part.startsWith("Not measured")) console.log(`${name}: ${part}`);
}
writeFileSync(page, text);
console.log(`${page}: ${results.good} of ${results.all} runs hold`);
