"use strict";
// The plane: where the reader looks, and the points painted there, pixel by pixel: no graphics card is needed, and
// a hundred thousand points take a few milliseconds.

const plane = (() => {
  const canvas = page.find("map");
  const over = page.find("map-over");
  const context = canvas.getContext("2d", { alpha: false });
  const above = over.getContext("2d");
  const look = { x: 0, y: 0, zoom: 1 };
  const MOST = 60;
  let image = null;
  let pixels = null;
  let ratio = 1;
  let due = false;
  // What is drawn, in the order in which it is drawn: read from end to end, which is several times faster.
  let drawn = { x: new Float32Array(0), y: new Float32Array(0), inks: new Uint32Array(0) };
  const hidden = new Uint8Array(points.count);
  const listeners = [];
  const state = { hover: -1, lasso: [], selected: null, painted: 0 };

  const ink = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const scale = () => (Math.min(canvas.width, canvas.height) / 2) * 0.94 * look.zoom;
  const toScreen = (i) => [canvas.width / 2 + (points.x[i] - look.x) * scale(), canvas.height / 2 - (points.y[i] - look.y) * scale()];
  const toPlane = (sx, sy) => [look.x + (sx * ratio - canvas.width / 2) / scale(), look.y - (sy * ratio - canvas.height / 2) / scale()];
  // Denser maps have smaller points; they grow as the reader comes nearer.
  const radius = () => Math.min(9, Math.max(0.8, Math.sqrt(9000 / (points.count + 400)) * 2.1) * Math.pow(look.zoom, 0.45)) * ratio;

  function resize() {
    const box = canvas.getBoundingClientRect();
    ratio = Math.min(devicePixelRatio || 1, 2);
    for (const each of [canvas, over]) {
      each.width = Math.max(1, Math.round(box.width * ratio));
      each.height = Math.max(1, Math.round(box.height * ratio));
    }
    image = context.createImageData(canvas.width, canvas.height);
    pixels = new Uint32Array(image.data.buffer);
    request();
  }

  // Half the width of each row of a disc.
  function disc(r) {
    const rows = [];
    const most = Math.floor(r + 0.2);
    for (let dy = -most; dy <= most; dy++) rows.push([dy, Math.floor(Math.sqrt(Math.max(0, r * r - dy * dy)) + 0.2)]);
    return rows;
  }

  function paint() {
    const started = performance.now();
    const { width, height } = canvas;
    pixels.fill(ink(points.rgb(page.colour("card"))));
    const k = scale();
    const left = width / 2 - look.x * k;
    const top = height / 2 + look.y * k;
    const rows = disc(radius());
    const { x, y, inks } = drawn;
    for (let i = 0; i < x.length; i++) {
      const cx = (left + x[i] * k + 0.5) | 0;
      const cy = (top - y[i] * k + 0.5) | 0;
      if (cx < -20 || cy < -20 || cx > width + 20 || cy > height + 20) continue;
      const colour = inks[i];
      for (let r = 0; r < rows.length; r++) {
        const py = cy + rows[r][0];
        if (py < 0 || py >= height) continue;
        const half = rows[r][1];
        const from = cx - half < 0 ? 0 : cx - half;
        const to = cx + half >= width ? width - 1 : cx + half;
        for (let p = py * width + from, end = py * width + to; p <= end; p++) pixels[p] = colour;
      }
    }
    context.putImageData(image, 0, 0);
    paintOver();
    state.painted = performance.now() - started;
  }

  function paintOver() {
    above.clearRect(0, 0, over.width, over.height);
    if (state.hover >= 0) {
      const [sx, sy] = toScreen(state.hover);
      above.strokeStyle = page.colour("ink");
      above.lineWidth = 2 * ratio;
      above.beginPath();
      above.arc(sx, sy, radius() + 4 * ratio, 0, 7);
      above.stroke();
    }
    if (state.lasso.length > 1) {
      above.strokeStyle = page.colour("accent");
      above.lineWidth = 2 * ratio;
      above.setLineDash([6 * ratio, 4 * ratio]);
      above.beginPath();
      for (const [sx, sy] of state.lasso) above.lineTo(sx * ratio, sy * ratio);
      above.closePath();
      above.stroke();
      above.setLineDash([]);
    }
  }

  function request(all = true) {
    if (all) for (const listener of listeners) listener();
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      paint();
    });
  }

  // Colours of all points: those not selected fade towards the page.
  function dress({ classes, hues }, gone) {
    const card = points.rgb(page.colour("card"));
    const plain = hues.map((hue) => points.rgb(points.colour(hue)));
    const full = plain.map(ink);
    const faded = plain.map((c) => ink(c.map((v, i) => Math.round(card[i] + (v - card[i]) * 0.16))));
    const counts = new Array(hues.length).fill(0);
    for (let i = 0; i < points.count; i++) counts[classes[i]]++;
    const chosen = state.selected;
    // Greys first, then the rarer the higher; what is selected lies above all.
    const grey = (c) => (hues[c] === "majority" ? 0 : 1);
    const ranked = hues.map((_, c) => c).sort((a, b) => grey(a) - grey(b) || counts[b] - counts[a]);
    const layers = [...hues, ...hues].map(() => []);
    const place = hues.map((_, c) => ranked.indexOf(c));
    const layer = (i) => place[classes[i]] + (chosen && chosen[i] ? hues.length : 0);
    for (let i = 0; i < points.count; i++) {
      hidden[i] = gone.has(classes[i]) ? 1 : 0;
      if (!hidden[i]) layers[layer(i)].push(i);
    }
    const order = layers.flat();
    drawn = {
      x: Float32Array.from(order, (i) => points.x[i]),
      y: Float32Array.from(order, (i) => points.y[i]),
      inks: Uint32Array.from(order, (i) => (chosen && !chosen[i] ? faded : full)[classes[i]]),
    };
    request(false);
    return counts;
  }

  // The nearest point that is shown, at most `reach` pixels away; -1 for none.
  function nearest(sx, sy, reach) {
    const [px, py] = toPlane(sx, sy);
    let best = -1;
    let least = ((reach * ratio) / scale()) ** 2;
    for (let i = 0; i < points.count; i++) {
      const dx = points.x[i] - px;
      const dy = points.y[i] - py;
      const d = dx * dx + dy * dy;
      if (d <= least && !hidden[i]) {
        least = d;
        best = i;
      }
    }
    return best;
  }

  function pan(dx, dy) {
    look.x = Math.min(1.2, Math.max(-1.2, look.x - (dx * ratio) / scale()));
    look.y = Math.min(1.2, Math.max(-1.2, look.y + (dy * ratio) / scale()));
    request();
  }

  // Zooms and keeps what is under a place of the screen there.
  function zoom(factor, sx = canvas.clientWidth / 2, sy = canvas.clientHeight / 2) {
    const before = toPlane(sx, sy);
    look.zoom = Math.min(MOST, Math.max(0.7, look.zoom * factor));
    const after = toPlane(sx, sy);
    look.x += before[0] - after[0];
    look.y += before[1] - after[1];
    pan(0, 0);
  }

  function reset() {
    Object.assign(look, { x: 0, y: 0, zoom: 1 });
    request();
  }

  function centre(i) {
    Object.assign(look, { x: points.x[i], y: points.y[i], zoom: Math.max(look.zoom, 4) });
    request();
  }

  // Shown points inside a polygon of screen places.
  function inside(polygon) {
    const corners = polygon.map(([sx, sy]) => toPlane(sx, sy));
    const found = [];
    for (let i = 0; i < points.count; i++) {
      if (hidden[i]) continue;
      const px = points.x[i];
      const py = points.y[i];
      let within = false;
      for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
        const [ax, ay] = corners[a];
        const [bx, by] = corners[b];
        if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) within = !within;
      }
      if (within) found.push(i);
    }
    return found;
  }

  const view = () => inside([[0, 0], [canvas.clientWidth, 0], [canvas.clientWidth, canvas.clientHeight], [0, canvas.clientHeight]]);

  resize();
  new ResizeObserver(resize).observe(canvas);
  return { canvas, look, state, dress, nearest, pan, zoom, reset, centre, inside, view, request, paintOver, onMove: (call) => listeners.push(call) };
})();
