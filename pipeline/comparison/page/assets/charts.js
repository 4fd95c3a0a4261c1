"use strict";
// Charts by Bokeh: a common look, the learning curves and the sweep plot.

const charts = {
  COLOURS: 8,
  MARKERS: ["circle", "triangle", "square", "diamond", "inverted_triangle", "star", "hex", "plus"],

  series: (i) => page.colour(`c${i % charts.COLOURS}`),

  figure(options) {
    const figure = Bokeh.Plotting.figure({
      height: 320, sizing_mode: "stretch_width", tools: [], toolbar_location: null, ...options,
      background_fill_color: null, border_fill_color: null, outline_line_color: null, min_border_right: 12,
    });
    const soft = page.colour("soft");
    const font = { axis_label_text_font: "system-ui, sans-serif", major_label_text_font: "system-ui, sans-serif" };
    for (const axis of [figure.xaxis, figure.yaxis]) {
      Object.assign(axis, font, {
        axis_label_text_color: soft, axis_label_text_font_size: "13px", axis_label_text_font_style: "normal",
        major_label_text_color: soft, major_label_text_font_size: "12px", axis_line_color: page.colour("line"),
        major_tick_line_color: page.colour("line"), minor_tick_line_color: null,
      });
    }
    for (const grid of [figure.xgrid, figure.ygrid]) grid.grid_line_color = page.colour("line");
    return figure;
  },

  // What the tooltip of some renderers says; the others stay silent. Bokeh escapes what it puts for @ and $.
  hover(figure, renderers, lines) {
    figure.add_tools(new Bokeh.HoverTool({ renderers, tooltips: lines.map((line) => `<div>${line}</div>`).join("") }));
  },

  show(figure, id) {
    const target = page.find(id);
    target.replaceChildren();
    Bokeh.Plotting.show(figure, target);
  },

  // The legend below a chart, in HTML: readable, and its entries can be buttons.
  legend(id, entries, pressed, onClick) {
    const items = entries.map(({ name, colour, marker }, i) => {
      const item = page.make(onClick ? "button" : "span");
      const mark = page.make("i", undefined, marker ? `marker ${marker}` : "");
      if (colour) mark.style.setProperty("--mark-colour", colour);
      item.append(mark, name);
      if (onClick) {
        item.type = "button";
        item.setAttribute("aria-pressed", String(pressed(i)));
        item.addEventListener("click", () => onClick(i, item));
      }
      return item;
    });
    page.find(id).parentElement.querySelector(".legend").replaceChildren(...items);
  },

  distinct: (values) => [...new Set(values)].sort((a, b) => Number(a) - Number(b) || String(a).localeCompare(b)),
};

// Learning curves: one line per configuration, coloured by a setting; groups can be hidden, one line picked out.
(() => {
  const drawn = page.data.tried.filter((tried) => tried.epochs.length > 1);
  const measures = charts.distinct(drawn.flatMap((tried) => Object.keys(tried.curves)));
  const frame = page.find("curves");
  if (!frame) return;
  if (!drawn.length) {
    frame.replaceChildren(page.make("p", "No configuration was trained in epochs."));
    for (const id of ["curve-measure", "curve-colour", "curve-one"]) page.find(id).disabled = true;
    return;
  }
  const [measure, colour, one] = ["curve-measure", "curve-colour", "curve-one"].map(page.find);
  const settings = page.data.settings.length ? page.data.settings : ["head"];
  page.fill(measure, measures.map((name) => [name, name.replaceAll("_", " ")]));
  if (measures.includes("validation loss")) measure.value = "validation loss";
  page.fill(colour, settings.map((name) => [name, name.replaceAll("_", " ")]));
  if (settings.includes("optimizer")) colour.value = "optimizer";
  const ranked = drawn.map((tried, i) => i).sort((a, b) => (drawn[b].score ?? -1) - (drawn[a].score ?? -1));
  page.fill(one, [["", "all"], ...ranked.map((i) => [i, `${drawn[i].name} (${page.share(drawn[i].score)})`])]);

  let hidden = new Set();
  let source = null;
  let groups = [];

  function looks() {
    const chosen = one.value === "" ? null : Number(one.value);
    const group = drawn.map((tried) => groups.indexOf(tried.set[colour.value]));
    const alpha = drawn.map((_, i) => {
      if (chosen !== null) return i === chosen ? 1 : 0.12;
      return hidden.has(group[i]) ? 0 : 0.75;
    });
    const width = drawn.map((_, i) => (i === chosen ? 3.5 : 1.8));
    return { colour: group.map(charts.series), alpha, width };
  }

  function draw() {
    groups = charts.distinct(drawn.map((tried) => tried.set[colour.value]));
    const of = (tried) => tried.curves[measure.value] ?? [];
    const points = drawn.map((tried) => tried.epochs.map((x, k) => [x, of(tried)[k] ?? null]).filter((p) => p[1] !== null));
    source = new Bokeh.ColumnDataSource({
      data: {
        xs: points.map((line) => line.map((p) => p[0])),
        ys: points.map((line) => line.map((p) => p[1])),
        name: drawn.map((tried) => tried.name),
        score: drawn.map((tried) => page.share(tried.score)),
        ...looks(),
      },
    });
    const figure = charts.figure(
      { x_axis_label: "epoch", y_axis_label: measure.value.replaceAll("_", " "), y_range: range(points) },
    );
    const lines = figure.multi_line({ field: "xs" }, { field: "ys" }, {
      source, line_color: { field: "colour" }, line_alpha: { field: "alpha" }, line_width: { field: "width" },
      hover_line_color: { field: "colour" }, hover_line_alpha: 1, hover_line_width: 4,
    });
    charts.hover(figure, [lines], [
      "<b>@name</b>", "epoch $snap_x{0}: $snap_y{0.0000}", "validation score @score",
    ]);
    charts.show(figure, "curves");
    const entries = groups.map((name, i) => ({ name: name || "none", colour: charts.series(i) }));
    charts.legend("curves", entries, (i) => !hidden.has(i), (i, item) => {
      if (!hidden.delete(i)) hidden.add(i);
      item.setAttribute("aria-pressed", String(!hidden.has(i)));
      restyle();
    });
    describe();
  }

  // A diverging line must not flatten the others: what lies far above most is cut (Tukey's outer fence).
  function range(points) {
    const values = points.flat().map((p) => p[1]).sort((a, b) => a - b);
    const at = (share) => values[Math.floor(share * (values.length - 1))];
    const fence = measure.value.endsWith("loss") ? at(0.75) + 3 * (at(0.75) - at(0.25)) : Infinity;
    const high = Math.min(at(1), fence);
    const margin = 0.05 * (high - at(0)) || 0.05;
    return new Bokeh.Range1d({ start: at(0) - margin, end: high + margin });
  }

  function restyle() {
    source.data = { ...source.data, ...looks() };
    describe();
  }

  function describe() {
    const what = measure.value.replaceAll("_", " ");
    let description = `${what} by epoch, ${drawn.length} configurations`;
    if (one.value !== "") {
      const { name, epochs, curves, epoch } = drawn[Number(one.value)];
      const at = epochs.indexOf(epoch);
      const value = at < 0 ? null : (curves[measure.value]?.[at] ?? null);
      description = `${name}: ${what} ${page.share(value)} at epoch ${epoch}, the one kept`;
    }
    frame.setAttribute("aria-label", description);
    frame.parentElement.querySelector(".told").textContent = description;
  }

  frame.after(page.make("p", "", "soft told"));
  frame.nextSibling.setAttribute("role", "status");
  measure.addEventListener("change", draw);
  colour.addEventListener("change", () => {
    hidden = new Set();
    draw();
  });
  one.addEventListener("change", restyle);
  page.draw(draw);
})();

// Learning rate against validation score: colour is the optimizer, shape the head.
(() => {
  const frame = page.find("sweep");
  if (!frame) return;
  const points = page.data.tried
    .map((tried) => ({ ...tried, rate: Number(tried.set.lr) }))
    .filter((tried) => tried.set.optimizer && tried.rate > 0 && tried.score !== null);
  if (!points.length) {
    frame.replaceChildren(page.make("p", "No configuration has a learning rate and a validation score."));
    return;
  }
  const optimizers = charts.distinct(points.map((p) => p.set.optimizer));
  const heads = charts.distinct(points.map((p) => p.set.head));

  page.draw(() => {
    const figure = charts.figure({
      x_axis_type: "log", x_axis_label: "learning rate", y_axis_label: "validation score", height: 300,
    });
    // Ticks at the rates that were tried say more than powers of ten.
    const rates = charts.distinct(points.map((p) => p.rate));
    if (rates.length <= 8) {
      figure.xaxis.ticker = new Bokeh.FixedTicker({ ticks: rates });
      figure.xaxis.major_label_overrides = new Map(rates.map((rate) => [rate, String(rate)]));
    }
    const entries = [];
    const dots = [];
    optimizers.forEach((optimizer, i) => heads.forEach((head, j) => {
      const mine = points.filter((p) => p.set.optimizer === optimizer && p.set.head === head);
      if (!mine.length) return;
      const best = charts.distinct(mine.map((p) => p.rate)).map((rate) => [
        rate, Math.max(...mine.filter((p) => p.rate === rate).map((p) => p.score)),
      ]);
      const colour = charts.series(i);
      figure.line(best.map((p) => p[0]), best.map((p) => p[1]), { line_color: colour, line_alpha: 0.5, line_width: 1.5 });
      const marker = charts.MARKERS[j % charts.MARKERS.length];
      const source = new Bokeh.ColumnDataSource({
        data: { x: mine.map((p) => p.rate), y: mine.map((p) => p.score), name: mine.map((p) => p.name), rate: mine.map((p) => p.set.lr) },
      });
      dots.push(figure.scatter({ field: "x" }, { field: "y" }, {
        source, marker, size: 10, fill_color: colour, line_color: page.colour("card"),
      }));
      entries.push({ name: `${head}, ${optimizer}`, colour, marker });
    }));
    charts.hover(figure, dots, ["<b>@name</b>", "learning rate @rate", "validation score @y{0.000}"]);
    charts.show(figure, "sweep");
    charts.legend("sweep", entries);
  });
  const best = points.reduce((a, b) => (b.score > a.score ? b : a));
  frame.setAttribute(
    "aria-label",
    `Validation score by learning rate; the highest is ${page.share(best.score)}, ${best.name} at ${best.rate}`,
  );
})();
