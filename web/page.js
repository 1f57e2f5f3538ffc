// The page: unpacks what is packed into it, and brings its parts together.

import { Card } from "./card.js";
import { $, digits, unpacked, unpackedText } from "./dom.js";
import { Ladder } from "./ladder.js";
import { Own } from "./own.js";
import { showSteps } from "./steps.js";
import { alphabetOf, documentsOf, encodeAll } from "./text.js";
import { Work } from "./work.js";

const KINDS = ["relaxed", "simd", "scalar", "tape"];

function showNative({ machine, commit, microseconds }) {
  const figures = Object.entries(microseconds).map(([row, us]) => `${row}: ${digits(us)}`);
  $("native").textContent = `The same rows as native programs, published by this project on its machine ` +
    `(${machine}, commit ${commit}), µs per sample: ${figures.join("; ")}.`;
}

async function main() {
  const [names, facts, worker, ...packed] = await Promise.all([
    unpackedText("names"), unpackedText("facts").then(JSON.parse), unpacked("worker"),
    ...KINDS.map((kind) => unpacked(`wasm-${kind}`)),
  ]);
  const source = new Blob([worker], { type: "text/javascript" });
  const modules = Object.fromEntries(KINDS.map((kind, i) => [kind, packed[i]]));
  const documents = documentsOf(names, "lines");
  const work = new Work();
  const probe = encodeAll(documents.slice(0, 30), alphabetOf(documents));
  const app = {
    workerUrl: URL.createObjectURL(source),
    modules, names, facts, work, gflops: 10,
    meanPositions: documents.reduce((sum, d) => sum + Math.min(16, d.length + 1), 0) / documents.length,
    onModel: ({ parameters, config, alphabet, peak }, title) => {
      if (peak) app.gflops = peak;
      work.show({ parameters, config, alphabet, probe }, `The model of the row ${title}.`);
    },
  };
  const ladder = new Ladder(app), card = new Card(ladder);
  new Own(app);
  showNative(facts.native);
  showSteps(ladder, facts);

  $("start").addEventListener("click", async () => {
    $("start").disabled = true;
    $("halt").hidden = false;
    const finished = await ladder.run();
    $("start").disabled = false;
    $("halt").hidden = true;
    showSteps(ladder, facts);
    if (finished) {
      ladder.showSamples();
      card.ready();
    }
    document.body.dataset.runs = Number(document.body.dataset.runs ?? 0) + 1;
  });
  $("halt").addEventListener("click", () => ladder.stop());
  $("facts").textContent = `${digits(names.split("\n").length - 1)} given names are in this page; ` +
    "it asks nothing of the network.";
  $("status").textContent = "Ready.";
  $("start").disabled = false;
}

main().catch((error) => {
  $("status").textContent = `This browser cannot run the page: ${error.message}`;
});
