// Plots as SVG files that need no other: lines with whiskers on two axes, and lying bars. Pure.
//
// Colours follow the reader's preference for light or dark. What has no value is left out, never drawn as zero.

import { number } from "./text.mjs";

const WIDTH = 720;
const HEIGHT = 400;
/** Room for the title and the name of the y axis. */
const TOP = 62;
/** Room for the numbers and the name of the x axis. */
const BOTTOM = 52;
/** About the width of a character. */
const CHARACTER = 7;
const BOLD_CHARACTER = 7.8;
/** Least distance between the names of two lines. */
const NAME_HEIGHT = 16;
const BAR_HEIGHT = 20;
const ROW_HEIGHT = 46;
const TICKS_WANTED = 5;
/** More labels than this on an axis are too many. */
const TICKS_MAX = 12;

const STYLE = `
  svg { --card: #ffffff; --text: #1b1c1e; --soft: #595c63; --line: #c9c9c4; --faint: #ebebe7;
    --c0: #b84a00; --c1: #0b63b0; --c2: #006b4f; --c3: #7a3fa0; --c4: #595c63; --c5: #a8243d; --c6: #7a6200; }
  @media (prefers-color-scheme: dark) {
    svg { --card: #1c1e22; --text: #eceae4; --soft: #a8abb3; --line: #4a4d55; --faint: #2c2f35;
      --c0: #f0a052; --c1: #6db6f2; --c2: #52cfa5; --c3: #c79be8; --c4: #a8abb3; --c5: #ff9d93; --c6: #d9c24f; }
  }
  .card { fill: var(--card); stroke: var(--faint); }
  text { font: 13px system-ui, sans-serif; fill: var(--soft); }
  .title { font-size: 15px; font-weight: 600; fill: var(--text); }
  .middle { text-anchor: middle; } .end { text-anchor: end; }
  .grid { stroke: var(--faint); } .axis { stroke: var(--line); }
  .name { font-weight: 600; } .value { fill: var(--text); }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 6 4; }
  .whisker { stroke-width: 1.2; opacity: .6; } .bar-whisker { stroke: var(--text); stroke-width: 1.4; fill: none; }
${[0, 1, 2, 3, 4, 5, 6].map((color) => `  .stroke${color} { stroke: var(--c${color}); } .fill${color} { fill: var(--c${color}); }`).join("\n")}
`;

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
const at = (place) => place.toFixed(1);
const text = (x, y, classes, said) => `<text x="${at(x)}" y="${at(y)}" class="${classes}">${escape(said)}</text>`;

/** Powers of ten around both bounds, with 2 and 5 between them when there are few, ending next to the bounds. */
function logarithmicTicks(low, high) {
  const [first, last] = [Math.floor(Math.log10(low) + 1e-9), Math.ceil(Math.log10(high) - 1e-9)];
  const between = last - first <= 3 ? [1, 2, 5] : [1];
  const stride = Math.ceil((last - first + 1) / TICKS_MAX);
  const ticks = [];
  for (let power = first; power <= last; power += stride) ticks.push(...between.map((factor) => factor * 10 ** power));
  const from = ticks.findLastIndex((tick) => tick <= low * (1 + 1e-9));
  const to = ticks.findIndex((tick) => tick >= high * (1 - 1e-9));
  return ticks.slice(Math.max(0, from), to < 0 ? undefined : Math.max(to, from + 1) + 1);
}

/** Round numbers from the last one not above `low` to the first one not below `high`. */
function linearTicks(low, high) {
  const span = high > low ? high - low : Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / TICKS_WANTED));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= (span / TICKS_WANTED) * 0.8) ?? 10);
  const [first, last] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
  return Array.from({ length: Math.max(2, last - first + 1) }, (_, index) => (first + index) * step);
}

const label = (tick) => Number(tick.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 6 });

/** Where values are on an axis: `scale` is `linear`, `log`, or the list of the only values there are (by their logarithm). */
function ruler(scale, values, from, to) {
  const isLog = scale !== "linear";
  const flat = (value) => (isLog ? Math.log10(value) : value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ticks = Array.isArray(scale) ? scale : isLog ? logarithmicTicks(low, high) : linearTicks(Math.min(0, low), high);
  const [first, last] = [flat(ticks[0]), flat(ticks.at(-1))];
  return { from, to, ticks, place: (value) => from + ((flat(value) - first) / (last - first)) * (to - from) };
}

function frame(height, title, words, body) {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(words)}">`,
    `<style>${STYLE}</style>`,
    `<rect class="card" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>`,
    text(16, 26, "title", title),
    ...body,
    "</svg>",
    "",
  ].join("\n");
}

/**
 * Lines on two axes. `series`: `name`, `color` (0 to 6), `isDashed`, and `points` with `x`, `y`, and `low` and `high`
 * of y where there is a range. Undefined when there is nothing to draw.
 */
export function linePlot({ title, x, y, series }) {
  const drawn = series
    .map((one) => ({ ...one, points: one.points.filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y)) }))
    .filter((one) => one.points.length > 0);
  if (drawn.length === 0) return undefined;
  const points = drawn.flatMap((one) => one.points);
  const ys = points.flatMap((point) => [point.y, point.low, point.high]).filter(Number.isFinite);
  const across = ruler(y.scale, y.scale === "log" ? ys.filter((value) => value > 0) : ys, HEIGHT - BOTTOM, TOP);
  const labelWidth = Math.max(...across.ticks.map((tick) => label(tick).length)) * CHARACTER;
  const nameWidth = Math.max(...drawn.map((one) => one.name.length)) * BOLD_CHARACTER;
  const along = ruler(x.scale, points.map((point) => point.x), 24 + labelWidth, WIDTH - nameWidth - 28);
  const body = [...axes(along, across, x.name, y.name), ...drawn.flatMap((one) => line(one, along, across))];
  return frame(HEIGHT, title, inWords(title, x.name, y.name, drawn), [...body, ...names(drawn, along, across)]);
}

function axes(along, across, xName, yName) {
  const rows = across.ticks.flatMap((tick) => [
    `<path class="grid" d="M${at(along.from)} ${at(across.place(tick))}H${at(along.to)}"/>`,
    text(along.from - 8, across.place(tick) + 4, "end", label(tick)),
  ]);
  const columns = along.ticks.flatMap((tick) => [
    `<path class="axis" d="M${at(along.place(tick))} ${at(across.from)}v5"/>`,
    text(along.place(tick), across.from + 20, "middle", label(tick)),
  ]);
  return [
    ...rows,
    ...columns,
    `<path class="axis" d="M${at(along.from)} ${at(across.from)}H${at(along.to)}"/>`,
    text(16, 48, "", yName),
    text((along.from + along.to) / 2, HEIGHT - 12, "middle", xName),
  ];
}

function line({ name, color, isDashed, points }, along, across) {
  const placed = points.map((point) => ({ ...point, left: along.place(point.x), top: across.place(point.y) }));
  const path = placed.map(({ left, top }, index) => `${index === 0 ? "M" : "L"}${at(left)} ${at(top)}`).join("");
  return [
    ...placed
      .filter(({ low, high }) => low < high)
      .map(({ left, low, high }) => {
        const [bottom, top] = [across.place(low), across.place(high)];
        return `<path class="whisker stroke${color}" d="M${at(left)} ${at(bottom)}V${at(top)}"/>`;
      }),
    `<path class="line stroke${color}${isDashed ? " dashed" : ""}" d="${path}"/>`,
    ...placed.map(({ left, top, x, y, told }) => {
      const said = escape(`${name}, ${told ?? label(x)}: ${number(y)}`);
      return `<circle class="fill${color}" cx="${at(left)}" cy="${at(top)}" r="3.5"><title>${said}</title></circle>`;
    }),
  ];
}

/** Names of lines at the right, each at the height of its last point, apart from each other. */
function names(series, along, across) {
  const placed = series.map(({ name, color, points }) => ({ name, color, height: across.place(points.at(-1).y) }));
  placed.sort((a, b) => a.height - b.height);
  for (let index = 1; index < placed.length; index++) {
    placed[index].height = Math.max(placed[index].height, placed[index - 1].height + NAME_HEIGHT);
  }
  // Pushed down below the axis, they go up again.
  let lowest = across.from;
  for (const name of placed.toReversed()) {
    name.height = Math.min(name.height, lowest);
    lowest = name.height - NAME_HEIGHT;
  }
  return placed.map(({ name, color, height }) => text(along.to + 12, height + 4, `name fill${color}`, name));
}

function inWords(title, xName, yName, series) {
  const each = series.map(({ name, points }) => {
    const told = points.map((point) => `${number(point.y)} at ${point.told ?? label(point.x)}`);
    return `${name}: ${told.join(", ")}.`;
  });
  return `${title}: ${yName} by ${xName}. ${each.join(" ")}`;
}

/** Lying bars from zero with whiskers. `bars`: `name`, `color`, `median`, `low`, `high`. Undefined when there are none. */
export function barPlot({ title, unit, bars }) {
  if (bars.length === 0) return undefined;
  const most = Math.max(...bars.map((bar) => bar.high));
  const [top, bottom] = [44, 44 + bars.length * ROW_HEIGHT];
  const along = ruler("linear", [0, most], 16, WIDTH - 90);
  const height = bottom + 44;
  const grid = along.ticks.flatMap((tick) => [
    `<path class="grid" d="M${at(along.place(tick))} ${top}V${bottom + 4}"/>`,
    text(along.place(tick), bottom + 20, "middle", label(tick)),
  ]);
  const rows = bars.flatMap(({ name, color, median, low, high }, index) => {
    const y = top + index * ROW_HEIGHT + 18;
    const [zero, end, middle] = [along.place(0), along.place(Math.max(0, median)), y + BAR_HEIGHT / 2];
    const whisker = `M${at(along.place(low))} ${middle - 5}v10m0 -5H${at(along.place(high))}m0 -5v10`;
    return [
      text(zero, y - 4, "value", name),
      `<rect class="fill${color}" x="${at(zero)}" y="${y}" width="${at(end - zero)}" height="${BAR_HEIGHT}" rx="2"/>`,
      ...(low < high ? [`<path class="bar-whisker" d="${whisker}"/>`] : []),
      text(Math.max(end, along.place(high)) + 8, middle + 4, "value", number(median)),
    ];
  });
  const words = `${title} (${unit}). ${bars.map(({ name, median }) => `${name}: ${number(median)}.`).join(" ")}`;
  return frame(height, title, words, [...grid, ...rows, text(WIDTH / 2, height - 8, "middle", unit)]);
}
