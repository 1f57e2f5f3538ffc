// The ladder explained: what changes in the code at each step, what it bought here, what is left.

import { $, digits, element } from "./dom.js";

const STEPS = [
  { kind: "original", title: "Every number an object",
    text: "The original: each addition and multiplication makes an object that remembers its operands; " +
      "backward walks all of them. The real source:" },
  { kind: "tape.js", title: "A tape instead of objects",
    text: "The same operations, written one after the other into typed arrays that every name reuses. " +
      "Backward is a loop from the end to the front." },
  { kind: "tape", title: "The tape in C++",
    text: "The same tape compiled to WebAssembly. It keeps no derivatives: they are computed again " +
      "from the values, which are in the cache anyway." },
  { kind: "scalar", title: "No autograd",
    text: "Forward and backward derived by hand: matrix products, and no record of single operations. " +
      "Sums stay in registers." },
  { kind: "simd", title: "Four numbers at a time",
    text: "The same derivation over vectors of four, in tiles of rows and features, with Adam where a " +
      "gradient is complete. The products:" },
  { kind: "relaxed", title: "Multiply and add at once",
    text: "Where the browser has relaxed SIMD, a multiplication and an addition are one instruction: " },
];

export function showSteps(ladder, { excerpts }) {
  let before = null;
  const items = STEPS.map(({ kind, title, text }) => {
    const row = ladder.rows.find((r) => r.kind === kind && r.batch === 1);
    const us = ladder.stateOf(row).result?.microseconds ?? null;
    const { path, line, code } = excerpts[kind];
    const item = element("li", {}, element("h3", {}, title), element("p", {}, text),
      element("pre", { tabindex: "0", "aria-label": `${path} from line ${line}` }, element("code", {}, code)),
      element("p", { class: "note" }, `${path}, line ${line}`));
    if (us && before)
      item.append(element("p", {}, `Here: ${digits(us)} µs per sample, ${digits(before / us)} times as fast ` +
        "as the step before."));
    const left = ladder.share(row);
    if (left)
      item.append(element("p", {}, `That is ${digits(left.gflops)} of the ${digits(left.peak)} GFLOP/s that ` +
        `this module reaches with multiply-adds alone: ${Math.round(100 * left.share)} %.`));
    before = us ?? before;
    return item;
  });
  $("steps").replaceChildren(...items);
}
