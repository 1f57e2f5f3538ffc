// microgpt in JavaScript: scalar autograd, the GPT, Adam and sampling, in doubles. Line by line what
// pymicrogpt/reference.py does, which has the same losses and draws the same names.

/** A scalar that remembers its operands and the derivative by each: what autograd needs. */
export class Value {
  static #walks = 0;
  #walk = 0; // the last walk of backward() that came by

  constructor(data, a = null, slopeA = 0, b = null, slopeB = 0) {
    this.data = data;
    this.grad = 0; // d(output)/d(this), left by output.backward()
    this.a = a; // operands, and d(this)/d(operand) for each
    this.slopeA = slopeA;
    this.b = b;
    this.slopeB = slopeB;
  }
  plus(other) {
    return new Value(this.data + other.data, this, 1, other, 1);
  }
  times(other) {
    return new Value(this.data * other.data, this, other.data, other, this.data);
  }
  scaled(factor) {
    return new Value(this.data * factor, this, factor);
  }
  shifted(by) {
    return new Value(this.data + by, this, 1);
  }
  power(n) {
    return new Value(this.data ** n, this, n * this.data ** (n - 1));
  }
  exp() {
    const result = Math.exp(this.data);
    return new Value(result, this, result);
  }
  log() {
    return new Value(Math.log(this.data), this, 1 / this.data);
  }
  relu() {
    return new Value(Math.max(0, this.data), this, this.data > 0 ? 1 : 0);
  }

  /** Adds grad * d(this)/d(v) to v.grad, for every v that this was computed from. */
  backward(grad = 1) {
    const order = [], walk = ++Value.#walks; // operands before results
    const stack = [this]; // instead of recursion: any depth
    while (stack.length > 0) {
      const v = stack.pop();
      if (v === null) { // everything below the value under the mark is in order
        order.push(stack.pop());
      } else if (v.#walk !== walk) {
        v.#walk = walk;
        stack.push(v, null);
        if (v.a !== null) stack.push(v.a);
        if (v.b !== null) stack.push(v.b);
      }
    }
    this.grad += grad;
    for (const v of order.reverse()) {
      if (v.a !== null) v.a.grad += v.slopeA * v.grad;
      if (v.b !== null) v.b.grad += v.slopeB * v.grad;
    }
  }
}

const sum = (values) => values.reduce((total, v) => total.plus(v));
const add = (a, b) => a.map((v, i) => v.plus(b[i]));
const dot = (a, b) => sum(a.map((v, i) => v.times(b[i])));

/** x (in,), w (out, in) -> (out,) */
const linear = (x, w) => w.map((row) => dot(row, x));

/** logits (n,) -> probabilities (n,); the maximum is subtracted as a constant. */
function softmax(logits) {
  const largest = Math.max(...logits.map((v) => v.data));
  const exps = logits.map((v) => v.shifted(-largest).exp());
  const inverse = sum(exps).power(-1);
  return exps.map((e) => e.times(inverse));
}

/** x (n,) -> x / sqrt(mean(x^2) + 1e-5), without a gain. */
function rmsnorm(x) {
  const scale = dot(x, x).scaled(1 / x.length).shifted(1e-5).power(-0.5);
  return x.map((v) => v.times(scale));
}

export class Original {
  /**
   * @param {number[][]} documents token ids, each with BOS at both ends
   * @param {Float64Array} parameters of all tensors, see shapes() in model.js
   * @param {object} settings the sizes of the model, batchSize, learningRate, numSteps
   * @param {{name: string, rows: number, cols: number, offset: number}[]} tensors
   */
  constructor(documents, parameters, settings, tensors) {
    Object.assign(this, settings); // nLayer, nEmbd, nHead, blockSize, vocabSize, ...
    this.documents = documents;
    this.params = Array.from(parameters, (x) => new Value(x));
    this.tensors = {};
    for (const { name, rows, cols, offset } of tensors)
      this.tensors[name] = Array.from({ length: rows }, (_, r) =>
        this.params.slice(offset + r * cols, offset + (r + 1) * cols));
    this.m = this.params.map(() => 0); // Adam's moments, one per parameter
    this.v = this.params.map(() => 0);
    this.stepsDone = 0;
  }

  /** Logits (V,) after one more token. keys and values: per layer, the rows (C,) so far. */
  forward(token, position, keys, values) {
    const t = this.tensors, headDim = this.nEmbd / this.nHead;
    let x = rmsnorm(add(t.wte[token], t.wpe[position]));
    for (let i = 0; i < this.nLayer; i++) {
      const a = rmsnorm(x);
      const q = linear(a, t[`layer${i}.attn_wq`]);
      keys[i].push(linear(a, t[`layer${i}.attn_wk`]));
      values[i].push(linear(a, t[`layer${i}.attn_wv`]));
      const attended = [];
      for (let start = 0; start < this.nEmbd; start += headDim) {
        const head = (row) => row.slice(start, start + headDim);
        const scores = keys[i].map((k) => dot(head(q), head(k)).scaled(1 / Math.sqrt(headDim)));
        const weights = softmax(scores);
        for (let j = start; j < start + headDim; j++)
          attended.push(dot(weights, values[i].map((v) => v[j])));
      }
      x = add(linear(attended, t[`layer${i}.attn_wo`]), x);
      const hidden = linear(rmsnorm(x), t[`layer${i}.mlp_fc1`]).map((v) => v.relu());
      x = add(linear(hidden, t[`layer${i}.mlp_fc2`]), x);
    }
    return linear(x, t.lm_head);
  }

  /** Empty lists of keys, or of values: one per layer. */
  emptyCache() {
    return Array.from({ length: this.nLayer }, () => []);
  }

  /** Mean over the positions of -log p(next token), a Value. */
  documentLoss(document) {
    const keys = this.emptyCache(), values = this.emptyCache(), losses = [];
    const n = Math.min(this.blockSize, document.length - 1);
    for (let position = 0; position < n; position++) {
      const logits = this.forward(document[position], position, keys, values);
      losses.push(softmax(logits)[document[position + 1]].log().scaled(-1));
    }
    return sum(losses).scaled(1 / n);
  }

  /** Mean loss of the next batch; its gradients are left in the grad of each parameter. */
  gradient() {
    for (const p of this.params) p.grad = 0;
    let total = 0;
    for (let i = 0; i < this.batchSize; i++) {
      const d = (this.stepsDone * this.batchSize + i) % this.documents.length;
      const loss = this.documentLoss(this.documents[d]);
      loss.backward(1 / this.batchSize);
      total += loss.data;
    }
    return total / this.batchSize;
  }

  /** Adam, with the gradients that gradient() left. */
  update() {
    const step = this.stepsDone, beta1 = 0.85, beta2 = 0.99, eps = 1e-8;
    const rate = this.learningRate * (1 - step / this.numSteps);
    const correction1 = 1 - beta1 ** (step + 1), correction2 = 1 - beta2 ** (step + 1);
    this.params.forEach((p, i) => {
      this.m[i] = beta1 * this.m[i] + (1 - beta1) * p.grad;
      this.v[i] = beta2 * this.v[i] + (1 - beta2) * p.grad ** 2;
      p.data -= (rate * (this.m[i] / correction1)) / (Math.sqrt(this.v[i] / correction2) + eps);
    });
    this.stepsDone = step + 1;
  }

  /** One training step; returns the loss before the update. */
  step() {
    const loss = this.gradient();
    this.update();
    return loss;
  }

  /** Token ids of one document, without BOS. */
  sample(rng, temperature = 0.5) {
    const keys = this.emptyCache(), values = this.emptyCache(), tokens = [];
    const bos = this.vocabSize - 1;
    let token = bos;
    for (let position = 0; position < this.blockSize; position++) {
      const logits = this.forward(token, position, keys, values);
      const weights = softmax(logits.map((v) => v.scaled(1 / temperature))).map((p) => p.data);
      token = rng.choice(weights);
      if (token === bos) break;
      tokens.push(token);
    }
    return tokens;
  }

  values() {
    return Float64Array.from(this.params, (p) => p.data);
  }
  gradients() {
    return Float64Array.from(this.params, (p) => p.grad);
  }
}
