"use strict";
// The points of the map as typed arrays, what each is coloured by, and which value is shown.

const points = (() => {
  const source = page.data;
  const kinds = { 1: Uint8Array, 2: Uint16Array, 4: Int32Array };

  function unpack({ bytes, data }) {
    const text = atob(data);
    const raw = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) raw[i] = text.charCodeAt(i);
    return new kinds[bytes](raw.buffer);
  }

  const column = (packed) => (packed ? { values: packed.values, codes: unpack(packed.codes) } : null);
  const facets = source.facets.map((facet) => ({
    name: facet.name,
    true: column(facet.true),
    predicted: column(facet.predicted),
    judged: facet.judged ? unpack(facet.judged) : null,
  }));
  const count = source.names.length;
  const pictures = { ...source.pictures, of: new Int32Array(count).fill(-1) };
  unpack(source.pictures.photos).forEach((photo, number) => {
    if (photo >= 0) pictures.of[photo] = number;
  });

  const DOUBT_STEPS = 6;
  const VERDICTS = ["truth or prediction unknown", "wrong", "right"];
  const HUES = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "right", "wrong", "mark"];
  const OTHERS = HUES.length;

  // How points are coloured: per point a class, and per class its words, its colour and how many points have it.
  function colouring(facet, shown) {
    if (shown === "part") return byValue(column(source.part));
    if (!facet) return { classes: new Uint8Array(count), words: ["all photos"], hues: ["c0"], more: 0 };
    if (shown === "verdict") {
      const classes = facet.judged.map((code) => code >> 6);
      return { classes, words: VERDICTS, hues: ["majority", "wrong", "right"], more: 0 };
    }
    if (shown === "doubt") return byDoubt(facet.judged);
    return byValue(facet[shown]);
  }

  function byValue({ values, codes }) {
    const many = values.length > HUES.length + 1;
    const last = many ? OTHERS : values.length;
    const classes = codes.map((code) => Math.min(code, last));
    const name = (value) => value || "none said";
    const words = values.slice(0, last).map(name);
    const hues = HUES.slice(0, last);
    for (const [i, value] of values.slice(0, last).entries()) if (value === "#N/A" || value === "") hues[i] = "majority";
    if (many) {
      words.push(`${values.length - last} other values`);
      hues.push("majority");
    }
    while (hues.length < words.length) hues.push("majority");
    return { classes, words, hues, more: many ? values.length - last : 0 };
  }

  function byDoubt(judged) {
    const step = (code) => ((code & 63) === 63 ? DOUBT_STEPS : Math.min(DOUBT_STEPS - 1, Math.floor(((code & 63) / 62) * DOUBT_STEPS)));
    const percent = (i) => Math.round((100 * i) / DOUBT_STEPS);
    const words = [...Array(DOUBT_STEPS).keys()].map((i) => `${percent(i)} to ${percent(i + 1)}\u00a0%`);
    const hues = [...Array(DOUBT_STEPS).keys()].map((i) => `mix:${i / (DOUBT_STEPS - 1)}`);
    return { classes: judged.map(step), words: [...words, "not predicted"], hues: [...hues, "majority"], more: 0 };
  }

  // "#rrggbb" of a class; doubt runs from one colour of the style sheet to another.
  function colour(hue) {
    if (!hue.startsWith("mix:")) return page.colour(hue);
    const [low, high] = ["c0", "c1"].map((name) => rgb(page.colour(name)));
    return `#${low.map((v, i) => Math.round(v + (high[i] - v) * Number(hue.slice(4)))).map((v) => v.toString(16).padStart(2, "0")).join("")}`;
  }

  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  const said = (facet, i) => ({
    true: facet.true.values[facet.true.codes[i]],
    predicted: facet.predicted ? facet.predicted.values[facet.predicted.codes[i]] : "",
    doubt: facet.judged && (facet.judged[i] & 63) !== 63 ? (facet.judged[i] & 63) / 61 : null,
    verdict: facet.judged ? ["", "wrong", "right"][facet.judged[i] >> 6] : "",
  });

  return {
    count, facets, pictures, colouring, colour, rgb, said,
    names: source.names,
    part: column(source.part),
    x: Float32Array.from(unpack(source.x), (v) => v / 32767.5 - 1),
    y: Float32Array.from(unpack(source.y), (v) => v / 32767.5 - 1),
  };
})();
