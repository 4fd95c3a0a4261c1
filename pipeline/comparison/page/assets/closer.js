"use strict";
// One attribute at a time: the threshold explorer, calibration, and which confusion matrix is shown.

(() => {
  const { sweeps, reliability } = page.data;
  if (!sweeps.length) return;
  const [attribute, value, slider] = ["attribute", "value", "threshold"].map(page.find);
  const steps = sweeps[0].rows[0].decided.length - 1;
  const at = Array.from({ length: steps + 1 }, (_, i) => i / steps);
  const lines = [["precision", "c0"], ["recall", "c1"], ["F1", "c2"]];
  let spans = [];

  page.fill(attribute, sweeps.map((sweep, i) => [i, sweep.attribute]));
  const sweep = () => sweeps[Number(attribute.value)];
  const row = () => sweep().rows[Number(value.value)];

  // Shares from counts; what is not defined is null.
  function figures(counts) {
    const precision = counts.decided.map((n, i) => (n ? counts.right[i] / n : null));
    const recall = counts.right.map((n) => (counts.true ? n / counts.true : null));
    const f1 = counts.decided.map((n, i) => (n + counts.true ? (2 * counts.right[i]) / (n + counts.true) : null));
    const amount = counts.decided.map((n) => n / sweep().photos);
    return { precision, recall, F1: f1, amount };
  }

  function chart(names, all, options) {
    const figure = charts.figure({ x_range: new Bokeh.Range1d({ start: 0, end: 1 }), ...options });
    names.forEach(([name, colour]) => {
      const defined = at.map((x, i) => [x, all[name][i]]).filter((p) => p[1] !== null);
      figure.line(defined.map((p) => p[0]), defined.map((p) => p[1]), { line_color: page.colour(colour), line_width: 2.2 });
    });
    if (row().at !== null && row().at <= 1) {
      figure.add_layout(new Bokeh.Span({
        dimension: "height", location: row().at, line_color: page.colour("soft"), line_dash: [4, 4],
      }));
    }
    const now = new Bokeh.Span({ dimension: "height", location: Number(slider.value), line_color: page.colour("ink"), line_width: 2 });
    figure.add_layout(now);
    spans.push(now);
    return figure;
  }

  function drawThresholds() {
    const all = figures(row());
    spans = [];
    charts.show(chart(lines, all, {
      height: 260, x_axis_label: "threshold", y_range: new Bokeh.Range1d({ start: 0, end: 1.02 }),
    }), "thresholds");
    charts.legend("thresholds", [
      ...lines.map(([name, colour]) => ({ name, colour: page.colour(colour) })),
      { name: "threshold in use (dashed)", colour: page.colour("soft") },
    ]);
    const most = Math.max(...all.amount, row().true / sweep().photos);
    const figure = chart([["amount", "c3"]], all, {
      height: 170, x_axis_label: "threshold", y_range: new Bokeh.Range1d({ start: 0, end: 1.1 * most || 1 }),
    });
    figure.add_layout(new Bokeh.Span({
      dimension: "width", location: row().true / sweep().photos, line_color: page.colour("soft"), line_dash: [1, 3], line_width: 2,
    }));
    charts.show(figure, "amounts");
    charts.legend("amounts", [
      { name: "values named per photo", colour: page.colour("c3") },
      { name: "true ones per photo (dotted)", colour: page.colour("soft") },
    ]);
  }

  function move() {
    const t = Number(slider.value);
    const i = Math.round(t * steps);
    const all = figures(row());
    const named = [
      ["precision", page.share(all.precision[i])], ["recall", page.share(all.recall[i])], ["F1", page.share(all.F1[i])],
      ["named per photo", all.amount[i].toFixed(2)], ["true per photo", (row().true / sweep().photos).toFixed(2)],
    ];
    page.find("threshold-now").textContent = t.toFixed(2);
    slider.setAttribute("aria-valuetext", `${t.toFixed(2)}, ${named.map(([name, figure]) => `${name} ${figure}`).join(", ")}`);
    page.find("threshold-figures").replaceChildren(...named.map(([name, figure]) => {
      const pair = page.make("div");
      pair.append(page.make("dt", name), page.make("dd", figure));
      return pair;
    }));
    for (const span of spans) span.location = t;
    page.find("thresholds").setAttribute("aria-label", `Precision, recall and F1 by threshold; at ${slider.getAttribute("aria-valuetext")}`);
  }

  function back() {
    const used = row().at;
    slider.value = used === null ? 0.5 : Math.min(1, used);
    page.find("threshold-back").textContent = used === null ? "Back to the middle" : `Back to ${used.toFixed(2)}, the one in use`;
    move();
  }

  function drawReliability() {
    const bins = reliability.find((each) => each.attribute === sweep().attribute);
    if (!bins) {
      page.find("reliability").replaceChildren(page.make("p", "Nothing to show for this attribute."));
      return;
    }
    const most = Math.max(...bins.count);
    const dots = bins.confidence.map((x, i) => ({ x, y: bins.correct[i], n: bins.count[i] })).filter((dot) => dot.x !== null);
    const figure = charts.figure({
      height: 340, x_axis_label: "confidence", y_axis_label: "share correct",
      x_range: new Bokeh.Range1d({ start: 0, end: 1.03 }), y_range: new Bokeh.Range1d({ start: 0, end: 1.03 }),
    });
    figure.line([0, 1], [0, 1], { line_color: page.colour("soft"), line_dash: [4, 4] });
    figure.line(dots.map((dot) => dot.x), dots.map((dot) => dot.y), { line_color: page.colour("c0"), line_alpha: 0.4, line_width: 1.5 });
    const source = new Bokeh.ColumnDataSource({
      data: {
        x: dots.map((dot) => dot.x), y: dots.map((dot) => dot.y), n: dots.map((dot) => dot.n),
        size: dots.map((dot) => 6 + 18 * Math.sqrt(dot.n / most)),
      },
    });
    const scatter = figure.scatter({ field: "x" }, { field: "y" }, {
      source, size: { field: "size" }, fill_color: page.colour("c0"), fill_alpha: 0.85, line_color: page.colour("card"),
    });
    charts.hover(figure, [scatter], ["@x{0.00} sure, @y{0.00} right", "@n{0,0} cases"]);
    charts.show(figure, "reliability");
    const description = dots.map((dot) => `${dot.x.toFixed(2)} sure, ${dot.y.toFixed(2)} right`).join("; ");
    page.find("reliability").setAttribute("aria-label", `Share correct against confidence: ${description}`);
  }

  function chooseAttribute() {
    const { attribute: name, rows, single } = sweep();
    const all = single ? "any value (the best one)" : "all values together";
    page.fill(value, rows.map((each, i) => [i, i ? `${each.name} (${each.true.toLocaleString("en")})` : all]));
    for (const part of document.querySelectorAll(".of-attribute")) part.hidden = part.dataset.attribute !== name;
    back();
    drawThresholds();
    drawReliability();
  }

  attribute.addEventListener("change", chooseAttribute);
  value.addEventListener("change", () => {
    back();
    drawThresholds();
  });
  slider.addEventListener("input", move);
  page.find("threshold-back").addEventListener("click", back);
  chooseAttribute();
  page.redraws.push(drawThresholds, drawReliability);
})();
