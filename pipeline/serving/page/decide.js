"use strict";
// What the server does with probabilities, for a threshold that the page chooses, and the table as a CSV file.

const UNKNOWN = "#N/A";

const rules = {
  // {attribute: [decided values]} of {attribute: {value: p}}, as `pipeline/evaluation/thresholds.py` has it.
  decided(model, chances, threshold) {
    const said = {};
    for (const { name, values, single } of model.attributes) {
      const p = values.map((value) => chances[name][value]);
      const best = p.indexOf(Math.max(...p));
      const limit = (value) => threshold ?? model.thresholds[name][value];
      said[name] = values.filter((value, i) => p[i] >= limit(value) && (!single || i === best) && value !== UNKNOWN);
      if (values[best] === UNKNOWN) said[name] = [];
    }
    return rules.gated(model, said);
  },

  // Attributes that do not apply to the decided category are silent.
  gated(model, said) {
    const categories = model.gate && said[model.category];
    if (!categories || !categories.length) return said;
    const all = model.attributes.map((attribute) => attribute.name);
    const applies = new Set([model.category, ...categories.flatMap((value) => model.gate[value] ?? all)]);
    return Object.fromEntries(all.map((name) => [name, applies.has(name) ? said[name] : []]));
  },

  // A cell that no spreadsheet runs, as `pipeline/spreadsheet.py` writes it, in quotes where it needs them.
  cell(text) {
    const runs = /^'*[=+\-@\t\r\n＝＋－＠]./s.test(text);
    const number = /^[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?%?$/.test(text);
    const safe = runs && !number ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  },

  // Several values in one cell, as `pipeline/catalogue/joined.py` joins them.
  joined(values) {
    return values.map((value) => value.replace(/(\\*)(\||$)/g, (_, slashes, bar) => slashes + slashes + (bar && `\\${bar}`))).join("|");
  },

  // The table that `predict --probabilities` writes; photos are {name, chances, said}, without chances where rejected.
  csv(model, photos) {
    const names = model.attributes.map((attribute) => attribute.name);
    const rows = [["filename", ...names, ...names.map((name) => `p:${name}`)]];
    for (const { name: file, chances, said } of photos) {
      const values = names.map((name) => (chances && said[name].length ? rules.joined(said[name]) : UNKNOWN));
      const p = names.map((name) => (chances ? said[name].map((value) => chances[name][value]).join("|") : ""));
      rows.push([file, ...values, ...p]);
    }
    return rows.map((row) => `${row.map(rules.cell).join(",")}\n`).join("");
  },
};
