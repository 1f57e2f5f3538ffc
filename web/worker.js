// What runs beside the page: it trains, verifies and times. One worker does one thing and is then
// ended, memory and all.

import { Engine, bytesOf } from "./engine.js";
import { drawParameters, sample, shapes } from "./model.js";
import { Original } from "./original.js";
import { Random } from "./random.js";
import { Tape } from "./tape.js";
import { alphabetOf, documentsOf, encodeAll } from "./text.js";

const SHOW_AT = [0, 30, 100, 300, 1000]; // steps after which names are drawn
const EXACT = new Set(["original", "tape.js", "tape"]); // in doubles
const WARM_SECONDS = 0.4; // of whole trainings, after the first one

/** Documents, alphabet and first parameters, drawn from the seed as the original does. */
function prepare({ text, mode, settings }) {
  const documents = documentsOf(text, mode, settings.blockSize);
  const rng = new Random(settings.seed);
  rng.shuffle(documents);
  const alphabet = alphabetOf(documents);
  const config = { ...settings, vocabSize: alphabet.length + 1 };
  const parameters = drawParameters(rng, config);
  return { documents: encodeAll(documents, alphabet), alphabet, config, parameters, rng };
}

/** Makes trainers: a JavaScript class by its name, or a module's Engine. */
async function makerOf(kind, bytes) {
  const scripted = { original: Original, "tape.js": Tape }[kind];
  const module = scripted ? null : await WebAssembly.compile(bytes);
  return ({ documents, parameters, config }) => {
    if (module) return new Engine(module, documents, parameters, config);
    const trainer = new scripted(documents, parameters, config, shapes(config));
    trainer.steps = (n) => Float64Array.from({ length: n }, () => trainer.step());
    return trainer;
  };
}

/** What is true of a first batch and of the first steps, by the original. */
function truth(request) {
  const data = prepare(request);
  const make = () =>
    new Original(data.documents, data.parameters, data.config, shapes(data.config));
  const first = make(), loss = first.gradient(), training = make();
  const losses = Float64Array.from({ length: request.steps }, () => training.step());
  return { loss, gradients: first.gradients(), losses };
}

/** The bounds of tests/test_parity.py. Throws where a row computes something else. */
function verify(trainer, expected, exact, config) {
  const wrong = (what) => new Error(`computes something else than the original: ${what}`);
  const close = (found, wanted, relative, absolute) =>
    Math.abs(found - wanted) <= relative * Math.abs(wanted) + absolute; // false for NaN
  const loss = trainer.gradient(), found = trainer.gradients();
  if (!close(loss, expected.loss, exact ? 0 : 1e-6, exact ? 1e-9 : 0))
    throw wrong(`its first loss is ${loss}, not ${expected.loss}`);
  const norm = (array) => Math.sqrt(array.reduce((sum, x) => sum + x * x, 0));
  const total = norm(expected.gradients);
  for (const { name, rows, cols, offset } of shapes(config)) {
    const part = expected.gradients.subarray(offset, offset + rows * cols), size = norm(part);
    const error = norm(part.map((x, i) => found[offset + i] - x));
    const cancels = size < 1e-3 * total;
    const bound = exact ? 1e-12 * total : Math.max(1e-5 * size, cancels ? 2e-7 * total : 0);
    if (!(error <= bound))
      throw wrong(`the gradient of ${name} is off by ${(error / size).toExponential(1)} of itself`);
  }
  const losses = trainer.steps(expected.losses.length);
  losses.forEach((x, i) => {
    if (!close(x, expected.losses[i], exact ? 0 : 1e-6, exact ? 1e-9 : 1e-5))
      throw wrong(`its loss of step ${i + 1} is ${x}, not ${expected.losses[i]}`);
  });
}

const breathe = () => new Promise((resolve) => setTimeout(resolve));

/** Trains to the end in pieces of some milliseconds; returns losses and the seconds of each piece. */
async function train(trainer, numSteps, live) {
  const losses = new Float64Array(numSteps), pieces = [];
  let done = 0, seconds = 0, some = 1;
  for (const stop of live ? [...SHOW_AT.filter((s) => s > 0 && s < numSteps), numSteps] : [numSteps]) {
    while (done < stop) {
      const n = Math.min(some, stop - done), start = performance.now();
      losses.set(trainer.steps(n), done);
      const took = (performance.now() - start) / 1000;
      done += n;
      seconds += took;
      pieces.push({ done, seconds });
      if (took < 0.01) some *= 2;
      if (live) {
        live({ done, seconds, losses: losses.slice(done - n, done) });
        await breathe();
      }
    }
    if (live?.shown) live.shown(done, trainer.values());
  }
  if (!losses.every(Number.isFinite)) throw new Error("its loss is not a number");
  return { losses, seconds, pieces };
}

/** One row of the ladder: verified, trained before the reader's eyes, then timed warm. */
async function row(request) {
  const { kind, expected } = request, started = performance.now();
  const make = await makerOf(kind, request.bytes);
  const compiled = (performance.now() - started) / 1000;
  const data = prepare(request), { config, alphabet } = data;
  verify(make(data), expected, EXACT.has(kind), config);

  const spell = (tokens) => tokens.map((token) => alphabet[token]).join("");
  const names = new Random(7);
  const live = (progress) => postMessage({ type: "progress", ...progress });
  live.shown = (step, values) => postMessage({ type: "names", step,
    names: Array.from({ length: 6 }, () => spell(sample(names, values, config))) });
  const trainer = make(data);
  live.shown(0, trainer.values());
  const first = await train(trainer, config.numSteps, live);
  const parameters = trainer.values();

  const times = first.seconds > WARM_SECONDS ? [first.seconds] : [];
  for (let total = first.seconds; total < WARM_SECONDS || times.length === 0; ) {
    const again = await train(make(data), config.numSteps);
    times.push(again.seconds);
    total += again.seconds;
  }
  times.sort((a, b) => a - b);
  const seconds = times[times.length >> 1];
  const draw = () => (kind === "original" ? trainer.sample(data.rng) : sample(data.rng, parameters, config));
  return {
    microseconds: (1e6 * seconds) / config.numSteps / config.batchSize,
    first: { seconds: compiled + first.seconds, compiled },
    trainings: times.length,
    losses: first.losses,
    pieces: first.pieces,
    parameters,
    config,
    alphabet,
    samples: Array.from({ length: 20 }, () => spell(draw())),
    peak: trainer.peak && kind !== "scalar" && kind !== "tape" ? trainer.peak() : null,
  };
}

/** What a training of the reader's own text will take, before it is spent. */
async function estimate(request) {
  const { settings, mode, text } = request;
  const documents = documentsOf(text, mode, settings.blockSize), alphabet = alphabetOf(documents);
  const config = { ...settings, vocabSize: alphabet.length + 1 };
  let positions = 0;
  for (const document of documents)
    positions += Math.min(settings.blockSize, Array.from(document).length + 1);
  const module = await WebAssembly.compile(request.bytes);
  return {
    documents: documents.length,
    characters: alphabet.length,
    positions: positions / documents.length,
    vocabSize: config.vocabSize,
    bytes: bytesOf(module, config) + 12 * (positions + 2 * documents.length),
  };
}

// The reader's own training, which can be stopped and go on.
let going = false;

async function own(request) {
  const make = await makerOf(request.kind, request.bytes), data = prepare(request);
  const { config, alphabet, rng } = data, trainer = make(data);
  postMessage({ type: "model", config, alphabet, parameters: data.parameters, step: 0,
    documents: data.documents.slice(0, 12) });
  let step = 0, some = 1, seconds = 0, shown = 0, unsent = [];
  going = true;
  while (step < config.numSteps) {
    if (!going) {
      await breathe();
      continue;
    }
    const n = Math.min(some, config.numSteps - step), start = performance.now();
    const losses = trainer.steps(n), took = performance.now() - start;
    step += n;
    seconds += took / 1000;
    if (took < 15) some *= 2;
    if (took > 40 && some > 1) some = Math.ceil(some / 2);
    unsent.push(...losses);
    if (!losses.every(Number.isFinite))
      throw new Error(`The loss is not a number any more after step ${step}: lower the learning rate.`);
    if (performance.now() - shown > 150 || step === config.numSteps) {
      postMessage({ type: "progress", step, seconds, losses: unsent, parameters: trainer.values() });
      unsent = [];
      shown = performance.now();
    }
    await breathe();
  }
  const tokens = Array.from({ length: 10 }, () => sample(rng, trainer.values(), config));
  return { samples: tokens.map((list) => list.map((token) => alphabet[token]).join("")) };
}

const TASKS = { truth, row, estimate, own };

onmessage = async ({ data }) => {
  if (data.task === "stop" || data.task === "go") {
    going = data.task === "go";
    return;
  }
  try {
    postMessage({ type: "done", result: await TASKS[data.task](data) });
  } catch (error) {
    postMessage({ type: "error", message: error.message });
  }
};
