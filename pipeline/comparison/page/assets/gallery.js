"use strict";
// Test photos, worst first, filtered by attribute, value, right or wrong and file name; cards are made as they are asked for.

(() => {
  const list = page.find("gallery");
  if (!list) return;
  const { attributes, values, photos, pictures } = page.data.gallery;
  const CHUNK = 48;
  const more = page.find("photo-more");
  const [attribute, value, right, order, search] = ["attribute", "value", "right", "order", "name"].map((name) => page.find(`photo-${name}`));
  let matching = [];
  let listed = 0;

  // Per photo and attribute: whether the truth is known, its cells, and how bad the worst wrong cell is (0: all right).
  function read(numbers) {
    const known = numbers[0] !== -1;
    const cells = [];
    for (let i = known ? 0 : 1; i < numbers.length; i += 2) {
      cells.push({ value: numbers[i] >> 2, p: numbers[i + 1] / 1000, true: Boolean(numbers[i] & 2), decided: Boolean(numbers[i] & 1) });
    }
    const misses = known ? cells.filter((c) => c.true !== c.decided).map((c) => (c.true ? 1 - c.p : c.p)) : [];
    // A miss by next to nothing is still one.
    return { known, cells, wrong: misses.length > 0, bad: misses.length ? Math.max(1e-6, ...misses) : 0 };
  }

  const all = photos.map(([name, ...cells], i) => {
    const of = cells.map(read);
    return { name, picture: pictures[i], attributes: of, bad: of.reduce((sum, each) => sum + each.bad, 0) };
  });

  function chooseAttribute() {
    const k = Number(attribute.value);
    if (attribute.value === "") {
      page.fill(value, [["", "any"]]);
    } else {
      const counts = new Map();
      for (const photo of all) for (const cell of photo.attributes[k].cells) counts.set(cell.value, (counts.get(cell.value) ?? 0) + 1);
      const ranked = [...counts].sort((a, b) => values[k][a[0]].localeCompare(values[k][b[0]]));
      page.fill(value, [["", "any"], ...ranked.map(([v, n]) => [v, `${values[k][v]} (${n.toLocaleString("en")})`])]);
    }
    value.disabled = attribute.value === "";
    filter();
  }

  function filter() {
    const only = attribute.value === "" ? null : Number(attribute.value);
    const want = value.value === "" ? null : Number(value.value);
    const text = search.value.trim().toLowerCase();
    const judged = (photo) => (only === null ? photo.attributes.filter((each) => each.known) : [photo.attributes[only]].filter((each) => each.known));
    const passes = {
      all: () => true,
      wrong: (photo) => judged(photo).some((each) => each.wrong),
      right: (photo) => judged(photo).length > 0 && judged(photo).every((each) => !each.wrong),
      unknown: (photo) => (only === null ? photo.attributes : [photo.attributes[only]]).some((each) => !each.known),
    }[right.value];
    const bad = (photo) => (only === null ? photo.bad : photo.attributes[only].bad);
    const sure = (photo) => Math.max(0, ...(only === null ? photo.attributes : [photo.attributes[only]]).flatMap((each) => each.cells.filter((c) => c.decided).map((c) => c.p)));
    const rank = {
      worst: (a, b) => bad(b) - bad(a),
      best: (a, b) => bad(a) - bad(b) || sure(b) - sure(a),
      name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
    }[order.value];
    matching = all
      .filter((photo) => passes(photo) && (want === null || photo.attributes[only].cells.some((c) => c.value === want)))
      .filter((photo) => photo.name.toLowerCase().includes(text))
      .sort(rank);
    const drawn = matching.filter((photo) => photo.picture).length;
    const pictured = Object.keys(pictures).length ? `, ${drawn.toLocaleString("en")} with a picture` : "";
    page.find("photo-count").textContent = `${matching.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} photos${pictured}`;
    list.replaceChildren();
    listed = 0;
    extend();
  }

  function extend() {
    const next = matching.slice(listed, listed + CHUNK);
    list.append(...next.map(card));
    listed += next.length;
    more.hidden = listed >= matching.length;
  }

  function card(photo) {
    const item = page.make("li");
    if (photo.picture) {
      const image = page.make("img");
      image.src = `data:image/webp;base64,${photo.picture}`;
      image.alt = "";
      item.append(image);
    }
    const lines = page.make("dl");
    const only = attribute.value === "" ? null : Number(attribute.value);
    photo.attributes.forEach((each, k) => {
      if (only === null || k === only) lines.append(...line(each, k));
    });
    item.append(page.make("b", photo.name, "name"), lines);
    return item;
  }

  function line(each, k) {
    const name = (cell) => `${values[k][cell.value]} ${Math.round(100 * cell.p)}\u00a0%`;
    const said = each.cells.filter((c) => c.decided).map(name).join(", ") || "nothing";
    const truth = each.cells.filter((c) => c.true);
    const verdict = !each.known ? "unknown" : each.wrong ? "wrong" : "right";
    const head = page.make("dt", attributes[k]);
    const body = page.make("dd", undefined, verdict);
    const mark = page.make("span", { unknown: "?", wrong: "✗", right: "✓" }[verdict], "verdict");
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", { unknown: "truth unknown:", wrong: "wrong:", right: "right:" }[verdict]);
    body.append(mark, ` ${said}`);
    if (each.wrong) body.append(page.make("span", `is ${truth.map(name).join(", ") || "nothing"}`, "truth"));
    return [head, body];
  }

  page.fill(attribute, [["", "all"], ...attributes.map((name, k) => [k, name])]);
  page.fill(right, [["wrong", "wrong"], ["all", "all"], ["right", "right"], ["unknown", "truth unknown"]]);
  page.fill(order, [["worst", "worst first"], ["best", "surest first"], ["name", "by name"]]);
  if (!all.some((photo) => photo.bad > 0)) right.value = "all";
  attribute.addEventListener("change", chooseAttribute);
  for (const control of [value, right, order]) control.addEventListener("change", filter);
  search.addEventListener("input", filter);
  more.addEventListener("click", () => {
    const last = listed;
    extend();
    // The button may be gone; the reader goes on at the first new photo.
    list.children[last].tabIndex = -1;
    list.children[last].focus();
  });
  chooseAttribute();
})();
