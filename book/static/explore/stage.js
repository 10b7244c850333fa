// What the explorers share: elements, controls, and the stage that takes the place of a picture once an explorer runs.
// An explorer is explore.widgets[name] = (stage, data) => { ... }, which fills the stage; its maths has no part in the page.
"use strict";
globalThis.explore ??= {};
(() => {
  // A text in the language of the page, by explore.words of the build: _`after ${n} steps` is known there as "after {0} steps".
  const _ = (parts, ...values) => {
    const known = parts.reduce((text, part, n) => `${text}{${n - 1}}${part}`);
    return (explore.words?.[known] ?? known).replace(/\{(\d+)\}/g, (place, n) => values[n]);
  };

  const listed = (texts) => new Intl.ListFormat(document.documentElement.lang, { style: "narrow" }).format(texts);

  const filled = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children.flat(2));
    return element;
  };
  const tag = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
  const SVG = "http://www.w3.org/2000/svg";
  const svg = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

  const button = (text, onclick) => tag("button", { type: "button", onclick }, text);

  // A slider with its name and value in sight: {row, get, set}; `change` hears the reader alone.
  const slider = (name, { min = 0, max = 1, step = 0.01, value = min, unit = "" }, change) => {
    const shown = tag("span", { class: "value" });
    const heard = () => { show(); change(+input.value); };
    const input = tag("input", { type: "range", "aria-label": name, min, max, step, oninput: heard });
    const show = () => {
      shown.textContent = `${+(+input.value).toFixed(3)}${unit}`;
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    const set = (to) => { input.value = to; show(); };
    set(value);
    return { row: tag("label", { class: "slider" }, tag("span", {}, name), input, shown), get: () => +input.value, set, input };
  };

  // A list to choose from: options are [value, text].
  const choice = (name, options, change) => {
    const listed = options.map(([value, text]) => tag("option", { value }, text));
    const select = tag("select", { "aria-label": name, onchange: () => change(select.value) }, listed);
    return { row: tag("label", { class: "choice" }, tag("span", {}, name), select), set: (value) => { select.value = value; } };
  };

  // A small curve of what has been so far, its last value dotted: {picture, show(values)}.
  const curve = (name) => {
    const line = svg("polyline", { class: "curve" }), dot = svg("circle", { class: "dot", r: 4 });
    const [top, low] = [svg("text", { x: 44 }), svg("text", { x: 44 })];
    const picture = svg("svg", { viewBox: "0 0 320 96", role: "img", class: "history" }, line, dot, top, low);
    const show = (values) => {
      const least = Math.min(...values), most = Math.max(...values), range = most - least || 1;
      const across = (n) => 52 + (260 * n) / Math.max(values.length - 1, 8);
      const places = values.map((value, n) => [across(n), 84 - (72 * (value - least)) / range]);
      line.setAttribute("points", places.map((place) => place.map((v) => v.toFixed(1)).join()).join(" "));
      [["cx", 0], ["cy", 1]].forEach(([axis, k]) => dot.setAttribute(axis, places.at(-1)[k]));
      [[top, most, 18], [low, least, 88]].forEach(([text, value, y]) => {
        text.setAttribute("y", y);
        text.textContent = value.toFixed(2);
      });
      if (most === least) top.textContent = "";
      const [from, to] = [values[0], values.at(-1)].map((value) => value.toFixed(3));
      picture.setAttribute("aria-label", _`${name}: from ${from} to ${to} in ${values.length - 1} steps`);
    };
    return { picture, show };
  };

  // Where a pointer is in the units of an SVG's viewBox.
  const at = (picture, event) => {
    const box = picture.getBoundingClientRect(), { width, height } = picture.viewBox.baseVal;
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  };

  // Bytes that dsgc.teaching.explorer has put into the data.
  const bytes = ({ bytes: text }) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  const variable = (letter, index) => [tag("i", {}, letter), ...(index ? [tag("sub", {}, index)] : [])];

  // The first cell of each row is its head.
  const table = (heads, rows) => {
    const head = tag("tr", {}, heads.map((name) => tag("th", { scope: "col" }, name)));
    const row = ([first, ...cells]) => tag("tr", {}, tag("th", { scope: "row" }, first), cells.map((cell) => tag("td", {}, cell)));
    return tag("table", {}, tag("thead", {}, head), tag("tbody", {}, rows.map(row)));
  };

  // What the colours of labels mean: {label: name}.
  const legend = (names) => tag("p", { class: "legend" }, Object.entries(names).map(([label, name]) =>
    tag("span", {}, tag("span", { class: "key", "data-label": label }), name)));

  const mount = (place) => {
    const stage = tag("div", { class: "stage" });
    const data = JSON.parse(place.querySelector('script[type="application/json"]').textContent);
    explore.widgets[place.dataset.explorer](stage, data); // an error here leaves the picture
    place.append(stage);
    place.classList.add("live");
  };

  Object.assign(explore, { _, listed, tag, svg, button, slider, choice, curve, at, bytes, variable, table, legend });
  explore.widgets ??= {};
  addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-explorer]").forEach(mount));
})();
