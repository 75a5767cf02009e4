// Numbers, tables and the generated parts of a page, as Markdown. Pure.

/** Three significant digits, thousands apart: `0.0123`, `6.30`, `12,500`. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const magnitude = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(3)))));
  const digits = Math.min(6, Math.max(0, 2 - magnitude));
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** `6.30 (5.07–6.75)`; the range is left out when there was but one run. */
export function spread(found, tell = number) {
  if (found === undefined) return "–";
  const range = found.low < found.high ? ` (${tell(found.low)}–${tell(found.high)})` : "";
  return `${tell(found.median)}${range}`;
}

/** A table whose first column holds words and all others numbers. */
export function table(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, index) => (index === 0 ? "---" : "---:"))), ...rows.map(line)].join("\n");
}

/** Replaces what stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`. Throws when a page has no such place. */
export function replacePart(page, name, text) {
  const [begin, end] = [`<!-- generated: ${name} -->`, `<!-- end: ${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the page needs ${begin} and, after it, ${end}`);
  return `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`;
}
