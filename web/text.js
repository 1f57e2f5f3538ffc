// A text becomes documents, an alphabet and tokens, as pymicrogpt/_text.py and tokenizer.py do it.

export const MOST_CHARACTERS = 20_000_000;

// What Python's str.strip() takes away: more than trim() does, and not U+FEFF.
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const STRIP = new RegExp(`^${SPACE}|${SPACE}$`, "g");

/**
 * @param {"lines" | "stream"} mode a document is a line, or a block of running text
 * @returns {string[]}
 * @throws {Error} with a sentence for the reader
 */
export function documentsOf(text, mode, blockSize) {
  if (text.length > MOST_CHARACTERS) {
    const millions = (n) => (n / 1e6).toFixed(0);
    throw new Error(`The text has ${millions(text.length)} million characters; at most ` +
      `${millions(MOST_CHARACTERS)} million are trained here. Take a part of it.`);
  }
  text = text.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
  let documents;
  if (mode === "lines") {
    documents = text.split("\n").map((line) => line.replace(STRIP, "")).filter((line) => line);
  } else {
    documents = [];
    const characters = Array.from(text);
    for (let i = 0; i < characters.length; i += blockSize)
      documents.push(characters.slice(i, i + blockSize).join(""));
  }
  if (documents.length === 0) throw new Error("There is no text: it is empty, or all of it is blank.");
  return documents;
}

/** The distinct characters, by code point. */
export function alphabetOf(documents) {
  const characters = new Set();
  for (const document of documents) for (const character of document) characters.add(character);
  return [...characters].sort((a, b) => a.codePointAt(0) - b.codePointAt(0));
}

/** Token ids of each document, with BOS at both ends; the id of a character is its place. */
export function encodeAll(documents, alphabet) {
  const ids = new Map(alphabet.map((character, id) => [character, id])), bos = alphabet.length;
  return documents.map((document) => {
    const tokens = [bos];
    for (const character of document) tokens.push(ids.get(character));
    tokens.push(bos);
    return tokens;
  });
}
