"use strict";
// What the page's scripts share: the data block, small helpers, and redrawing when light and dark change.

const page = {
  data: JSON.parse(document.getElementById("data").textContent),
  redraws: [],

  find: (id) => document.getElementById(id),

  // Text only ever enters the page as text, never as markup.
  make(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  },

  fill(select, entries) {
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  },

  // A colour of the style sheet, which knows light from dark.
  colour: (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(),

  share: (value) => (value === null ? "–" : value.toFixed(3)),

  // Draws now, and again whenever the colours change.
  draw(make) {
    page.redraws.push(make);
    make();
  },
};

document.documentElement.classList.add("scripted");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.redraws.forEach((make) => make()));
