"use strict";
// What a reader does with the map: colours, legend, moving, lasso, search, and the list of photos beside it.

(() => {
  const { canvas, state } = plane;
  const [by, shown, search, legend, list, more, told, card, lassoButton, clearButton] = [
    "by", "shown", "search", "legend", "rows", "more", "told", "card", "lasso", "clear",
  ].map(page.find);
  const CHUNK = 100;
  const hiddenClasses = new Set();
  let colouring = null;
  let listed = [];
  let drawn = 0;
  let lassoing = false;

  const facet = () => points.facets[Number(by.value)];
  const number = (value) => value.toLocaleString("en");

  // ---- colours ----
  function offer() {
    const kinds = by.value === "part" ? [["part", "part"]] : !facet() ? [["", "-"]] : [["true", "true value"]];
    if (facet()?.predicted) kinds.push(["predicted", "predicted value"], ["verdict", "right or wrong"], ["doubt", "doubt"]);
    const kept = shown.value;
    page.fill(shown, kinds);
    if (kinds.some(([kind]) => kind === kept)) shown.value = kept;
    shown.disabled = kinds.length < 2;
    recolour();
  }

  function recolour() {
    hiddenClasses.clear();
    colouring = points.colouring(facet(), shown.value);
    dress();
    head();
  }

  function dress() {
    const counts = plane.dress(colouring, hiddenClasses);
    legend.replaceChildren(...colouring.words.map((word, c) => (counts[c] ? entry(word, c, counts[c]) : null)).filter(Boolean));
    refresh();
  }

  function entry(word, c, count) {
    const button = page.make("button");
    const mark = page.make("i");
    mark.style.setProperty("--mark-colour", points.colour(colouring.hues[c]));
    button.type = "button";
    button.setAttribute("aria-pressed", String(!hiddenClasses.has(c)));
    button.append(mark, `${word} (${number(count)})`);
    button.addEventListener("click", () => {
      if (!hiddenClasses.delete(c)) hiddenClasses.add(c);
      dress();
      legend.querySelectorAll("button")[[...legend.children].findIndex((each) => each.textContent.startsWith(word))]?.focus();
    });
    return button;
  }

  // ---- one photo ----
  const loaded = new Map();
  function picture(i) {
    const place = points.pictures.of[i];
    if (place < 0) return null;
    const { side, columns, sheet, sheets } = points.pictures;
    const within = place % sheet;
    const box = page.make("div", undefined, "thumb");
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", points.names[i]);
    const which = Math.floor(place / sheet);
    if (!loaded.has(which)) {
      const image = new Image();
      image.src = `data:image/webp;base64,${sheets[which]}`;
      loaded.set(which, image);
    }
    const screen = page.make("canvas");
    screen.width = screen.height = side;
    const source = loaded.get(which);
    const put = () => screen.getContext("2d").drawImage(source, (within % columns) * side, Math.floor(within / columns) * side, side, side, 0, 0, side, side);
    if (source.complete && source.naturalWidth) put();
    else source.addEventListener("load", put, { once: true });
    box.append(screen);
    return box;
  }

  // What was predicted, beside what is true: named only where it is something else.
  function verdictOf(said) {
    const doubt = `doubt ${Math.round(100 * said.doubt)}\u00a0%`;
    return said.verdict === "right" ? ` \u2713\u00a0right, ${doubt}` : ` ${said.verdict ? "\u2717\u00a0" : ""}predicted ${said.predicted}, ${doubt}`;
  }

  function tell(i) {
    state.hover = i;
    plane.paintOver();
    if (i < 0) return;
    const lines = page.make("dl");
    for (const each of points.facets) {
      const said = points.said(each, i);
      const text = page.make("dd", said.true || "none");
      if (said.predicted) text.append(page.make("span", verdictOf(said), said.verdict));
      lines.append(page.make("dt", each.name), text);
    }
    if (points.part) lines.append(page.make("dt", "part"), page.make("dd", points.part.values[points.part.codes[i]] || "none"));
    card.replaceChildren(picture(i) ?? page.make("p", "no picture of this photo in the page", "soft"), page.make("b", points.names[i], "name"), lines);
  }

  // ---- the list ----
  function head() {
    const columns = ["photo", ...(facet() ? [facet().name] : []), ...(facet()?.predicted ? ["predicted", "doubt"] : []), ...(points.part ? ["part"] : [])];
    page.find("head").replaceChildren(...columns.map((name) => {
      const cell = page.make("th", name, "words");
      cell.scope = "col";
      return cell;
    }));
  }

  function refresh() {
    listed = state.selected ? state.rows : plane.view();
    const what = state.selected ? "selected" : "in view";
    told.textContent = `${number(listed.length)} of ${number(points.count)} photos ${what}`;
    clearButton.disabled = !state.selected;
    list.replaceChildren();
    drawn = 0;
    extend();
  }

  function extend() {
    const next = listed.slice(drawn, drawn + CHUNK);
    list.append(...next.map(row));
    drawn += next.length;
    more.hidden = drawn >= listed.length;
  }

  function row(i) {
    const made = page.make("tr");
    const name = page.make("th");
    name.scope = "row";
    const button = page.make("button", points.names[i]);
    button.type = "button";
    button.addEventListener("focus", () => tell(i));
    button.addEventListener("click", () => {
      plane.centre(i);
      tell(i);
    });
    name.append(button);
    made.append(name);
    if (facet()) {
      const said = points.said(facet(), i);
      made.append(page.make("td", said.true, "words"));
      if (facet().predicted) {
        made.append(page.make("td", said.predicted, `words ${said.verdict}`), page.make("td", said.doubt === null ? "" : `${Math.round(100 * said.doubt)}\u00a0%`));
      }
    }
    if (points.part) made.append(page.make("td", points.part.values[points.part.codes[i]], "words"));
    // A list that moves under a resting mouse must not take the word from the keyboard.
    made.addEventListener("pointermove", (event) => {
      if (state.hover !== i && (event.movementX || event.movementY)) tell(i);
    });
    return made;
  }

  function select(rows) {
    state.rows = rows;
    state.selected = null;
    if (rows) {
      state.selected = new Uint8Array(points.count);
      for (const i of rows) state.selected[i] = 1;
    }
    dress();
  }

  // ---- files ----
  // As in every CSV file of ours: a text that a spreadsheet would run has an apostrophe before it.
  const runs = (text) => /^'*[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]./s.test(text) && !/^[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?%?$/.test(text);
  const cell = (text) => {
    const safe = runs(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };

  function table() {
    const names = points.facets.flatMap((each) => [each.name, ...(each.predicted ? [`${each.name} predicted`, `${each.name} doubt`] : [])]);
    const rows = listed.map((i) => [points.names[i], ...points.facets.flatMap((each) => {
      const said = points.said(each, i);
      return [said.true, ...(each.predicted ? [said.predicted, said.doubt === null ? "" : said.doubt.toFixed(2)] : [])];
    }), ...(points.part ? [points.part.values[points.part.codes[i]]] : [])]);
    const header = ["photo", ...names, ...(points.part ? ["part"] : [])];
    return [header, ...rows].map((line) => line.map(cell).join(",")).join("\n") + "\n";
  }

  page.find("save").addEventListener("click", () => {
    const link = page.make("a");
    link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
    link.download = "photos.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });

  // ---- moving ----
  const fingers = new Map();
  const at = (event) => [event.offsetX, event.offsetY];
  const over = page.find("map-over");

  over.addEventListener("pointerdown", (event) => {
    over.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    if (fingers.size > 1) state.lasso = [];
    else if (lassoing || event.shiftKey) state.lasso = [at(event)];
    canvas.focus({ preventScroll: true });
  });

  over.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const before = fingers.get(event.pointerId);
    if (!before) {
      tell(plane.nearest(x, y, 10));
      return;
    }
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      plane.zoom(apart([x, y]) / Math.max(1, apart(before)), other[0], other[1]);
    } else if (state.lasso.length) {
      state.lasso.push([x, y]);
      plane.paintOver();
    } else {
      plane.pan(x - before[0], y - before[1]);
    }
    fingers.set(event.pointerId, [x, y]);
  });

  function lift(event) {
    fingers.delete(event.pointerId);
    if (!state.lasso.length) return;
    const path = state.lasso;
    state.lasso = [];
    if (path.length > 2) select(plane.inside(path));
    plane.paintOver();
    setLasso(false);
  }
  over.addEventListener("pointerup", lift);
  over.addEventListener("pointercancel", lift);
  over.addEventListener("click", (event) => {
    const i = plane.nearest(...at(event), 14);
    if (i >= 0) tell(i);
  });
  over.addEventListener("wheel", (event) => {
    event.preventDefault();
    plane.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...at(event));
  }, { passive: false });

  function setLasso(on) {
    lassoing = on;
    lassoButton.setAttribute("aria-pressed", String(on));
    over.classList.toggle("lassoing", on);
  }

  const keys = {
    ArrowLeft: () => plane.pan(60, 0), ArrowRight: () => plane.pan(-60, 0), ArrowUp: () => plane.pan(0, 60), ArrowDown: () => plane.pan(0, -60),
    "+": () => plane.zoom(1.4), "=": () => plane.zoom(1.4), "-": () => plane.zoom(1 / 1.4), 0: plane.reset,
    Enter: () => select(plane.view()), Escape: () => { setLasso(false); select(null); },
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  for (const [id, act] of [["in", keys["+"]], ["out", keys["-"]], ["reset", plane.reset], ["view", keys.Enter], ["clear", () => select(null)]]) {
    page.find(id).addEventListener("click", act);
  }
  lassoButton.addEventListener("click", () => setLasso(!lassoing));
  more.addEventListener("click", () => {
    const last = drawn;
    extend();
    list.children[last].querySelector("button").focus();
  });
  search.addEventListener("change", () => {
    const text = search.value.trim().toLowerCase();
    select(text ? points.names.flatMap((name, i) => (name.toLowerCase().includes(text) ? [i] : [])) : null);
    if (text && state.rows.length) {
      plane.centre(state.rows[0]);
      tell(state.rows[0]);
    }
  });

  let waiting = 0;
  plane.onMove(() => {
    clearTimeout(waiting);
    if (!state.selected) waiting = setTimeout(refresh, 200);
  });
  by.addEventListener("change", offer);
  shown.addEventListener("change", recolour);
  page.fill(by, [...points.facets.map((each, k) => [k, each.name]), ...(points.part ? [["part", "part"]] : [])]);
  if (!points.facets.length && !points.part) page.fill(by, [["", "nothing"]]);
  page.draw(() => offer());
})();
