// CPython's random.Random(seed): the Mersenne Twister (Matsumoto and Nishimura, 1998) and what the
// original draws with it, number for number.

const N = 624, M = 397;

export class Random {
  #state = new Uint32Array(N);
  #index = N;
  #nextGauss = null;

  /** @param {number} seed a whole number from 0 to 2^53 - 1 */
  constructor(seed) {
    // init_by_array of the seed in words of 32 bits
    const key = seed < 2 ** 32 ? [seed] : [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
    const s = this.#state;
    s[0] = 19650218;
    for (let i = 1; i < N; i++) s[i] = Math.imul(1812433253, s[i - 1] ^ (s[i - 1] >>> 30)) + i;
    let i = 1;
    const next = () => {
      if (++i === N) {
        s[0] = s[N - 1];
        i = 1;
      }
    };
    const mixed = (factor) => s[i] ^ Math.imul(s[i - 1] ^ (s[i - 1] >>> 30), factor);
    for (let k = 0; k < N; k++) {
      s[i] = mixed(1664525) + key[k % key.length] + (k % key.length);
      next();
    }
    for (let k = 0; k < N - 1; k++) {
      s[i] = mixed(1566083941) - i;
      next();
    }
    s[0] = 0x80000000;
  }

  #bits32() {
    const s = this.#state;
    if (this.#index === N) {
      for (let i = 0; i < N; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % N] & 0x7fffffff);
        s[i] = s[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#index = 0;
    }
    let y = s[this.#index++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number in [0, 1) of 53 bits. */
  random() {
    const high = this.#bits32() >>> 5, low = this.#bits32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** A whole number from 0 to n - 1, n < 2^32. */
  #below(n) {
    const bits = 32 - Math.clz32(n);
    let r;
    do r = this.#bits32() >>> (32 - bits);
    while (r >= n);
    return r;
  }

  shuffle(list) {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.#below(i + 1);
      [list[i], list[j]] = [list[j], list[i]];
    }
  }

  gauss(mean, deviation) {
    let z = this.#nextGauss;
    this.#nextGauss = null;
    if (z === null) {
      const angle = this.random() * 2 * Math.PI;
      const radius = Math.sqrt(-2 * Math.log(1 - this.random()));
      z = Math.cos(angle) * radius;
      this.#nextGauss = Math.sin(angle) * radius;
    }
    return mean + z * deviation;
  }

  /** An index, drawn by its weight: choices(range(len(weights)), weights)[0]. */
  choice(weights) {
    const sums = [];
    let total = 0;
    for (const weight of weights) sums.push((total += weight));
    const target = this.random() * total;
    let first = 0, last = sums.length - 1;
    while (first < last) {
      const middle = (first + last) >> 1;
      if (target < sums[middle]) last = middle;
      else first = middle + 1;
    }
    return first;
  }
}
