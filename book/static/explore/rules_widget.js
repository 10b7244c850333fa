// The rules of the correction on a grid of five by five, every place of which can be edited.
"use strict";
globalThis.explore ??= {};
(explore.widgets ??= {}).rules = (stage, { grids, high: first, low: second, tau: third }) => {
  const { _, listed, tag, button, slider, choice, variable, legend, em, rules } = explore;
  const SIDE = 5, SIDES = [_`above`, _`below`, _`to the left`, _`to the right`], EDGES = ["top", "bottom", "left", "right"];
  const LABELS = { 0: _`background`, 1: _`class 1`, 2: _`class 2`, 255: _`left out` };
  const near = rules.around(SIDE, SIDE);
  let name = Object.keys(grids)[0], chosen, grid, noise, alike, rule, after;

  const numbered = (n) => [Math.floor(n / SIDE) + 1, (n % SIDE) + 1];
  const region = (n) => (noise[n] > high.get() ? "R_h" : low.get() < noise[n] && noise[n] < high.get() ? "R_u" : _`kept`);
  const heard = (n) => ({ onclick: () => choose(n), onkeydown: (event) => move(event, n) });
  const places = near.map((_, n) => tag("button", { type: "button", class: "place", ...heard(n) }));
  const results = near.map(() => tag("div", { class: "place" }));
  const before = tag("div", { class: "grid", role: "group", "aria-label": _`before the correction; the arrow keys move` }, places);
  const result = tag("div", { class: "grid", role: "img" }, results);
  const mixture = tag("p"), status = tag("p", { role: "status" });

  const compute = () => {
    const angle = grid.degrees.map((degrees) => (degrees * Math.PI) / 180);
    const fitted = em.fit(grid.confidence, grid.confidence.map(() => 1), { limit: 1000, tolerance: 1e-9 });
    noise = em.noise(grid.confidence, fitted);
    alike = rules.similarity(angle.map((a) => [Math.cos(a), Math.sin(a)]), near);
    rule = rules.which(noise, alike, high.get(), low.get(), tau.get());
    after = rules.rewritten(grid.labels, rule, alike, near);
    const numbers = Object.entries({ μ: fitted.mean, σ: fitted.variance.map(Math.sqrt), λ: fitted.weight });
    const said = [1, 2].map((k) => numbers.map(([letter, pair]) => [", ", ...variable(letter, k), ` = ${pair[k - 1].toFixed(2)}`]));
    mixture.replaceChildren(_`Mixture of the 25 confidences:`, " ", ...said.flat(2).slice(1), ".");
  };

  const why = (n) => {
    const where = region(n), label = LABELS[after[n]], g = _`noise probability ${noise[n].toFixed(4)}, ${where}`;
    if (!where.startsWith("R_")) return _`${g}: it stays ${label}.`;
    const unlike = SIDES.filter((_, k) => alike[n][k] < tau.get());
    const most = rules.nearest(alike[n], near[n]);
    if (unlike.length) return _`${g}; unlike its neighbour ${listed(unlike)}: a boundary, so background.`;
    if (where === "R_h") return _`${g}; all neighbours alike: left out.`;
    return _`${g}; all neighbours alike, most the one ${SIDES[most]}, whose label it takes: ${label}.`;
  };

  const draw = () => {
    compute();
    places.forEach((place, n) => {
      [[place, grid.labels[n]], [results[n], after[n]]].forEach(([cell, label]) => {
        cell.dataset.label = label;
        EDGES.forEach((edge, k) => cell.classList.toggle(`unlike-${edge}`, alike[n][k] < tau.get()));
      });
      const [g, direction, x] = [noise[n].toFixed(2), grid.degrees[n], grid.confidence[n]];
      place.replaceChildren(tag("span", { class: "arrow", style: `rotate: ${-direction}deg` }, "➝"), tag("span", {}, g));
      const [row, column] = numbered(n), label = LABELS[grid.labels[n]];
      place.setAttribute("aria-label",
        _`row ${row}, column ${column}: ${label}, confidence ${x}, noise ${g}, feature ${direction}°`);
      place.setAttribute("aria-pressed", n === chosen);
      place.tabIndex = n === chosen ? 0 : -1;
      const [letter, index] = region(n).split("_");
      results[n].replaceChildren(...(index ? variable(letter, index) : []));
      results[n].classList.toggle("changed", after[n] !== grid.labels[n]);
    });
    result.setAttribute("aria-label", _`after the correction, row by row: ${listed(after.map((label) => LABELS[label]))}`);
    const sentence = why(chosen), [row, column] = numbered(chosen);
    const parts = _`Row ${row}, column ${column}: ${sentence}`.split(/(R_[hu])/);
    status.replaceChildren(...parts.flatMap((part) => (part.startsWith("R_") ? variable("R", part[2]) : [part])));
  };

  const choose = (n) => {
    chosen = n;
    confidence.set(grid.confidence[n]);
    degrees.set(grid.degrees[n]);
    label.set(grid.labels[n]);
    draw();
  };
  const move = (event, n) => {
    const to = near[n][["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"].indexOf(event.key)];
    if (to === undefined || to < 0) return;
    event.preventDefault();
    choose(to);
    places[to].focus();
  };
  const edit = (what) => (to) => { grid[what][chosen] = to; draw(); };
  const pick = (to) => {
    name = to;
    grid = Object.fromEntries(Object.entries(grids[name]).map(([what, values]) => [what, [...values]]));
    choose(13); // the middle of what has spilled over
  };
  const reset = () => { high.set(first); low.set(second); tau.set(third); pick(name); };

  const high = slider("θ_h", { value: first }, (to) => { if (low.get() > to) low.set(to); draw(); });
  const low = slider("θ_l", { value: second }, (to) => { if (high.get() < to) high.set(to); draw(); });
  const tau = slider("τ", { min: -1, value: third }, draw);
  const letters = [[high, "θ", "h"], [low, "θ", "l"], [tau, "τ"]];
  letters.forEach(([{ row }, letter, index]) => row.firstChild.replaceChildren(...variable(letter, index)));
  const confidence = slider(_`confidence`, {}, edit("confidence"));
  const degrees = slider(_`feature`, { max: 180, step: 1, unit: "°" }, edit("degrees"));
  const label = choice(_`label`, Object.entries(LABELS), (to) => edit("labels")(+to));

  stage.append(choice(_`grid`, Object.keys(grids).map((each) => [each, each]), pick).row,
    tag("div", { class: "two" },
      tag("figure", {}, before,
        tag("figcaption", {}, _`before: label, feature (arrow), noise probability; a line parts unlike neighbours`)),
      tag("figure", {}, result, tag("figcaption", {}, _`after: label and region; what has changed is framed`))),
    legend(LABELS),
    status, tag("div", { class: "two" },
      tag("fieldset", { class: "sliders" }, tag("legend", {}, _`the chosen place`), confidence.row, degrees.row, label.row),
      tag("fieldset", { class: "sliders" }, tag("legend", {}, _`thresholds`), high.row, low.row, tau.row)),
    mixture, tag("div", { class: "buttons" }, button(_`Start again`, reset)));
  pick(name);
};
