"use strict";
// Tables whose heads are buttons: a click sorts, numbers as numbers, empty cells last; a second click turns it round.

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => sortBy(table, heads, column));
  });
}

function sortBy(table, heads, column) {
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.cells[column].textContent.trim());
  const numbers = texts.map((text) => parseFloat(text.replaceAll(",", "")));
  const empty = texts.map((text) => text === "" || text === "-");
  const numeric = texts.every((text, i) => empty[i] || !Number.isNaN(numbers[i]));
  const was = heads[column].getAttribute("aria-sort");
  const first = numeric ? "descending" : "ascending";
  const order = was === "none" ? first : was === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const compare = (a, b) => (numeric ? numbers[a] - numbers[b] : texts[a].localeCompare(texts[b]));
  const ranked = rows.map((_, i) => i).sort((a, b) => empty[a] - empty[b] || sign * compare(a, b) || a - b);
  heads.forEach((head, i) => {
    if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", i === column ? order : "none");
  });
  table.tBodies[0].append(...ranked.map((i) => rows[i]));
}
