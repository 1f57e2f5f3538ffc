// Models as files: model.safetensors and config.json, as pymicrogpt/storage/weights.py reads them.

import { shapes } from "./model.js";

/** What config.json says of a model. */
export function describe({ config, alphabet }) {
  return {
    format_version: 1,
    n_layer: config.nLayer,
    n_embd: config.nEmbd,
    n_head: config.nHead,
    block_size: config.blockSize,
    vocab_size: config.vocabSize,
    alphabet,
  };
}

/** The bytes of model.safetensors; config.json describes them. Throws where a number is not finite. */
export function pack({ config, parameters }) {
  const header = {};
  for (const { name, rows, cols, offset } of shapes(config))
    header[name] = { dtype: "F32", shape: [rows, cols],
      data_offsets: [4 * offset, 4 * (offset + rows * cols)] };
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (text.length % 8)) % 8);
  const bytes = new Uint8Array(8 + text.length + 4 * parameters.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(text.length), true);
  bytes.set(new TextEncoder().encode(text), 8);
  parameters.forEach((x, i) => {
    view.setFloat32(8 + text.length + 4 * i, x, true);
    if (!Number.isFinite(Math.fround(x))) throw new Error("The model holds NaN or infinity.");
  });
  return bytes;
}

/** What is in the files: { config, alphabet, parameters }. Throws an Error with a sentence. */
export function unpack(bytes, described) {
  const not = (what) => new Error(`This is not a model of pymicrogpt: ${what}.`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length >= 8 ? Number(view.getBigUint64(0, true)) : Infinity;
  if (!(8 + length <= bytes.length)) throw not("the weights are cut short, or no safetensors file");
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + length)));
    const own = header.__metadata__?.pymicrogpt;
    if (own) described = JSON.parse(own).config;
  } catch {
    throw not("its header is no JSON");
  }
  if (!described) throw not("the weights do not say which model they are; open config.json with them");
  const { format_version, n_layer, n_embd, n_head, block_size, vocab_size, alphabet } = described;
  if (format_version !== 1) throw not(`its format_version is ${format_version}, and 1 is read here`);
  const counts = [n_layer, n_embd, n_head, block_size, vocab_size];
  if (!counts.every((n) => Number.isInteger(n) && n >= 1 && n <= 1e6) || n_embd % n_head !== 0 ||
      n_layer > Object.keys(header).length)
    throw not("its sizes make no model");
  const single = (c) => typeof c === "string" && Array.from(c).length === 1;
  if (!Array.isArray(alphabet) || !alphabet.every(single) ||
      new Set(alphabet).size !== alphabet.length || alphabet.length !== vocab_size - 1)
    throw not("its alphabet does not fit its vocab_size");
  const config = { nLayer: n_layer, nEmbd: n_embd, nHead: n_head, blockSize: block_size,
    vocabSize: vocab_size };
  const tensors = shapes(config), last = tensors.at(-1);
  delete header.__metadata__;
  if (Object.keys(header).length !== tensors.length) throw not("it has other tensors");
  const count = last.offset + last.rows * last.cols;
  if (bytes.length !== 8 + length + 4 * count) throw not("the weights are cut short, or too long");
  const parameters = new Float64Array(count);
  for (const { name, rows, cols, offset } of tensors) {
    const entry = header[name];
    const fits = entry?.dtype === "F32" && entry.shape?.length === 2 && entry.shape[0] === rows &&
      entry.shape[1] === cols && entry.data_offsets?.[1] - entry.data_offsets?.[0] === 4 * rows * cols &&
      entry.data_offsets[0] >= 0 && entry.data_offsets[1] <= 4 * count;
    if (!fits) throw not(`tensor ${name} is missing, or has another shape than the configuration says`);
    const start = 8 + length + entry.data_offsets[0];
    for (let i = 0; i < rows * cols; i++) parameters[offset + i] = view.getFloat32(start + 4 * i, true);
  }
  if (!parameters.every(Number.isFinite)) throw not("it holds NaN or infinity");
  return { config, alphabet, parameters };
}
