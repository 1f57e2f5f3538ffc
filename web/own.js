// Training on the reader's own text: what is asked for is checked and estimated before it is spent.

import { drawChart, smoothed } from "./chart.js";
import { $, digits, element, startTask } from "./dom.js";
import { MOST_BYTES, supported } from "./engine.js";
import { DEFAULTS, flopsOfDocument, parameterCount, problemsOf } from "./model.js";
import { MOST_CHARACTERS } from "./text.js";

const FIELDS = [
  ["nEmbd", "Width", 1], ["nHead", "Heads", 1], ["nLayer", "Layers", 1], ["blockSize", "Context", 1],
  ["batchSize", "Batch", 1], ["learningRate", "Learning rate", "any"], ["numSteps", "Steps", 1],
];
const SHARE_OF_PEAK = 0.3; // what whole trainings reach of the measured peak, about

export class Own {
  #app;
  #inputs = {};
  #training = null; // { send, cancel, going }
  #estimates = 0;
  #timer = 0;

  constructor(app) {
    this.#app = app; // workerUrl, modules, names, gflops, work
    for (const [name, label, step] of FIELDS) {
      const input = element("input", { id: `field-${name}`, type: "number", step, inputmode: "decimal",
        value: name === "batchSize" ? 16 : DEFAULTS[name], "aria-describedby": `problem-${name}` });
      $("fields").append(element("p", {}, element("label", { for: input.id }, label), input,
        element("span", { class: "problem", id: `problem-${name}` })));
      this.#inputs[name] = input;
    }
    $("own").addEventListener("input", () => this.#estimateLater());
    $("own").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    $("own-stop").addEventListener("click", () => this.#stopOrGo());
    $("use-names").addEventListener("click", () => this.#setText(this.#app.names));
    $("open-text").addEventListener("change", (event) => this.#open(event.target));
    // A paste is looked at before the browser lays it out: 50 MB in a text field freeze a tab.
    $("text").addEventListener("paste", (event) => {
      const length = event.clipboardData?.getData("text/plain").length ?? 0;
      if (length <= 2_000_000) return;
      event.preventDefault();
      this.#problem("text", `This is ${digits(length / 1e6)} million characters; the field takes 2 ` +
        "million. Open it as a file instead.");
    });
    this.#setText(this.#app.names);
  }

  #file = null; // { name, text }: of a file too long to be shown

  get #text() {
    return this.#file?.text ?? $("text").value;
  }
  get #kind() {
    const here = supported();
    return ["relaxed", "simd", "scalar"].find((kind) => here[kind]);
  }

  #setText(text) {
    this.#file = null;
    this.#problem("text", "");
    $("text").readOnly = false;
    $("text").value = text;
    this.#estimateLater();
  }

  async #open(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    if (file.size > 4 * MOST_CHARACTERS) {
      return this.#problem("text", `${file.name} has ${digits(file.size / 1e6)} MB; at most ` +
        `${MOST_CHARACTERS / 1e6} million characters are trained here.`);
    }
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    } catch {
      return this.#problem("text", `${file.name} is not UTF-8 text.`);
    }
    if (text.length <= 2_000_000) return this.#setText(text);
    this.#file = { name: file.name, text };
    $("text").value = `${file.name}, ${text.length.toLocaleString("en")} characters`;
    $("text").readOnly = true;
    this.#estimateLater();
  }

  #problem(name, sentence) {
    $(name === "text" ? "text-problem" : `problem-${name}`).textContent = sentence;
    (this.#inputs[name] ?? $(name)).setAttribute("aria-invalid", sentence !== "");
  }

  /** The request for the worker, or null where a field has a problem, which is then shown. */
  #request() {
    const settings = { ...DEFAULTS };
    for (const [name] of FIELDS) settings[name] = this.#inputs[name].valueAsNumber;
    const problems = problemsOf(settings);
    for (const [name] of FIELDS) this.#problem(name, problems[name] ?? "");
    if (Object.keys(problems).length > 0) return null;
    const mode = new FormData($("own")).get("mode"), kind = this.#kind;
    return { kind, bytes: this.#app.modules[kind], text: this.#text, mode, settings };
  }

  #estimateLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#estimate(), 400);
  }

  /** Shows what the training will take. False where it cannot be done. */
  async #estimate() {
    const request = this.#request(), turn = ++this.#estimates;
    if (!request) {
      $("estimate").textContent = "";
      return null;
    }
    try {
      const found = await startTask(this.#app.workerUrl, { task: "estimate", ...request }).result;
      if (turn !== this.#estimates) return null;
      const config = { ...request.settings, vocabSize: found.vocabSize };
      const flops = flopsOfDocument(config, found.positions) * config.batchSize * config.numSteps;
      const seconds = flops / (SHARE_OF_PEAK * this.#app.gflops * 1e9);
      const time = seconds < 1 ? "under a second" : seconds < 90 ? `about ${Math.ceil(seconds)} s`
        : `about ${digits(seconds / 60)} minutes`;
      const size = `${digits(Math.max(0.1, found.bytes / 2 ** 20))} MB`;
      const tooLarge = !(found.bytes < MOST_BYTES);
      this.#problem("text", "");
      this.#problem("nEmbd", tooLarge ? `This takes ${size} of memory, and 1,024 MB are the most here.` : "");
      $("estimate").textContent = tooLarge ? "" :
        `${found.documents.toLocaleString("en")} documents, ${found.characters.toLocaleString("en")} ` +
        `characters, ${parameterCount(config).toLocaleString("en")} parameters: ${size} of memory, ${time}.`;
      return tooLarge ? null : request;
    } catch (error) {
      if (turn === this.#estimates) {
        this.#problem("text", error.message);
        $("estimate").textContent = "";
      }
      return null;
    }
  }

  #buttons(running, going) {
    $("own-start").textContent = running ? "Restart" : "Train";
    $("own-stop").disabled = !running;
    $("own-stop").textContent = going ? "Stop" : "Go on";
  }

  async #start() {
    clearTimeout(this.#timer);
    this.#training?.cancel();
    this.#problem("text", "");
    $("own-status").textContent = "Getting ready …";
    const request = await this.#estimate();
    if (!request) $("own-status").textContent = "";
    if (!request) return;
    const losses = [], status = $("own-status"), { numSteps, batchSize } = request.settings;
    const training = { going: true, cancel: () => {} };
    this.#training = training;
    this.#buttons(true, true);
    let model = null;
    const task = startTask(this.#app.workerUrl, { task: "own", ...request }, {
      cancel: (cancel) => (training.cancel = cancel),
      model: ({ config, alphabet, parameters, documents }) => {
        model = { config, alphabet, parameters, probe: documents };
        this.#app.work.show(model, "Your model, while it trains.");
      },
      progress: ({ step, seconds, losses: more, parameters }) => {
        losses.push(...more);
        model = { ...model, parameters };
        this.#app.work.show(model, "Your model, while it trains.");
        const us = (1e6 * seconds) / step / batchSize, mean = smoothed(losses, 100).at(-1)[1];
        const left = ((numSteps - step) * seconds) / step;
        const time = left < 1 ? "under a second" : `${digits(left)} s`;
        status.textContent = `Step ${step.toLocaleString("en")} of ${numSteps.toLocaleString("en")}: loss ` +
          `${mean.toFixed(3)}, ${digits(us)} µs per sample${left > 0 ? `, ${time} left` : ""}.` +
          (training.going ? "" : " Stopped.");
        drawChart($("own-chart"), [{ color: "#3f90da", points: smoothed(losses, 100) }], { log: false,
          unit: "steps", describe: `Loss against steps; it is ${mean.toFixed(2)} after ${step}.` });
      },
    });
    training.send = task.send;
    try {
      const { samples } = await task.result;
      status.textContent += ` Done. It says: ${samples.slice(0, 5).join(", ")}`;
      this.#app.work.show(model, "Your model.");
    } catch (error) {
      if (error.message !== "stopped") status.textContent = error.message;
    }
    if (this.#training === training) {
      this.#training = null;
      this.#buttons(false, true);
    }
  }

  #stopOrGo() {
    const training = this.#training;
    if (!training) return;
    training.going = !training.going;
    training.send(training.going ? "go" : "stop");
    this.#buttons(true, training.going);
    if (!training.going) $("own-status").textContent += " Stopped.";
  }
}
