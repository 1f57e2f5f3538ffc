// A WebAssembly module (cpp/wasm/module.cpp) as an engine: one training in an instance of its own.

import { parameterCount } from "./model.js";

export const MOST_BYTES = 2 ** 30;
export const SLOTS = { parameter: 0, firstMoment: 1, secondMoment: 2, gradient: 3 };

// A module of one function that computes f32x4.relaxed_madd: valid where relaxed SIMD is.
const RELAXED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0, 65, 1, 253, 17,
  65, 1, 253, 17, 65, 1, 253, 17, 253, 133, 2, 11,
];
// The same with i8x16.splat alone: valid where SIMD is.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
];

/** Which kinds of module run here. */
export function supported() {
  const valid = (bytes) => WebAssembly.validate(Uint8Array.from(bytes));
  return { relaxed: valid(RELAXED), simd: valid(SIMD), scalar: true, tape: true };
}

/** Bytes that a training takes, by the module's own account, which ends where its addresses do. */
export function bytesOf(module, settings) {
  const { nLayer, nEmbd, nHead, blockSize, vocabSize, batchSize } = settings;
  const row = nLayer * (20 * nEmbd + nHead * blockSize) + vocabSize;
  const least = 4 * (batchSize * blockSize * row + 4 * parameterCount(settings));
  if (least > 2 * MOST_BYTES) return least;
  return new WebAssembly.Instance(module).exports.bytes(...sizes(settings));
}

const sizes = ({ nLayer, nEmbd, nHead, blockSize, vocabSize, batchSize }) =>
  [nLayer, nEmbd, nHead, blockSize, vocabSize, batchSize];

export class Engine {
  #exports;
  #training;
  #scratch; // (count) doubles, or as many losses
  #room;

  /** As Original takes them. Throws where there is not the memory. */
  constructor(module, documents, parameters, settings) {
    this.settings = settings;
    this.count = parameters.length;
    const needed = bytesOf(module, settings);
    if (!(needed < MOST_BYTES))
      throw new Error(`This takes ${(needed / 2 ** 30).toFixed(1)} GiB; make the model smaller.`);
    const e = (this.#exports = new WebAssembly.Instance(module).exports);
    e._initialize?.();
    let length = 0;
    for (const document of documents) length += document.length;
    const tokensAt = this.#allocate(4 * length), offsetsAt = this.#allocate(8 * (documents.length + 1));
    const tokens = new Int32Array(e.memory.buffer, tokensAt, length);
    const offsets = new BigInt64Array(e.memory.buffer, offsetsAt, documents.length + 1);
    let at = 0;
    documents.forEach((document, d) => {
      tokens.set(document, at);
      at += document.length;
      offsets[d + 1] = BigInt(at);
    });
    this.#room = Math.max(this.count, 1000);
    this.#scratch = this.#allocate(8 * this.#room);
    this.#training = e.create(...sizes(settings), settings.learningRate, settings.numSteps, tokensAt,
      offsetsAt, documents.length);
    if (this.#training === 0) throw new Error("The browser has no more memory.");
    this.write(SLOTS.parameter, parameters);
  }

  #allocate(bytes) {
    const at = this.#exports.allocate(bytes);
    if (at === 0) throw new Error("The browser has no more memory.");
    return at;
  }

  // Anew each time: memory that has grown is another buffer.
  #doubles(count) {
    return new Float64Array(this.#exports.memory.buffer, this.#scratch, count);
  }

  write(slot, natural) {
    this.#doubles(this.count).set(natural);
    this.#exports.write(this.#training, slot, this.#scratch);
  }
  read(slot) {
    this.#exports.read(this.#training, slot, this.#scratch);
    return this.#doubles(this.count).slice();
  }
  values() {
    return this.read(SLOTS.parameter);
  }
  /** Losses (n,), each before its update. */
  steps(n) {
    const losses = new Float64Array(n);
    for (let done = 0; done < n; ) {
      const some = Math.min(n - done, this.#room);
      this.#exports.steps(this.#training, some, this.#scratch);
      losses.set(this.#doubles(some), done);
      done += some;
    }
    return losses;
  }
  /** Goes on as after so many steps. */
  seek(step) {
    this.#exports.seek(this.#training, step);
  }
  /** The loss of the next batch; gradients() then has its gradients. */
  gradient() {
    return this.#exports.gradient(this.#training);
  }
  gradients() {
    return this.read(SLOTS.gradient);
  }
  /** GFLOP/s of multiply-adds alone: the most that this module can do here. */
  peak() {
    let best = 0;
    for (let rounds = 1e5, run = 0; run < 5; ) {
      const start = performance.now(), flops = this.#exports.fma_loop(rounds);
      const seconds = (performance.now() - start) / 1000;
      if (seconds < 0.01) {
        rounds *= 2;
        continue;
      }
      best = Math.max(best, flops / seconds / 1e9);
      run++;
    }
    return best;
  }
}
