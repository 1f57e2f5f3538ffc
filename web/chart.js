// Loss against time, as an SVG that is drawn anew for each picture.

import { svg } from "./dom.js";

const HEIGHT = 300, LEFT = 42, RIGHT = 10, TOP = 10, BOTTOM = 34;

/** A running mean over about `window` losses, at about 200 points. */
export function smoothed(losses, window) {
  const points = [], every = Math.max(1, Math.floor(losses.length / 200));
  let mean = null;
  losses.forEach((loss, i) => {
    const share = 1 / Math.min(i + 1, window);
    mean = mean === null ? loss : mean + share * (loss - mean);
    if (i % every === 0 || i === losses.length - 1) points.push([i + 1, mean]);
  });
  return points;
}

const label = (seconds) => (seconds < 1 ? `${+(seconds * 1000).toPrecision(1)} ms` : `${seconds} s`);

/**
 * @param {HTMLElement} place
 * @param {{color: string, points: [number, number][]}[]} lines x in seconds or steps, y losses
 * @param {{log: boolean, unit: string, describe: string}} options
 */
export function drawChart(place, lines, { log, unit, describe }) {
  const width = Math.min(800, Math.max(280, place.clientWidth)); // so that text keeps its size
  const all = lines.flatMap(({ points }) => points).filter(([x, y]) => x > 0 && Number.isFinite(y));
  if (all.length === 0) return place.replaceChildren();
  const of = (pick, f) => all.reduce((best, point) => f(best, point[pick]), all[0][pick]);
  let x0 = of(0, Math.min), x1 = of(0, Math.max), y0 = of(1, Math.min), y1 = of(1, Math.max);
  if (log) {
    x0 = 10 ** Math.floor(Math.log10(x0));
    x1 = Math.max(x1, 10 * x0);
  } else {
    x0 = 0;
  }
  y0 = Math.floor(y0 * 5) / 5;
  y1 = Math.max(Math.ceil(y1 * 5) / 5, y0 + 0.4);
  const scale = log ? Math.log : (x) => x;
  const X = (x) =>
    LEFT + ((scale(x) - scale(x0)) / (scale(x1) - scale(x0) || 1)) * (width - LEFT - RIGHT);
  const Y = (y) => TOP + ((y1 - y) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const text = (x, y, anchor, what) => {
    const made = svg("text", { x, y, "text-anchor": anchor });
    made.textContent = what;
    return made;
  };
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    const y = y0 + ((y1 - y0) * i) / 4;
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: Y(y), y2: Y(y) }),
      text(LEFT - 5, Y(y) + 4, "end", y.toFixed(1)));
  }
  const marks = [];
  if (log) for (let x = x0; x <= x1 * 1.0001; x *= 10) marks.push(x);
  else for (let i = 1; i <= 4; i++) marks.push((x1 * i) / 4);
  for (const x of marks) {
    const anchor = X(x) > width - 40 ? "end" : "middle";
    parts.push(text(X(x), HEIGHT - BOTTOM + 18, anchor, log ? label(x) : Math.round(x).toLocaleString("en")));
  }
  parts.push(text(width - RIGHT, HEIGHT - 2, "end", unit));
  for (const { color, points } of lines)
    parts.push(svg("polyline", { stroke: color, points: points
      .filter(([x, y]) => x > 0 && Number.isFinite(y))
      .map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join(" ") }));
  place.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
    "aria-label": describe }, ...parts));
}
