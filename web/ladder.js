// The ladder: which rows there are, how they are run one after the other, and how they are shown.

import { drawChart, smoothed } from "./chart.js";
import { $, digits, element, startTask } from "./dom.js";
import { supported } from "./engine.js";
import { DEFAULTS, flopsOfDocument } from "./model.js";

const TRUTH_STEPS = { 1: 10, 16: 1 };
// Colours that the colour-blind can tell apart (Petroff, "Accessible color sequences", 2021).
const ROWS = [
  { kind: "original", batch: 1, label: "JavaScript, like the original", color: "#3f90da" },
  { kind: "tape.js", batch: 1, label: "JavaScript, tape of typed arrays", color: "#ffa90e" },
  { kind: "tape", batch: 1, label: "C++ tape in WebAssembly", color: "#bd1f01" },
  { kind: "scalar", batch: 1, label: "Derived by hand, scalar", color: "#94a4a2" },
  { kind: "simd", batch: 1, label: "SIMD, four lanes", color: "#832db6" },
  { kind: "relaxed", batch: 1, label: "Relaxed SIMD", color: "#a96b59" },
  { kind: "scalar", batch: 16, label: "Derived by hand, scalar", color: "#717581" },
  { kind: "simd", batch: 16, label: "SIMD, four lanes", color: "#b9ac70" },
  { kind: "relaxed", batch: 16, label: "Relaxed SIMD", color: "#e76300" },
];
const NOT_HERE = {
  relaxed: "this browser has no relaxed SIMD: multiply and add are two instructions here",
  simd: "this browser has no SIMD in WebAssembly",
};
const LONGEST = 4; // decades of speed that a full bar stands for

export class Ladder {
  #parts = new Map(); // by row: the elements that change
  #states = new Map(); // by row: { status, losses, pieces, result, message }
  #cancel = null;
  #fastest = null; // the run whose first row has given the page its model
  #truths = {};

  constructor(app) {
    this.app = app; // workerUrl, modules, names, facts, onModel
    this.rows = ROWS;
    this.#show();
    for (const batch of [1, 16]) {
      this.#truths[batch] = this.#task({ task: "truth", steps: TRUTH_STEPS[batch] }, batch).result;
      this.#truths[batch].catch(() => {}); // each row that needs it says so
    }
  }

  stateOf(row) {
    return this.#states.get(row) ?? { status: "waiting" };
  }
  /** Microseconds per sample of the readable original, or null. */
  get baseline() {
    return this.stateOf(this.rows[0]).result?.microseconds ?? null;
  }
  get best() {
    const done = this.rows.map((row) => ({ row, result: this.stateOf(row).result })).filter((x) => x.result);
    done.sort((a, b) => a.result.microseconds - b.result.microseconds);
    return done[0] ?? null;
  }

  #task(request, batch, on) {
    const settings = { ...DEFAULTS, batchSize: batch };
    return startTask(this.app.workerUrl, { ...request, text: this.app.names, mode: "lines", settings }, on);
  }

  stop() {
    this.#cancel?.();
  }

  /** Runs all rows, the fastest first. */
  async run() {
    let stopped = false;
    const run = Symbol("run");
    this.#states.clear();
    for (const row of this.rows) this.#update(row);
    const here = supported();
    for (const row of [...this.rows].reverse()) {
      if (stopped) break;
      const isHere = here[row.kind] ?? true;
      if (!isHere) {
        this.#set(row, { status: "absent", message: NOT_HERE[row.kind] });
        continue;
      }
      const state = { status: "verifying", losses: [], pieces: [] };
      this.#set(row, state);
      $("status").textContent = `${this.title(row)}: verifying, then training`;
      try {
        const expected = await this.#truths[row.batch];
        const { result } = this.#task({ task: "row", kind: row.kind, expected,
          bytes: this.app.modules[row.kind] }, row.batch, {
          progress: ({ done, seconds, losses }) => {
            state.status = "training";
            state.losses.push(...losses);
            state.pieces.push({ done, seconds });
            this.#update(row);
            this.#draw();
          },
          names: ({ step, names }) => this.#learnt(row, step, names),
          cancel: (cancel) => (this.#cancel = () => {
            stopped = true;
            cancel();
          }),
        });
        const found = await result;
        if (row.kind !== "original") this.#compare(row, found);
        this.#set(row, { status: "done", losses: found.losses, pieces: found.pieces, result: found });
        if (row.batch === 1 && this.#fastest !== run) {
          this.#fastest = run;
          this.app.onModel(found, this.title(row));
        }
      } catch (error) {
        this.#set(row, { status: "error", message: stopped ? "stopped" : error.message });
      }
    }
    this.#cancel = null;
    this.#checkAgainstOriginal();
    for (const row of this.rows) this.#update(row);
    this.#draw();
    const best = this.best, finished = best && this.baseline;
    $("status").textContent = stopped ? "Stopped." : finished
      ? `Done: ${this.title(best.row)} takes ${digits(best.result.microseconds)} µs per sample, ` +
        `${digits(this.baseline / best.result.microseconds)} times as fast as the original in JavaScript.`
      : "Done; some rows could not be timed.";
    return finished;
  }

  // A loss that is beyond reason is no number to show, whatever the checks before said.
  #compare(row, { losses }) {
    const mean = losses.slice(-100).reduce((sum, x) => sum + x, 0) / Math.min(100, losses.length);
    if (!(mean < losses[0])) throw new Error("it has not learnt anything: its loss did not fall");
  }

  /** All losses at batch 1 against the original's, within the band of tests/test_parity.py. */
  #checkAgainstOriginal() {
    const original = this.stateOf(this.rows[0]).result;
    if (!original) return;
    for (const row of this.rows.filter((r) => r.batch === 1 && r.kind !== "original")) {
      const { result } = this.stateOf(row);
      if (!result) continue;
      const differences = result.losses.map((x, i) => x - original.losses[i]);
      const largest = differences.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      const mean = differences.reduce((sum, x) => sum + x, 0) / differences.length;
      if (!(largest <= 0.3 && Math.abs(mean) <= 2e-3))
        this.#set(row, { status: "error", message: "its losses leave those of the original" });
      else result.largestDifference = largest;
    }
  }

  title({ label, batch }) {
    return `${label}, batch ${batch}`;
  }

  #set(row, state) {
    this.#states.set(row, state);
    this.#update(row);
  }

  #show() {
    const list = $("rows"), legend = $("legend");
    let batch = 0;
    for (const row of this.rows) {
      if (row.batch !== batch) {
        batch = row.batch;
        list.append(element("li", { class: "group" }, batch === 1 ? "One name a step, as the original"
          : "Sixteen names a step, and sixteen times fewer updates"));
      }
      const fill = element("i"), figures = element("span", { class: "figures" }, "waiting");
      const bar = element("span", { class: "bar", "aria-hidden": "true" }, fill);
      const item = element("li", { "data-row": `${row.kind}/${row.batch}` },
        element("span", { class: "label" }, element("i"), row.label), bar, figures);
      item.style.setProperty("--color", row.color);
      list.append(item);
      this.#parts.set(row, { item, fill, figures });
      const entry = element("li", {}, element("i"), this.title(row));
      entry.style.setProperty("--color", row.color);
      legend.append(entry);
    }
  }

  #update(row) {
    const { item, fill, figures } = this.#parts.get(row), state = this.stateOf(row);
    let us = state.result?.microseconds ?? null;
    if (state.status === "training") {
      const { done, seconds } = state.pieces.at(-1);
      us = (1e6 * seconds) / done / row.batch;
    }
    item.dataset.status = state.status;
    item.dataset.microseconds = state.result?.microseconds ?? "";
    item.dataset.difference = state.result?.largestDifference ?? "";
    const slowest = this.baseline ?? 10_000;
    const share = us ? (1 + Math.log10(Math.max(slowest, us) / us)) / LONGEST : 0;
    fill.style.width = `${Math.min(100, 100 * share)}%`;
    figures.className = state.status === "error" ? "figures error" : "figures";
    if (state.status === "error" || state.status === "absent") {
      figures.textContent = `${state.status === "error" ? "error: " : ""}${state.message}`;
    } else if (!us) {
      figures.textContent = state.status;
    } else {
      const speedup = this.baseline && row.kind !== "original" ? `${digits(this.baseline / us)} times, ` : "";
      const step = state.status === "training" ? `step ${state.pieces.at(-1).done}, ` : "";
      const mean = (list) => list.reduce((sum, x) => sum + x, 0) / list.length;
      figures.replaceChildren(element("b", {}, `${digits(us)} µs`), ` per sample, ${speedup}${step}` +
        `loss ${mean(state.losses.slice(-50)).toFixed(2)}`);
      if (state.result)
        figures.append(`; first training ${digits(1000 * state.result.first.seconds)} ms with compilation`);
    }
  }

  #frame = 0;
  #draw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const lines = this.rows.map((row) => {
        const { losses = [], pieces = [] } = this.stateOf(row);
        if (pieces.length === 0) return { color: row.color, points: [] };
        // The time of a step, by the pieces that were timed.
        const timeOf = (step) => {
          const i = pieces.findIndex(({ done }) => done >= step);
          const end = pieces[i], start = i > 0 ? pieces[i - 1] : { done: 0, seconds: 0 };
          return start.seconds +
            ((end.seconds - start.seconds) * (step - start.done)) / (end.done - start.done);
        };
        return { color: row.color, points: smoothed(losses, 60).map(([step, y]) => [timeOf(step), y]) };
      });
      drawChart($("chart"), lines, { log: true, unit: "seconds of training",
        describe: "Loss against time for each row; the figures are in the list above." });
    });
  }

  #shown = null;
  #learnt(row, step, names) {
    const place = $("learnt");
    if (this.#shown !== row || step === 0) place.replaceChildren(element("b", {}, this.title(row)));
    this.#shown = row;
    place.append(element("p", {}, element("b", {}, `after ${step.toLocaleString("en")} steps`),
      names.join(", ")));
  }

  /** The 20 names of the original, under what the rows have shown. */
  showSamples() {
    const result = this.stateOf(this.rows[0]).result ?? this.best?.result;
    if (!result) return;
    const line = element("p", { id: "twenty" }, element("b", {}, "the 20 names of microgpt under CPython"),
      result.samples.join(", "));
    $("learnt").append(line);
  }

  /** GFLOP/s of a row over whole trainings, and its share of the measured peak. */
  share(row) {
    const { result } = this.stateOf(row);
    if (!result?.peak) return null;
    const gflops = (flopsOfDocument(result.config, this.app.meanPositions) * 1e-3) / result.microseconds;
    return { gflops, peak: result.peak, share: gflops / result.peak };
  }
}
