const value = cell => {
  const text = cell?.textContent.trim() ?? "", number = parseFloat(text.replace(/[,<\s]/g, ""));
  return /^[<\d]/.test(text) && !isNaN(number) ? number : text;
};
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map(row => [value(row.cells[column]), row]);
      const rank = x => x === "" ? 2 : typeof x === "string" ? 1 : 0;  // numbers, text, nothing
      rows.sort(([a], [b]) => rank(a) - rank(b) ||
        (up ? 1 : -1) * (rank(a) ? String(a).localeCompare(b) : a - b));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    };
  });
}

// Of "d16, AVX2, batch 1: 2.5 µs" and the like.
const implementation = text => text.replace(/^d\d+, /, "").split(", batch")[0];

// Values of figures: at the pointer, a tap, or the arrow keys.
const tip = document.createElement("output");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
const show = spot => {
  document.querySelector(".shown")?.classList.remove("shown");
  tip.hidden = !spot;
  if (!spot) return;
  spot.classList.add("shown");
  tip.textContent = spot.ariaLabel;
  const box = spot.getBoundingClientRect(), room = document.documentElement.clientWidth;
  const left = box.left + Math.min(box.width, 240) / 2 - tip.offsetWidth / 2;
  tip.style.left = `${scrollX + Math.max(4, Math.min(left, room - tip.offsetWidth - 4))}px`;
  const above = box.top - tip.offsetHeight - 4;
  tip.style.top = `${scrollY + (above < 0 ? box.bottom + 4 : above)}px`;
};
for (const figure of document.querySelectorAll(".spots")) {
  const spots = [...figure.querySelectorAll("rect")];
  const told = figure.parentNode.querySelectorAll(".wide rect");  // comes first
  let at = -1;
  for (const [index, spot] of spots.entries()) {
    spot.ariaLabel = spot.textContent || told[index].ariaLabel;
    spot.dataset.row = implementation(spot.ariaLabel);
    spot.setAttribute("role", "img");
    spot.replaceChildren();  // or the browser would tell its title a second time
    spot.onpointerenter = spot.onclick = () => { at = spots.indexOf(spot); show(spot); };
    spot.onpointerleave = event => event.pointerType === "mouse" && show();
  }
  figure.tabIndex = 0;
  figure.onkeydown = event => {
    const step = {ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1}[event.key];
    if (event.key === "Escape") show();
    if (!step) return;
    event.preventDefault();
    at = (at + step + spots.length) % spots.length;
    show(spots[at]);
  };
  figure.onblur = () => show();
}

// Implementations, switched on and off in all tables and figures.
const lines = [...document.querySelectorAll("tbody tr")];
const labels = new Set([...document.querySelectorAll(".spots rect")].map(s => s.dataset.row));
const named = line => implementation(line.cells[0].textContent);
const known = [...new Set(lines.map(named))].filter(
  name => labels.has(name) && !/^(d|batch )\d+$/.test(name));  // these are no implementations
if (known.length > 1) {
  const box = document.createElement("details"), head = document.createElement("summary");
  const all = document.createElement("div");
  head.textContent = "Implementations shown";
  all.className = "rows";
  for (const name of known) {
    const label = document.createElement("label"), input = document.createElement("input");
    input.type = "checkbox";
    input.checked = true;
    input.onchange = () => {
      for (const line of lines)
        if (named(line) === name) line.classList.toggle("off", !input.checked);
      for (const spot of document.querySelectorAll(".spots rect"))
        if (spot.dataset.row === name) spot.classList.toggle("off", !input.checked);
    };
    label.append(input, " ", name);
    all.append(label);
  }
  box.append(head, all);
  document.querySelector("header").append(box);
}
