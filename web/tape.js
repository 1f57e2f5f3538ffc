// The same autograd as JavaScript engines like it: a scalar is its number on a tape of typed arrays,
// so that nothing is allocated, and backward is one loop from the end to the front.

export class Tape {
  /**
   * As Original; see there.
   */
  constructor(documents, parameters, settings, tensors) {
    Object.assign(this, settings);
    this.documents = documents;
    this.count = parameters.length;
    this.at = Object.fromEntries(tensors.map(({ name, offset }) => [name, offset]));
    this.m = new Float64Array(this.count);
    this.v = new Float64Array(this.count);
    this.stepsDone = 0;
    // Scalar 0 is the operand that is not there; then come the parameters.
    this.first = this.count + 1;
    this.#grow(4 * this.first);
    this.data.set(parameters, 1);
    this.size = this.first;
  }

  #grow(room) {
    const grown = (type, old) => {
      const array = new type(room);
      if (old) array.set(old);
      return array;
    };
    for (const name of ["data", "grad", "slopeA", "slopeB"])
      this[name] = grown(Float64Array, this[name]);
    for (const name of ["a", "b"]) this[name] = grown(Int32Array, this[name]);
  }

  // The scalar x of operands a and b, with d(x)/da and d(x)/db; returns its number.
  #record(x, a, slopeA, b, slopeB) {
    const i = this.size++;
    if (i === this.data.length) this.#grow(2 * i);
    this.data[i] = x;
    this.grad[i] = 0;
    this.a[i] = a;
    this.slopeA[i] = slopeA;
    this.b[i] = b;
    this.slopeB[i] = slopeB;
    return i;
  }
  #plus(a, b) {
    return this.#record(this.data[a] + this.data[b], a, 1, b, 1);
  }
  #times(a, b) {
    return this.#record(this.data[a] * this.data[b], a, this.data[b], b, this.data[a]);
  }
  #scaled(a, x) {
    return this.#record(this.data[a] * x, a, x, 0, 0);
  }
  #shifted(a, x) {
    return this.#record(this.data[a] + x, a, 1, 0, 0);
  }
  #power(a, n) {
    const x = this.data[a];
    return this.#record(x ** n, a, n * x ** (n - 1), 0, 0);
  }
  #exp(a) {
    const e = Math.exp(this.data[a]);
    return this.#record(e, a, e, 0, 0);
  }
  #log(a) {
    return this.#record(Math.log(this.data[a]), a, 1 / this.data[a], 0, 0);
  }
  #relu(a) {
    const x = this.data[a];
    return this.#record(x > 0 ? x : 0, a, x > 0 ? 1 : 0, 0, 0);
  }

  #backward(from, seed) {
    const { data, grad, a, b, slopeA, slopeB } = this;
    grad[from] = seed;
    for (let i = from; i >= this.first; i--) {
      const g = grad[i];
      if (g === 0) continue;
      grad[a[i]] += slopeA[i] * g;
      grad[b[i]] += slopeB[i] * g;
    }
  }

  #sum(list) {
    let total = list[0];
    for (let i = 1; i < list.length; i++) total = this.#plus(total, list[i]);
    return total;
  }
  #dot(a, b) {
    let total = this.#times(a[0], b[0]);
    for (let i = 1; i < a.length; i++) total = this.#plus(total, this.#times(a[i], b[i]));
    return total;
  }
  // x (in,) times the matrix at `offset` (out, in) -> (out,)
  #linear(x, offset, out) {
    const y = new Array(out), ins = x.length;
    for (let o = 0, w = offset + 1; o < out; o++, w += ins) {
      let total = this.#times(w, x[0]);
      for (let i = 1; i < ins; i++) total = this.#plus(total, this.#times(w + i, x[i]));
      y[o] = total;
    }
    return y;
  }
  #add(x, y) {
    return x.map((v, i) => this.#plus(v, y[i]));
  }
  #rmsnorm(x) {
    const mean = this.#scaled(this.#dot(x, x), 1 / x.length);
    const scale = this.#power(this.#shifted(mean, 1e-5), -0.5);
    return x.map((v) => this.#times(v, scale));
  }
  #softmax(logits) {
    let largest = -Infinity;
    for (const v of logits) largest = Math.max(largest, this.data[v]);
    const exps = logits.map((v) => this.#exp(this.#shifted(v, -largest)));
    const inverse = this.#power(this.#sum(exps), -1);
    return exps.map((e) => this.#times(e, inverse));
  }
  #row(offset, row) {
    return Array.from({ length: this.nEmbd }, (_, i) => 1 + offset + row * this.nEmbd + i);
  }

  #forward(token, position, keys, values) {
    const at = this.at, C = this.nEmbd, headDim = C / this.nHead;
    let x = this.#rmsnorm(this.#add(this.#row(at.wte, token), this.#row(at.wpe, position)));
    for (let l = 0; l < this.nLayer; l++) {
      const a = this.#rmsnorm(x);
      const q = this.#linear(a, at[`layer${l}.attn_wq`], C);
      keys[l].push(this.#linear(a, at[`layer${l}.attn_wk`], C));
      values[l].push(this.#linear(a, at[`layer${l}.attn_wv`], C));
      const attended = [];
      for (let start = 0; start < C; start += headDim) {
        const head = (row) => row.slice(start, start + headDim), qHead = head(q);
        const weights = this.#softmax(keys[l].map((k) =>
          this.#scaled(this.#dot(qHead, head(k)), 1 / Math.sqrt(headDim))));
        for (let j = start; j < start + headDim; j++)
          attended.push(this.#dot(weights, values[l].map((v) => v[j])));
      }
      x = this.#add(this.#linear(attended, at[`layer${l}.attn_wo`], C), x);
      const hidden = this.#linear(this.#rmsnorm(x), at[`layer${l}.mlp_fc1`], 4 * C);
      const active = hidden.map((v) => this.#relu(v));
      x = this.#add(this.#linear(active, at[`layer${l}.mlp_fc2`], C), x);
    }
    return this.#linear(x, at.lm_head, this.vocabSize);
  }

  /** Mean loss of the next batch, and its gradients. */
  gradient() {
    this.grad.fill(0, 0, this.first);
    let total = 0;
    for (let i = 0; i < this.batchSize; i++) {
      const d = (this.stepsDone * this.batchSize + i) % this.documents.length;
      const document = this.documents[d], n = Math.min(this.blockSize, document.length - 1);
      const keys = [], values = [], losses = [];
      for (let l = 0; l < this.nLayer; l++) {
        keys.push([]);
        values.push([]);
      }
      this.size = this.first;
      for (let t = 0; t < n; t++) {
        const logits = this.#forward(document[t], t, keys, values);
        losses.push(this.#scaled(this.#log(this.#softmax(logits)[document[t + 1]]), -1));
      }
      const loss = this.#scaled(this.#sum(losses), 1 / n);
      this.#backward(loss, 1 / this.batchSize);
      total += this.data[loss];
    }
    return total / this.batchSize;
  }

  step() {
    const loss = this.gradient(), { data, grad, m, v } = this, step = this.stepsDone;
    const beta1 = 0.85, beta2 = 0.99, rate = this.learningRate * (1 - step / this.numSteps);
    const correction1 = 1 - beta1 ** (step + 1), correction2 = 1 - beta2 ** (step + 1);
    for (let i = 0; i < this.count; i++) {
      const g = grad[i + 1];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      data[i + 1] -= (rate * (m[i] / correction1)) / (Math.sqrt(v[i] / correction2) + 1e-8);
    }
    this.stepsDone = step + 1;
    return loss;
  }

  values() {
    return this.data.slice(1, this.first);
  }
  gradients() {
    return this.grad.slice(1, this.first);
  }
}
