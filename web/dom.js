// Small helpers of the page: elements, what is packed into the page, workers, files.

export const $ = (id) => document.getElementById(id);

/** An element with attributes and children; text stays text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes))
    if (value !== null) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The bytes of a block of the page, which tools/web.py has compressed. */
export async function unpacked(name) {
  const text = atob($(`data-${name}`).textContent);
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export async function unpackedText(name) {
  return new TextDecoder().decode(await unpacked(name));
}

/** Starts a task of worker.js; `on` may have progress, names, model. The promise is of its result. */
export function startTask(workerUrl, request, on = {}) {
  const worker = new Worker(workerUrl);
  const result = new Promise((resolve, reject) => {
    const end = (settle, value) => {
      worker.terminate();
      settle(value);
    };
    worker.onmessage = ({ data }) => {
      if (data.type === "done") end(resolve, data.result);
      else if (data.type === "error") end(reject, new Error(data.message));
      else on[data.type]?.(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      end(reject, new Error(event.message || "its worker could not start"));
    };
    on.cancel?.(() => end(reject, new Error("stopped")));
  });
  worker.postMessage(request);
  return { result, send: (task) => worker.postMessage({ task }) };
}

export function download(name, data, type) {
  const url = URL.createObjectURL(new Blob([data], { type }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Three digits, as people read them. */
export function digits(x) {
  return x >= 100 ? Math.round(x).toLocaleString("en") : Number(x.toPrecision(3)).toString();
}

/** Without a control character, which nobody sees. */
export const visible = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥");
