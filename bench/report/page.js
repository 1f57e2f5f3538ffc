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
