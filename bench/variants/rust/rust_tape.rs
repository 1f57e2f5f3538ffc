//! The scalar autograd of microgpt as a tape, in f32: the algorithm of cpp/tape.h in Rust.
//!
//! One node per scalar operation, recorded in forward order into an arena that every document
//! reuses; backward is one sweep from the loss to the front. Speaks the protocol of
//! bench/problem.py. Built without crates (RUSTC_VERSION is what it reports as its compiler):
//!
//!     RUSTC_VERSION="$(rustc --version)" rustc --edition 2021 -C opt-level=3 \
//!         -C target-cpu=native -C panic=abort rust_tape.rs

use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

type Var = u32; // a scalar, by the position of its node on the tape

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Leaf,
    Add,
    Mul,
    MulAdd,
    Reciprocal,
    Rsqrt,
    Exp,
    Log,
    Relu,
}

/// A node is a value, a gradient, an opcode and up to two parents. Local derivatives are
/// recomputed from the values. A `MulAdd` has a third parent, the node just before it: one scalar
/// multiplication and one scalar addition, so a sum of products is a run of them, in which
/// `backward` carries the gradient of the running sum in a register. No unsafe: without its bounds
/// checks the tape is only 2 to 4 % faster.
#[derive(Default)]
struct Tape {
    value: Vec<f32>,
    gradient: Vec<f32>,
    parents: Vec<[Var; 2]>,
    op: Vec<Op>,
    size: usize,
}

impl Tape {
    fn value(&self, x: Var) -> f32 {
        self.value[x as usize]
    }

    fn leaf(&mut self, x: f32) -> Var {
        self.record(Op::Leaf, x, [0, 0])
    }
    fn add(&mut self, a: Var, b: Var) -> Var {
        self.record(Op::Add, self.value(a) + self.value(b), [a, b])
    }
    fn mul(&mut self, a: Var, b: Var) -> Var {
        self.record(Op::Mul, self.value(a) * self.value(b), [a, b])
    }
    fn reciprocal(&mut self, a: Var) -> Var {
        self.record(Op::Reciprocal, 1.0 / self.value(a), [a, 0])
    }
    fn rsqrt(&mut self, a: Var) -> Var {
        self.record(Op::Rsqrt, 1.0 / self.value(a).sqrt(), [a, 0])
    }
    /// e^(a - shift) with a constant shift
    fn exp(&mut self, a: Var, shift: f32) -> Var {
        self.record(Op::Exp, (self.value(a) - shift).exp(), [a, 0])
    }
    fn log(&mut self, a: Var) -> Var {
        self.record(Op::Log, self.value(a).ln(), [a, 0])
    }
    fn relu(&mut self, a: Var) -> Var {
        self.record(Op::Relu, self.value(a).max(0.0), [a, 0])
    }

    /// Sum of the products of at least one pair: a `Mul`, then a `MulAdd` for each other pair.
    fn dot(&mut self, mut pairs: impl ExactSizeIterator<Item = [Var; 2]>) -> Var {
        let n = pairs.len();
        self.reserve(n);
        let [a, b] = pairs.next().expect("a pair");
        let first = self.mul(a, b) as usize;
        let end = first + n;
        let (operand, value) = self.value.split_at_mut(first + 1);
        let mut sum = operand[first];
        let nodes = value.iter_mut().zip(&mut self.parents[first + 1..end]);
        for ((value, parents), [x, y]) in nodes.zip(pairs) {
            sum += operand[x as usize] * operand[y as usize];
            *value = sum;
            *parents = [x, y];
        }
        self.op[first + 1..end].fill(Op::MulAdd);
        self.size = end;
        (end - 1) as Var
    }

    /// Adds seed * d(root)/d(x) to the gradient of every x before `first` (> 0).
    fn backward(&mut self, root: Var, seed: f32, first: usize) {
        let root = root as usize;
        let (value, parents, op) = (&self.value, &self.parents, &self.op);
        let gradient = &mut self.gradient;
        gradient[first..root].fill(0.0);
        gradient[root] = seed;
        let mut i = root;
        while i >= first {
            let mut g = gradient[i];
            if g == 0.0 {
                // all of what an inactive ReLU is made of
                i -= 1;
                continue;
            }
            let [a, b] = parents[i].map(|x| x as usize);
            match op[i] {
                Op::Leaf => {}
                Op::Add => {
                    gradient[a] += g;
                    gradient[b] += g;
                }
                Op::Mul => {
                    gradient[a] += g * value[b];
                    gradient[b] += g * value[a];
                }
                Op::MulAdd => {
                    while op[i] == Op::MulAdd {
                        let [a, b] = parents[i].map(|x| x as usize);
                        gradient[a] += g * value[b];
                        gradient[b] += g * value[a];
                        i -= 1;
                        g += gradient[i];
                    }
                    gradient[i] = g;
                    continue;
                }
                Op::Reciprocal => gradient[a] -= g * value[i] * value[i],
                Op::Rsqrt => gradient[a] -= g * 0.5 * value[i] * value[i] * value[i],
                Op::Exp => gradient[a] += g * value[i],
                Op::Log => gradient[a] += g / value[a],
                Op::Relu => {
                    if value[i] > 0.0 {
                        gradient[a] += g;
                    }
                }
            }
            i -= 1;
        }
    }

    fn record(&mut self, op: Op, value: f32, parents: [Var; 2]) -> Var {
        self.reserve(1);
        let i = self.size;
        self.value[i] = value;
        self.parents[i] = parents;
        self.op[i] = op;
        self.size += 1;
        i as Var
    }

    fn reserve(&mut self, more: usize) {
        if self.size + more > self.value.len() {
            self.grow(self.size + more);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        if needed > Var::MAX as usize {
            fail("the tape of one document would need more than 4294967295 nodes");
        }
        let size = (2 * needed).min(Var::MAX as usize);
        self.value.resize(size, 0.0);
        self.gradient.resize(size, 0.0);
        self.parents.resize(size, [0, 0]);
        self.op.resize(size, Op::Leaf);
    }
}

/// What a problem file holds: see bench/problem.py.
struct Problem {
    n_layer: usize,
    n_embd: usize,
    n_head: usize,
    block_size: usize,
    vocab_size: usize,
    batch_size: usize,
    num_steps: usize,
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    offsets: Vec<usize>,
    tokens: Vec<usize>,
    parameters: Vec<f32>,
}

impl Problem {
    fn read(path: &str) -> Result<Problem, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("cannot read {path}: {e}"))?;
        Problem::parse(&bytes).map_err(|e| format!("{path}: {e}"))
    }

    fn parse(bytes: &[u8]) -> Result<Problem, String> {
        let mut rest = bytes;
        if take(&mut rest, 8)? != b"MGPTPROB" {
            return Err("not a problem file: it does not start with MGPTPROB".into());
        }
        let mut sizes = [0usize; 10];
        for size in &mut sizes {
            let x = i64::from_le_bytes(take_array(&mut rest)?);
            *size = i32::try_from(x)
                .ok()
                .filter(|x| *x >= 1)
                .ok_or(format!("a size of {x} in the header"))? as usize;
        }
        let [n_layer, n_embd, n_head, block_size, vocab_size, batch_size, num_steps, ..] = sizes;
        let [.., num_docs, num_tokens, num_params] = sizes;
        if n_embd % n_head != 0 {
            return Err(format!(
                "n_embd = {n_embd} is no multiple of n_head = {n_head}"
            ));
        }
        let [l, c, t, v] = [n_layer, n_embd, block_size, vocab_size].map(|x| x as u128);
        let expected = (2 * v + t) * c + 12 * l * c * c;
        if num_params as u128 != expected {
            return Err(format!(
                "{num_params} parameters where the model has {expected}"
            ));
        }

        let mut optimizer = [0.0; 4];
        for x in &mut optimizer {
            *x = f64::from_le_bytes(take_array(&mut rest)?);
        }
        let [learning_rate, beta1, beta2, eps] = optimizer;
        let offsets = take_numbers(&mut rest, num_docs + 1, i64::from_le_bytes)?;
        let tokens = take_numbers(&mut rest, num_tokens, i32::from_le_bytes)?;
        take(&mut rest, num_tokens % 2 * 4)?;
        let parameters = take_numbers(&mut rest, num_params, f64::from_le_bytes)?;
        if !rest.is_empty() {
            return Err(format!("{} bytes too many", rest.len()));
        }
        if offsets[0] != 0
            || offsets[num_docs] != num_tokens as i64
            || offsets.windows(2).any(|w| w[0] > w[1].saturating_sub(2))
        {
            return Err("offsets that do not rise from 0 to num_tokens by 2 or more".into());
        }
        if let Some(x) = tokens.iter().find(|&&x| x < 0 || x as usize >= vocab_size) {
            return Err(format!("token {x} is outside a vocabulary of {vocab_size}"));
        }
        Ok(Problem {
            n_layer,
            n_embd,
            n_head,
            block_size,
            vocab_size,
            batch_size,
            num_steps,
            learning_rate,
            beta1,
            beta2,
            eps,
            offsets: offsets.into_iter().map(|x| x as usize).collect(),
            tokens: tokens.into_iter().map(|x| x as usize).collect(),
            parameters: parameters.into_iter().map(|x| x as f32).collect(),
        })
    }

    /// The tokens of document `d`, BOS at both ends.
    fn document(&self, d: usize) -> &[usize] {
        &self.tokens[self.offsets[d]..self.offsets[d + 1]]
    }

    fn num_docs(&self) -> usize {
        self.offsets.len() - 1
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    if rest.len() < count {
        return Err("the file ends too early".into());
    }
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    Ok(head)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    Ok(take(rest, N)?.try_into().expect("N bytes"))
}

fn take_numbers<T, const N: usize>(
    rest: &mut &[u8],
    count: usize,
    convert: fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
    let bytes = take(rest, count * N)?;
    Ok(bytes
        .chunks_exact(N)
        .map(|x| convert(x.try_into().expect("N bytes")))
        .collect())
}

/// The nodes of the weights of one layer, each a matrix (out, in), row by row.
#[derive(Clone, Copy)]
struct Layer {
    wq: Var,  // (C, C)
    wk: Var,  // (C, C)
    wv: Var,  // (C, C)
    wo: Var,  // (C, C)
    fc1: Var, // (4C, C)
    fc2: Var, // (C, 4C)
}

/// The parameters are the first nodes of the tape, in the order of the file; then come a few
/// constants; then, from `first` on, the document at hand.
struct Model {
    problem: Problem,
    tape: Tape,
    layers: Vec<Layer>,
    norm_epsilon: Var,    // 1e-5
    mean: Var,            // 1 / C
    attention_scale: Var, // 1 / sqrt(D)
    first: usize,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
    keys: Vec<Var>,    // (L, T, C)
    values: Vec<Var>,  // (L, T, C)
    x: Vec<Var>,       // (C,): the residual stream
    y: Vec<Var>,       // (C,): its norm, or what is to be added to it
    query: Vec<Var>,   // (C,)
    hidden: Vec<Var>,  // (C,) or (4C,)
    weights: Vec<Var>, // (t + 1,) or (V,)
    step: usize,
}

impl Model {
    fn new(problem: Problem) -> Model {
        let (c, v, t) = (problem.n_embd, problem.vocab_size, problem.block_size);
        let count = problem.parameters.len();
        let mut tape = Tape::default();
        for &p in &problem.parameters {
            tape.leaf(p);
        }
        let layers = (0..problem.n_layer).map(|i| {
            let at = |matrices: usize| ((2 * v + t) * c + (12 * i + matrices) * c * c) as Var;
            Layer {
                wq: at(0),
                wk: at(1),
                wv: at(2),
                wo: at(3),
                fc1: at(4),
                fc2: at(8),
            }
        });
        Model {
            layers: layers.collect(),
            norm_epsilon: tape.leaf(1e-5),
            mean: tape.leaf(1.0 / c as f32),
            attention_scale: tape.leaf(1.0 / ((c / problem.n_head) as f32).sqrt()),
            first: tape.size,
            tape,
            first_moment: vec![0.0; count],
            second_moment: vec![0.0; count],
            keys: vec![0; problem.n_layer * t * c],
            values: vec![0; problem.n_layer * t * c],
            x: vec![0; c],
            y: vec![0; c],
            query: vec![0; c],
            hidden: vec![0; 4 * c],
            weights: Vec::new(),
            step: 0,
            problem,
        }
    }

    /// One training step; the loss of its batch before the update.
    fn train(&mut self) -> f64 {
        let _flush = FlushDenormals::new();
        let loss = self.gradient();
        self.update();
        self.step += 1;
        loss
    }

    /// Loss of the next batch and, in the tape, its gradient. One document's tape at a time.
    fn gradient(&mut self) -> f64 {
        let (size, docs) = (self.problem.batch_size, self.problem.num_docs());
        self.tape.gradient[..self.first].fill(0.0);
        let mut sum = 0.0;
        for i in 0..size {
            let loss = self.forward((self.step * size + i) % docs);
            sum += f64::from(self.tape.value(loss));
            self.tape.backward(loss, 1.0 / size as f32, self.first);
        }
        sum / size as f64
    }

    /// Loss of document `d`, on a fresh tape.
    fn forward(&mut self, d: usize) -> Var {
        let problem = &self.problem;
        let (c, v, head_dim) = (
            problem.n_embd,
            problem.vocab_size,
            problem.n_embd / problem.n_head,
        );
        let tokens = problem.document(d);
        let positions = problem.block_size.min(tokens.len() - 1);
        let (wte, wpe, lm_head) = (0, v * c, (v + problem.block_size) * c);
        let (x, y, hidden, weights) = (
            &mut self.x,
            &mut self.y,
            &mut self.hidden,
            &mut self.weights,
        );
        let tape = &mut self.tape;
        tape.size = self.first;
        let mut sum = None; // of log probabilities
        for t in 0..positions {
            for (i, y) in y.iter_mut().enumerate() {
                *y = tape.add((wte + tokens[t] * c + i) as Var, (wpe + t * c + i) as Var);
            }
            rmsnorm(tape, y, x, self.mean, self.norm_epsilon);
            for (l, layer) in self.layers.iter().enumerate() {
                let cache = l * problem.block_size * c..(l + 1) * problem.block_size * c;
                let keys = &mut self.keys[cache.clone()]; // (T, C)
                let values = &mut self.values[cache]; // (T, C)
                rmsnorm(tape, x, y, self.mean, self.norm_epsilon);
                linear(tape, y, layer.wq, &mut self.query);
                linear(tape, y, layer.wk, &mut keys[t * c..(t + 1) * c]);
                linear(tape, y, layer.wv, &mut values[t * c..(t + 1) * c]);
                for head in (0..c).step_by(head_dim) {
                    let q = &self.query[head..head + head_dim];
                    weights.clear();
                    for k in keys[..(t + 1) * c].chunks_exact(c) {
                        let k = &k[head..head + head_dim];
                        let score = tape.dot(q.iter().zip(k).map(|(&q, &k)| [q, k]));
                        weights.push(tape.mul(score, self.attention_scale));
                    }
                    softmax(tape, weights);
                    for i in head..head + head_dim {
                        let column = values[i..].iter().step_by(c);
                        y[i] = tape.dot(weights.iter().zip(column).map(|(&w, &v)| [w, v]));
                    }
                }
                linear(tape, y, layer.wo, &mut hidden[..c]);
                add_to(tape, x, &hidden[..c]);
                rmsnorm(tape, x, y, self.mean, self.norm_epsilon);
                linear(tape, y, layer.fc1, hidden);
                for h in hidden.iter_mut() {
                    *h = tape.relu(*h);
                }
                linear(tape, hidden, layer.fc2, y);
                add_to(tape, x, y);
            }
            weights.resize(v, 0);
            linear(tape, x, lm_head as Var, weights);
            let log_probability = log_softmax(tape, weights, tokens[t + 1]);
            sum = Some(match sum {
                None => log_probability,
                Some(sum) => tape.add(sum, log_probability),
            });
        }
        let scale = tape.leaf(-1.0 / positions as f32);
        tape.mul(sum.expect("a document has a position"), scale)
    }

    /// Adam.
    fn update(&mut self) {
        let p = &self.problem;
        let rate = p.learning_rate * (1.0 - self.step as f64 / p.num_steps as f64);
        let power = self.step as f64 + 1.0;
        let rate = (rate / (1.0 - p.beta1.powf(power))) as f32;
        let scale = (1.0 / (1.0 - p.beta2.powf(power))) as f32;
        let (beta1, rest1) = (p.beta1 as f32, (1.0 - p.beta1) as f32);
        let (beta2, rest2) = (p.beta2 as f32, (1.0 - p.beta2) as f32);
        let eps = p.eps as f32;
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        let parameters = self.tape.value.iter_mut().zip(&self.tape.gradient);
        for ((m, v), (p, g)) in moments.zip(parameters) {
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * g * g;
            *p -= rate * *m / ((*v * scale).sqrt() + eps);
        }
    }
}

/// y = W x, with W (|y|, |x|) at `weight`
fn linear(tape: &mut Tape, x: &[Var], weight: Var, y: &mut [Var]) {
    let n = x.len() as Var;
    for (row, y) in (weight..).step_by(x.len()).zip(y) {
        *y = tape.dot((row..row + n).zip(x).map(|(w, &x)| [w, x]));
    }
}

/// y = x (mean(x^2) + 1e-5)^-1/2
fn rmsnorm(tape: &mut Tape, x: &[Var], y: &mut [Var], mean: Var, epsilon: Var) {
    let squares = tape.dot(x.iter().map(|&x| [x, x]));
    let mean_square = tape.mul(squares, mean);
    let shifted = tape.add(mean_square, epsilon);
    let scale = tape.rsqrt(shifted);
    for (y, &x) in y.iter_mut().zip(x) {
        *y = tape.mul(x, scale);
    }
}

/// In place; the maximum, which is subtracted as a plain number as in the original, and the sum of
/// the exponentials.
fn softmax(tape: &mut Tape, x: &mut [Var]) -> (f32, Var) {
    let maximum = x
        .iter()
        .map(|&x| tape.value(x))
        .fold(f32::NEG_INFINITY, f32::max);
    for x in x.iter_mut() {
        *x = tape.exp(*x, maximum);
    }
    let mut total = x[0];
    for &x in &x[1..] {
        total = tape.add(total, x);
    }
    let scale = tape.reciprocal(total);
    for x in x {
        *x = tape.mul(*x, scale);
    }
    (maximum, total)
}

/// log softmax(x)[target], as the original takes it, or as x - max - log sum e^(x - max) where the
/// probability is too small for a float. x becomes the probabilities.
fn log_softmax(tape: &mut Tape, x: &mut [Var], target: usize) -> Var {
    let logit = x[target];
    let (maximum, total) = softmax(tape, x);
    if tape.value(x[target]) >= f32::MIN_POSITIVE {
        return tape.log(x[target]);
    }
    let (constant, minus_one) = (tape.leaf(-maximum), tape.leaf(-1.0));
    let shifted = tape.add(logit, constant);
    let log_total = tape.log(total);
    let negated = tape.mul(log_total, minus_one);
    tape.add(shifted, negated)
}

/// x += y
fn add_to(tape: &mut Tape, x: &mut [Var], y: &[Var]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x = tape.add(*x, y);
    }
}

/// Shortest decimal that reads back the same; JSON has no infinities and no NaN.
/// Flushes denormal numbers to zero while it lives, as the C++ engines do: Adam's first moments of
/// hidden units that have fallen silent would slow every step down.
struct FlushDenormals {
    #[allow(dead_code)] // where the architecture is another
    saved: u64,
}

impl FlushDenormals {
    fn new() -> FlushDenormals {
        let saved = FlushDenormals::control();
        #[cfg(target_arch = "x86_64")]
        FlushDenormals::set(saved | 0x8040);
        #[cfg(target_arch = "aarch64")]
        FlushDenormals::set(saved | 1 << 24);
        FlushDenormals { saved }
    }

    #[cfg(target_arch = "x86_64")]
    fn control() -> u64 {
        let mut word: u32 = 0;
        // SAFETY: writes four bytes to `word`.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut word) };
        u64::from(word)
    }
    #[cfg(target_arch = "x86_64")]
    fn set(control: u64) {
        let word = control as u32;
        // SAFETY: only the rounding of denormals changes, on this thread, until drop.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &word) };
    }

    #[cfg(target_arch = "aarch64")]
    fn control() -> u64 {
        let word: u64;
        // SAFETY: reads a register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) word) };
        word
    }
    #[cfg(target_arch = "aarch64")]
    fn set(control: u64) {
        // SAFETY: only the rounding of denormals changes, on this thread, until drop.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) control) };
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn control() -> u64 {
        0
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        FlushDenormals::set(self.saved);
    }
}

fn json(x: f64) -> String {
    if x.is_finite() {
        x.to_string()
    } else {
        "null".into()
    }
}

fn json_list(numbers: impl Iterator<Item = f64>) -> String {
    let mut text = String::from("[");
    for (i, x) in numbers.enumerate() {
        let _ = write!(text, "{}{}", if i > 0 { ", " } else { "" }, json(x));
    }
    text + "]"
}

fn answer(model: &mut Model, command: &str) -> Result<String, String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["run", count] => {
            let left = model.problem.num_steps - model.step;
            let count = count
                .parse::<usize>()
                .ok()
                .filter(|k| *k <= left)
                .ok_or(format!(
                    "run {count}: expected a number of steps up to the {left} left"
                ))?;
            let mut losses = Vec::with_capacity(count);
            let start = Instant::now();
            for _ in 0..count {
                losses.push(model.train());
            }
            let seconds = start.elapsed().as_secs_f64();
            let losses = json_list(losses.into_iter());
            Ok(format!(
                "{{\"losses\": {losses}, \"seconds\": {}}}",
                json(seconds)
            ))
        }
        ["gradients"] => {
            let loss = json(model.gradient());
            let gradient = &model.tape.gradient[..model.problem.parameters.len()];
            let gradient = json_list(gradient.iter().map(|&g| f64::from(g)));
            Ok(format!("{{\"loss\": {loss}, \"gradients\": {gradient}}}"))
        }
        ["parameters"] => {
            let values = &model.tape.value[..model.problem.parameters.len()];
            let parameters = json_list(values.iter().map(|&p| f64::from(p)));
            Ok(format!("{{\"parameters\": {parameters}}}"))
        }
        _ => Err(format!(
            "unknown command {command:?}: expected run K, gradients, parameters or quit"
        )),
    }
}

fn serve() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = match &arguments[..] {
        [path] => path,
        _ => return Err("expected one argument, the path of a problem file".into()),
    };
    let mut model = Model::new(Problem::read(path)?);
    let mut out = std::io::stdout();
    let mut say = |line: &str| {
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|e| format!("cannot answer: {e}"))
    };
    let compiler = option_env!("RUSTC_VERSION").unwrap_or("rustc");
    say(&format!(
        "{{\"ready\": true, \"name\": \"rust-tape\", \"compiler\": {compiler:?}}}"
    ))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| format!("cannot read a command: {e}"))?;
        match line.trim() {
            "quit" => break,
            command => say(&answer(&mut model, command)?)?,
        }
    }
    Ok(())
}

fn fail(message: &str) -> ! {
    eprintln!("rust-tape: {message}");
    std::process::exit(2)
}

fn main() -> ExitCode {
    if let Err(message) = serve() {
        fail(&message);
    }
    ExitCode::SUCCESS
}
