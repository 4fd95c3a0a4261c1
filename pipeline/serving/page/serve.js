"use strict";
// Photos that are dropped, pasted or chosen are sent one by one; what the server answers is shown and kept in this tab.

(() => {
  const AT_ONCE = 4;
  const TRIES = 8;
  const LIKELY = 0.05;
  const SHOWN = 3;
  const find = (id) => document.getElementById(id);
  const [list, slider, own, csv, clear, told, files, chooser] = ["results", "threshold", "own", "csv", "clear", "told", "files", "model"].map(find);
  const photos = [];
  const waiting = [];
  let known = null;
  let model = null;
  let threshold = null;
  let sending = 0;

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    Object.assign(element, attributes);
    element.append(...children);
    return element;
  }

  const percent = (p) => (p > 0 && p < 0.005 ? "<1 %" : `${Math.round(100 * p)} %`);

  async function start() {
    find("address").textContent = new URL("/predict", location).href;
    try {
      known = await (await fetch("/labels")).json();
    } catch {
      told.textContent = "The server does not answer; reload the page once it runs again.";
      return;
    }
    chooser.replaceChildren(...known.models.map((each) => make("option", { value: each.name, textContent: each.name })));
    find("model-choice").hidden = known.models.length < 2;
    choose(known.models[0].name);
    send();
  }

  function choose(name) {
    model = known.models.find((each) => each.name === name);
    const values = model.attributes.reduce((sum, attribute) => sum + attribute.values.length, 0);
    const facts = [["model", model.name], ["attributes", model.attributes.length], ["values", values], ["thresholds", model.decision]];
    find("facts").replaceChildren(...facts.map(([what, value]) => make("li", {}, `${what} `, make("b", {}, String(value)))));
    find("notes").replaceChildren(...model.notes.map((note) => make("li", { textContent: note })));
    photos.forEach(ask);
  }

  function add(given) {
    for (const file of given) {
      const photo = { file, name: file.name || `pasted ${photos.length + 1}`, open: new Set(), asked: 0 };
      photo.item = card(photo);
      photos.push(photo);
      list.append(photo.item);
      ask(photo);
    }
    files.value = "";
  }

  function ask(photo) {
    photo.asked += 1;
    photo.chances = photo.error = photo.values = null;
    if (known && photo.file.size > known.limits.bytes) photo.error = `more than the ${known.limits.bytes} bytes that the server takes`;
    else if (!waiting.includes(photo)) waiting.push(photo);
    show(photo);
    send();
  }

  function send() {
    while (known && sending < AT_ONCE && waiting.length) {
      sending += 1;
      const photo = waiting.shift();
      const asked = photo.asked;
      answered(photo).then((answer) => {
        sending -= 1;
        if (photo.asked === asked) show(Object.assign(photo, answer));
        send();
      });
    }
    tell();
  }

  async function answered(photo) {
    const address = `/predict?model=${encodeURIComponent(model.name)}`;
    for (let tried = 1; ; tried += 1) {
      try {
        const body = await photo.file.arrayBuffer();
        const answer = await fetch(address, { method: "POST", body, headers: { "content-type": "application/octet-stream" } });
        const again = answer.headers.get("retry-after");
        if (again && tried < TRIES) {
          await new Promise((done) => setTimeout(done, 1000 * Math.min(Number(again) || 1, 10)));
          continue;
        }
        const said = await answer.json();
        if (!said.photos) return { error: said.error.text };
        const [of] = said.photos;
        return of.error ? { error: of.error.text } : { chances: of.probabilities, values: of.values };
      } catch (error) {
        return { error: error.name === "NotReadableError" || error.name === "NotFoundError" ? "it cannot be read" : "the server did not answer" };
      }
    }
  }

  function card(photo) {
    const address = URL.createObjectURL(photo.file);
    const image = make("img", { src: address, alt: "" });
    const picture = make("div", { className: "picture" }, image);
    image.addEventListener("error", () => picture.replaceChildren("no preview of this format"));
    const remove = make("button", { type: "button", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove ${photo.name}`);
    remove.addEventListener("click", () => {
      drop(photo);
      (list.querySelector("button") ?? files).focus();
      tell();
    });
    photo.forget = () => URL.revokeObjectURL(address);
    return make("li", { className: "shot" }, picture, make("header", {}, make("h3", {}, make("bdi", { textContent: photo.name })), remove));
  }

  function drop(photo) {
    photo.asked += 1;
    photo.forget();
    photo.item.remove();
    photos.splice(photos.indexOf(photo), 1);
    if (waiting.includes(photo)) waiting.splice(waiting.indexOf(photo), 1);
  }

  // With the model's own thresholds the server has decided; with another one the page does, by the same rule.
  function decide(photo) {
    if (threshold !== null) return rules.decided(model, photo.chances, threshold);
    return Object.fromEntries(model.attributes.map(({ name }) => [name, [photo.values[name] ?? []].flat()]));
  }

  function show(photo) {
    photo.item.querySelector(":scope > :nth-child(3)")?.remove();
    if (photo.error) photo.item.append(make("p", { className: "failed", textContent: `Not taken: ${photo.error}` }));
    else if (!photo.chances) photo.item.append(make("p", { className: "soft", textContent: "waiting for its answer …" }));
    else {
      photo.said = decide(photo);
      photo.item.append(make("div", { className: "attributes" }, ...model.attributes.map((attribute) => of(photo, attribute))));
    }
  }

  function of(photo, { name, values }) {
    const chances = photo.chances[name];
    const said = photo.said[name];
    const ranked = values.filter((value) => value !== UNKNOWN).sort((a, b) => chances[b] - chances[a]);
    const shown = ranked.filter((value, i) => said.includes(value) || (i < SHOWN && (i === 0 || chances[value] >= LIKELY)));
    const answer = said.length ? make("p", { className: "said" }, make("bdi", { textContent: said.join(", ") })) : make("p", { className: "said unknown" }, make("span", { textContent: "unknown" }));
    const part = make("div", { className: "attribute" }, make("h4", { textContent: name }), answer, bars(name, shown, chances, said));
    const rest = ranked.filter((value) => !shown.includes(value));
    if (rest.length) part.append(others(photo, name, rest, chances, said));
    return part;
  }

  function others(photo, name, rest, chances, said) {
    const details = make("details", { open: photo.open.has(name) }, make("summary", { textContent: `${rest.length} less likely` }));
    const fill = () => details.children.length < 2 && details.append(bars(name, rest, chances, said));
    details.addEventListener("toggle", () => {
      photo.open[details.open ? "add" : "delete"](name);
      if (details.open) fill();
    });
    if (details.open) fill();
    return details;
  }

  function bars(name, values, chances, said) {
    return make("ul", { className: "bars" }, ...values.map((value) => {
      const full = make("i", {});
      full.style.width = `${100 * chances[value]}%`;
      const bar = make("div", { className: "bar" }, full);
      const limit = threshold ?? model.thresholds[name][value];
      if (limit > 0 && limit <= 1) {
        const mark = make("b", { title: `threshold ${limit.toFixed(2)}` });
        mark.style.left = `${100 * limit}%`;
        bar.append(mark);
      }
      bar.setAttribute("aria-hidden", "true");
      return make("li", { className: said.includes(value) ? "decided" : "" }, make("bdi", { textContent: value, title: value }), bar, make("span", { className: "p", textContent: percent(chances[value]) }));
    }));
  }

  function tell() {
    const [taken, failed] = [photos.filter((photo) => photo.chances).length, photos.filter((photo) => photo.error).length];
    const left = photos.length - taken - failed;
    const parts = [`${taken} of ${photos.length} photo${photos.length === 1 ? "" : "s"} answered`, failed && `${failed} not taken`, left && `${left} on the way`];
    told.textContent = photos.length ? parts.filter(Boolean).join(", ") : "No photos yet.";
    csv.disabled = !taken && !failed;
    clear.disabled = !photos.length;
  }

  function setThreshold(to) {
    threshold = to;
    own.disabled = to === null;
    own.parentElement.classList.toggle("chosen", to !== null);
    find("threshold-now").textContent = to === null ? "the model's own" : to.toFixed(2);
    slider.setAttribute("aria-valuetext", find("threshold-now").textContent);
    photos.filter((photo) => photo.chances).forEach(show);
  }

  function save() {
    const finished = photos.filter((photo) => photo.chances || photo.error);
    const address = URL.createObjectURL(new Blob([rules.csv(model, finished)], { type: "text/csv" }));
    make("a", { href: address, download: "predictions.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  slider.addEventListener("input", () => setThreshold(Number(slider.value)));
  own.addEventListener("click", () => setThreshold(null));
  csv.addEventListener("click", save);
  clear.addEventListener("click", () => {
    [...photos].forEach(drop);
    tell();
    files.focus();
  });
  chooser.addEventListener("change", () => choose(chooser.value));
  files.addEventListener("change", () => add(files.files));
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", name === "dragenter" || name === "dragover");
      if (name === "drop") add(event.dataTransfer.files);
    });
  }
  setThreshold(null);
  start();
})();
