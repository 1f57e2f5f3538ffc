// The model at work: what comes next, samples, where the heads look, which hidden units are dead; and
// keeping the model.

import { $, download, element, visible } from "./dom.js";
import { Reader, probabilities, sample } from "./model.js";
import { Random } from "./random.js";
import { describe, pack, unpack } from "./safetensors.js";
import { encodeAll } from "./text.js";

const MOST_SHOWN = 12; // of the characters that may come next

export class Work {
  #model = null; // { config, alphabet, parameters, probe }
  #frame = 0;
  #asked = false; // the reader has written a prompt
  #rng = new Random(Math.floor(Math.random() * 2 ** 32));

  constructor() {
    for (const id of ["prompt", "temperature", "top-k"])
      $(id).addEventListener("input", () => this.#later());
    $("prompt").addEventListener("input", () => (this.#asked = true));
    $("draw").addEventListener("click", () => this.#draw());
    $("save-weights").addEventListener("click", () => this.#save(() =>
      download("model.safetensors", pack(this.#model), "application/octet-stream")));
    $("save-config").addEventListener("click", () => this.#save(() =>
      download("config.json", JSON.stringify(describe(this.#model), null, 2) + "\n", "application/json")));
    $("open-model").addEventListener("change", (event) => this.#open(event.target));
  }

  get model() {
    return this.#model;
  }

  /** Shows this model from now on. probe: documents in tokens, to see hidden units at work with. */
  show(model, which) {
    this.#model = { probe: this.#model?.probe ?? [], ...model };
    const document = this.#model.probe[0];
    if (!this.#asked && document)
      $("prompt").value = document.slice(1, Math.min(4, document.length - 1))
        .map((token) => model.alphabet[token]).join("");
    $("work").hidden = false;
    $("save-weights").disabled = $("save-config").disabled = false;
    $("work-which").textContent = which;
    this.#later();
  }

  #later() {
    if (this.#frame || !this.#model) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#picture();
    });
  }

  /** The tokens of the prompt, or null where it cannot be read. */
  #prompt() {
    const { alphabet, config } = this.#model, text = $("prompt").value;
    const unknown = Array.from(text).find((c) => !alphabet.includes(c));
    const length = Array.from(text).length;
    let problem = "";
    if (unknown !== undefined)
      problem = `The model does not know “${visible(unknown)}”: it was not in its text.`;
    else if (length >= config.blockSize)
      problem = `At most ${config.blockSize - 1} characters leave room for one more.`;
    $("prompt-problem").textContent = problem;
    $("prompt").setAttribute("aria-invalid", problem !== "");
    return problem ? null : encodeAll([text], alphabet)[0].slice(1, -1);
  }

  #how() {
    $("temperature-value").textContent = $("temperature").value;
    return { temperature: Number($("temperature").value),
      topK: Math.max(0, Math.floor(Number($("top-k").value)) || 0) };
  }

  #picture() {
    const { config, alphabet, parameters } = this.#model, prompt = this.#prompt();
    const { temperature, topK } = this.#how();
    if (prompt === null) return;
    const reader = new Reader(parameters, config), rows = [];
    const tokens = [config.vocabSize - 1, ...prompt];
    let logits;
    for (const token of tokens) {
      logits = reader.next(token);
      rows.push(reader.attention);
    }
    const p = probabilities(logits, temperature, topK), spell = (token) => visible(alphabet[token] ?? "end");
    const likely = Array.from(p.keys()).sort((a, b) => p[b] - p[a]).slice(0, MOST_SHOWN);
    $("next").replaceChildren(...likely.map((token) => {
      const fill = element("i");
      fill.style.width = `${100 * p[token]}%`;
      return element("li", {}, element("code", {}, spell(token)),
        element("span", { class: "bar", "aria-hidden": "true" }, fill), `${(100 * p[token]).toFixed(1)} %`);
    }));
    this.#heads(rows, tokens.map(spell));
    this.#units();
  }

  #heads(rows, characters) {
    const { nLayer, nHead } = this.#model.config, n = rows.length, figures = [];
    for (let layer = 0; layer < nLayer; layer++)
      for (let head = 0; head < nHead && figures.length < 64; head++) {
        const canvas = element("canvas", { width: n, height: n, role: "img" });
        const context = canvas.getContext("2d");
        rows.forEach((attention, i) => attention[layer][head].forEach((weight, j) => {
          context.fillStyle = `rgba(63, 144, 218, ${weight})`;
          context.fillRect(j, i, 1, 1);
        }));
        const last = rows.at(-1)[layer][head], most = last.indexOf(Math.max(...last));
        const what = `layer ${layer + 1}, head ${head + 1}`;
        canvas.setAttribute("aria-label", `${what}: the last character attends most to ` +
          `${most === 0 ? "the beginning" : characters[most]}, ${Math.round(100 * last[most])} %`);
        figures.push(element("figure", {}, canvas, element("figcaption", {}, what)));
      }
    $("heads").replaceChildren(...figures);
  }

  #units() {
    const { config, parameters, probe } = this.#model, units = 4 * config.nEmbd * config.nLayer;
    const active = new Float64Array(units);
    let positions = 0;
    for (const document of probe) {
      const reader = new Reader(parameters, config);
      for (const token of document.slice(0, Math.min(config.blockSize, document.length - 1))) {
        reader.next(token);
        reader.hidden.forEach((layer, l) => layer.forEach((h, i) => {
          active[l * 4 * config.nEmbd + i] += h > 0;
        }));
        positions++;
      }
      if (positions * units > 200_000) break;
    }
    const columns = Math.min(units, 64), canvas = $("units");
    canvas.width = columns;
    canvas.height = Math.ceil(units / columns);
    canvas.style.aspectRatio = `${columns} / ${canvas.height}`;
    const context = canvas.getContext("2d"), dead = active.reduce((sum, a) => sum + (a === 0), 0);
    active.forEach((a, i) => {
      context.fillStyle = a === 0 ? "#bd1f01" : `rgba(63, 144, 218, ${0.15 + (0.85 * a) / positions})`;
      context.fillRect(i % columns, Math.floor(i / columns), 1, 1);
    });
    const what = positions === 0 ? "No documents to look at." :
      `${dead} of ${units.toLocaleString("en")} units (red) are silent on all of ${positions} positions of ` +
      "the text: the kernels skip such zeros. The others have the stronger colour, the more often they are active.";
    $("units-note").textContent = what;
    canvas.setAttribute("aria-label", what);
  }

  #draw() {
    const { config, alphabet, parameters } = this.#model, prompt = this.#prompt();
    if (prompt === null) return;
    const how = { ...this.#how(), prompt };
    const texts = Array.from({ length: 20 }, () =>
      sample(this.#rng, parameters, config, how).map((token) => alphabet[token]).join(""));
    const many = texts.some((text) => text.includes("\n"));
    $("samples").textContent = texts.slice(0, many ? 5 : 20).join(many ? "\n———\n" : "\n");
  }

  #save(write) {
    try {
      write();
      $("model-note").textContent = "Downloaded.";
    } catch (error) {
      $("model-note").textContent = error.message;
    }
  }

  async #open(input) {
    const note = $("model-note"), files = [...input.files];
    try {
      const weights = files.find((file) => file.name.endsWith(".safetensors"));
      const beside = files.find((file) => file.name.endsWith(".json"));
      if (!weights) throw new Error("Choose model.safetensors, and config.json with it.");
      if (weights.size > 5e8) throw new Error("This file is too large for a page: over 500 MB.");
      let described = null;
      if (beside) {
        try {
          described = JSON.parse(await beside.text());
        } catch {
          throw new Error(`${beside.name} is not JSON.`);
        }
      }
      const model = unpack(new Uint8Array(await weights.arrayBuffer()), described);
      this.show({ ...model, probe: [] }, `The model of ${weights.name}.`);
      note.textContent = `Opened: ${model.parameters.length.toLocaleString("en")} parameters, ` +
        `${model.alphabet.length} characters.`;
      this.#draw();
    } catch (error) {
      note.textContent = error.message;
    }
    input.value = "";
  }
}
