// The result to share: as text, and as a picture of 1200 x 630.

import { $, digits, download } from "./dom.js";

/** The computer, as far as a browser says what it is. */
export function device() {
  const agent = navigator.userAgent;
  const browser = /Firefox\/\d+/.exec(agent) ?? /Edg\/\d+/.exec(agent) ?? /Chrome\/\d+/.exec(agent) ??
    /Version\/\d+/.exec(agent);
  const system = /Android [\d.]+|iPhone|iPad|Mac OS X|Windows|Linux/.exec(agent);
  return [browser?.[0].replace("/", " ").replace("Version", "Safari"), system?.[0]].filter(Boolean).join(", ");
}

export class Card {
  constructor(ladder) {
    this.ladder = ladder;
    $("copy-card").addEventListener("click", () => this.#copy());
    $("save-card").addEventListener("click", () => this.#picture());
  }

  ready() {
    $("copy-card").disabled = $("save-card").disabled = false;
  }

  #facts() {
    const { row, result } = this.ladder.best, times = digits(this.ladder.baseline / result.microseconds);
    return {
      headline: `${digits(result.microseconds)} µs per sample`,
      factor: `${times} times as fast as the original in JavaScript`,
      row: this.ladder.title(row),
      device: device(),
    };
  }

  async #copy() {
    const { headline, factor, row, device } = this.#facts();
    const lines = this.ladder.rows.filter((r) => this.ladder.stateOf(r).result).map((r) =>
      `${this.ladder.title(r)}: ${digits(this.ladder.stateOf(r).result.microseconds)} µs`);
    const text = [`A GPT, trained in my browser: ${headline} (${row}), ${factor}.`, device, "", ...lines,
      "", "pymicrogpt"].join("\n");
    try {
      await navigator.clipboard.writeText(text);
      $("card-note").textContent = "Copied.";
    } catch {
      $("card-note").textContent = text; // where a page may not: to be copied by hand
    }
  }

  #picture() {
    const canvas = document.createElement("canvas");
    canvas.width = 1200;
    canvas.height = 630;
    const c = canvas.getContext("2d"), { headline, factor, row, device } = this.#facts();
    c.fillStyle = "#14171c";
    c.fillRect(0, 0, 1200, 630);
    const write = (text, x, y, size, color, weight = "normal") => {
      c.font = `${weight} ${size}px system-ui, sans-serif`;
      c.fillStyle = color;
      c.fillText(text, x, y, 1200 - x - 60);
    };
    write("A GPT, trained in my browser", 60, 95, 40, "#9aa5b3");
    write(headline, 60, 185, 84, "#e6e9ee", "bold");
    write(factor, 60, 245, 36, "#7fb0ff");
    write(`${row}; ${device}`, 60, 290, 28, "#9aa5b3");
    const rows = this.ladder.rows.filter((r) => this.ladder.stateOf(r).result);
    const slowest = this.ladder.baseline;
    rows.forEach((r, i) => {
      const us = this.ladder.stateOf(r).result.microseconds, y = 330 + i * 29;
      write(this.ladder.title(r), 60, y + 18, 20, "#e6e9ee");
      c.fillStyle = r.color;
      c.fillRect(450, y + 2, 130 * (1 + Math.log10(Math.max(slowest, us) / us)), 20);
      write(`${digits(us)} µs`, 1030, y + 18, 20, "#e6e9ee");
    });
    write("pymicrogpt; bars: ten times the speed for each 130 pixels", 60, 612, 18, "#9aa5b3");
    canvas.toBlob((blob) => download("microgpt.png", blob, "image/png"), "image/png");
    $("card-note").textContent = "Saved as microgpt.png.";
  }
}
