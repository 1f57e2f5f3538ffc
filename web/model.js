// The shape of a model, its first parameters, and its forward pass on one document: what sampling and
// the pictures need. The names of the tensors are those of weight files.

export const DEFAULTS = {
  nLayer: 1, nEmbd: 16, nHead: 4, blockSize: 16, batchSize: 1, learningRate: 0.01, numSteps: 1000,
  seed: 42,
};

/** Every tensor, (rows, cols) = (out, in), in the order in which the original draws them. */
export function shapes({ nLayer, nEmbd, blockSize, vocabSize }) {
  const tensors = [];
  let offset = 0;
  const add = (name, rows, cols) => {
    tensors.push({ name, rows, cols, offset });
    offset += rows * cols;
  };
  add("wte", vocabSize, nEmbd);
  add("wpe", blockSize, nEmbd);
  add("lm_head", vocabSize, nEmbd);
  for (let i = 0; i < nLayer; i++) {
    for (const name of ["attn_wq", "attn_wk", "attn_wv", "attn_wo"])
      add(`layer${i}.${name}`, nEmbd, nEmbd);
    add(`layer${i}.mlp_fc1`, 4 * nEmbd, nEmbd);
    add(`layer${i}.mlp_fc2`, nEmbd, 4 * nEmbd);
  }
  return tensors;
}

export function parameterCount({ nLayer, nEmbd, blockSize, vocabSize }) {
  return (2 * vocabSize + blockSize) * nEmbd + 12 * nLayer * nEmbd * nEmbd;
}

/**
 * Floating-point operations of a document of n positions, forward and backward: multiply-adds count
 * twice, and backward is twice forward.
 */
export function flopsOfDocument({ nLayer, nEmbd, vocabSize }, n) {
  const matrices = 12 * nLayer * nEmbd * nEmbd + vocabSize * nEmbd;
  const attention = 2 * nLayer * nEmbd * ((n + 1) / 2); // scores and values, of half the keys
  return 6 * n * (matrices + attention);
}

/** What is wrong with settings that a reader gave, by name, each in a sentence. */
export function problemsOf(settings) {
  const problems = {};
  const whole = (name, what, most) => {
    const x = settings[name];
    if (!Number.isInteger(x) || x < 1 || x > most)
      problems[name] = `${what} must be a whole number from 1 to ${most.toLocaleString("en")}.`;
  };
  whole("nLayer", "Layers", 64);
  whole("nEmbd", "The width", 1024);
  whole("nHead", "Heads", 1024);
  whole("blockSize", "The context", 1024);
  whole("batchSize", "The batch", 4096);
  whole("numSteps", "Steps", 10_000_000);
  if (!problems.nEmbd && !problems.nHead && settings.nEmbd % settings.nHead !== 0)
    problems.nEmbd = `The heads must divide the width: ${settings.nHead} does not divide ` +
      `${settings.nEmbd}.`;
  if (!(settings.learningRate > 0 && settings.learningRate <= 10))
    problems.learningRate = "The learning rate must be a number above 0, at most 10.";
  return problems;
}

/** The first values of the parameters, from N(0, 0.08^2), drawn element by element. */
export function drawParameters(rng, config) {
  const parameters = new Float64Array(parameterCount(config));
  for (let i = 0; i < parameters.length; i++) parameters[i] = rng.gauss(0, 0.08);
  return parameters;
}

// w (out, in) at `offset` of the parameters, times x (in,)
function multiply(parameters, offset, out, x) {
  const y = new Float64Array(out), ins = x.length;
  for (let o = 0, w = offset; o < out; o++) {
    let sum = 0;
    for (let i = 0; i < ins; i++, w++) sum += parameters[w] * x[i];
    y[o] = sum;
  }
  return y;
}

function normalize(x) {
  let squares = 0;
  for (const value of x) squares += value * value;
  const scale = (squares / x.length + 1e-5) ** -0.5;
  return x.map((value) => value * scale);
}

export function softmaxOf(logits, temperature = 1) {
  const largest = Math.max(...logits);
  const exps = logits.map((x) => Math.exp((x - largest) / temperature));
  let total = 0;
  for (const e of exps) total += e;
  return exps.map((e) => e / total);
}

/** One document after the other token by token, with the keys and values so far. */
export class Reader {
  constructor(parameters, config) {
    this.parameters = parameters;
    this.config = config;
    this.at = Object.fromEntries(shapes(config).map(({ name, offset }) => [name, offset]));
    this.position = 0;
    this.keys = Array.from({ length: config.nLayer }, () => []);
    this.values = Array.from({ length: config.nLayer }, () => []);
    this.attention = []; // of the last token: [layer][head] weights (position + 1,)
    this.hidden = []; // of the last token: [layer] relu(fc1 ...) (4C,)
  }

  /** Logits (V,) after one more token; there is room for blockSize of them. */
  next(token) {
    const { nLayer, nEmbd: C, nHead, vocabSize } = this.config, { at, parameters: w } = this;
    const headDim = C / nHead;
    let x = new Float64Array(C);
    for (let i = 0; i < C; i++)
      x[i] = w[at.wte + token * C + i] + w[at.wpe + this.position * C + i];
    x = normalize(x);
    this.attention = [];
    this.hidden = [];
    for (let l = 0; l < nLayer; l++) {
      const matrix = (name, out, input) => multiply(w, at[`layer${l}.${name}`], out, input);
      const a = normalize(x), q = matrix("attn_wq", C, a), attended = new Float64Array(C);
      this.keys[l].push(matrix("attn_wk", C, a));
      this.values[l].push(matrix("attn_wv", C, a));
      const heads = [];
      for (let start = 0; start < C; start += headDim) {
        const scores = this.keys[l].map((k) => {
          let sum = 0;
          for (let j = start; j < start + headDim; j++) sum += q[j] * k[j];
          return sum / Math.sqrt(headDim);
        });
        const weights = softmaxOf(scores);
        this.values[l].forEach((v, s) => {
          for (let j = start; j < start + headDim; j++) attended[j] += weights[s] * v[j];
        });
        heads.push(weights);
      }
      this.attention.push(heads);
      const o = matrix("attn_wo", C, attended);
      x = x.map((value, i) => value + o[i]);
      const hidden = matrix("mlp_fc1", 4 * C, normalize(x)).map((value) => Math.max(0, value));
      this.hidden.push(hidden);
      const m = matrix("mlp_fc2", C, hidden);
      x = x.map((value, i) => value + m[i]);
    }
    this.position++;
    return multiply(w, at.lm_head, vocabSize, x);
  }
}

/** Probabilities (V,) at a temperature, of the topK most likely tokens only (0: of all). */
export function probabilities(logits, temperature, topK = 0) {
  const p = softmaxOf(logits, temperature);
  if (topK > 0 && topK < p.length) {
    const least = Float64Array.from(p).sort()[p.length - topK];
    let total = 0;
    for (const x of p) total += x >= least ? x : 0;
    return p.map((x) => (x >= least ? x / total : 0));
  }
  return p;
}

/** Token ids of one document that begins with the prompt's, without BOS, at most blockSize. */
export function sample(rng, parameters, config, { temperature = 0.5, topK = 0, prompt = [] } = {}) {
  const reader = new Reader(parameters, config), bos = config.vocabSize - 1;
  const tokens = [...prompt];
  let logits = reader.next(bos);
  for (const token of tokens) if (reader.position < config.blockSize) logits = reader.next(token);
  while (tokens.length < config.blockSize) {
    const token = rng.choice(probabilities(logits, temperature, topK));
    if (token === bos) break;
    tokens.push(token);
    if (tokens.length < config.blockSize) logits = reader.next(token);
  }
  return tokens;
}
