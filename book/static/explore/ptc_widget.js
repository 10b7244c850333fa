// Patch token contrast on tokens in the plane, which can be dragged; a step goes against the gradient.
"use strict";
globalThis.explore ??= {};
(explore.widgets ??= {}).ptc = (stage, { tokens: given, labels: named, rate }) => {
  const { _, listed, tag, svg, button, slider, choice, curve, at, table, legend, ptc } = explore;
  const SIZE = 360, UNIT = 130, REACH = 1.3, LABELS = { 0: _`label 0`, 1: _`label 1`, 2: _`label 2`, 255: _`none` };
  const shown = ([x, y]) => [SIZE / 2 + UNIT * x, SIZE / 2 - UNIT * y];
  let tokens, labels, history, chosen = 0;

  const heard = (n) => ({ onpointerdown: (event) => hold(event, n), onpointermove: (event) => drag(event, n) });
  const handles = given.map((_, n) => svg("g", { class: "token", ...heard(n) },
    svg("line", { x1: SIZE / 2, y1: SIZE / 2 }), svg("line", { class: "slope" }),
    svg("circle", { r: 19, class: "reach" }), svg("circle", { r: 11 }), svg("text", { dy: 4.5 })));
  const unit = svg("circle", { class: "unit", cx: SIZE / 2, cy: SIZE / 2, r: UNIT });
  const picture = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", class: "plane" }, unit, handles);
  const losses = curve(_`loss`), terms = tag("div"), status = tag("p", { role: "status" });

  const loss = () => ptc.pullAndPush(tokens, labels);
  const polar = ([x, y]) => [(((Math.atan2(y, x) * 180) / Math.PI) + 360) % 360, Math.hypot(x, y)];
  const draw = () => {
    const slope = ptc.gradient(tokens, labels), [pull, push] = loss();
    handles.forEach((handle, n) => {
      const [x, y] = shown(tokens[n]), [u, v] = shown(tokens[n].map((value, d) => value - rate * slope[n][d]));
      const moved = [{ x2: x, y2: y }, { x1: x, y1: y, x2: u, y2: v }, { cx: x, cy: y }, { cx: x, cy: y }, { x, y }];
      moved.forEach((to, k) => Object.entries(to).forEach(([key, v]) => handle.children[k].setAttribute(key, v.toFixed(1))));
      handle.dataset.label = labels[n];
      handle.classList.toggle("chosen", n === chosen);
      handle.lastChild.textContent = n + 1;
    });
    const rows = [[_`equal labels: 1 − cosine`, pull], [_`different labels: cosine`, push], [_`loss, their sum`, pull + push]];
    terms.replaceChildren(table([_`pairs`, _`mean`], rows.map(([name, value]) => [name, value.toFixed(3)])));
    losses.show(history);
    const [angle, length] = polar(tokens[chosen]);
    const said = tokens.map((token, n) => _`${LABELS[labels[n]]} at ${polar(token)[0].toFixed(0)}°`);
    picture.setAttribute("aria-label", _`${tokens.length} tokens as arrows: ${listed(said)}`);
    const label = LABELS[labels[chosen]];
    const [sum, steps, number] = [(pull + push).toFixed(4), history.length - 1, chosen + 1];
    const [direction, size] = [angle.toFixed(0), length.toFixed(2)];
    status.textContent = _`Loss ${sum} after ${steps} steps. Token ${number}, ${label}: at ${direction}°, length ${size}.`;
  };
  const follow = () => { // the controls, to where the chosen token is
    const [angle, length] = polar(tokens[chosen]);
    direction.set(angle);
    size.set(length);
    which.set(chosen);
    label.set(labels[chosen]);
  };
  const total = () => loss().reduce((a, b) => a + b);
  const changed = () => { history = [total()]; draw(); };
  const choose = (n) => { chosen = n; follow(); draw(); };
  const step = (times) => {
    for (let k = 0; k < times; k++) {
      tokens = ptc.step(tokens, labels, rate);
      history.push(total());
    }
    follow();
    draw();
  };
  const start = () => { [tokens, labels] = [given.map((token) => [...token]), [...named]]; follow(); changed(); };

  const place = (n, [x, y]) => {
    const length = Math.hypot(x, y), kept = Math.max(0.2, Math.min(REACH, length)); // one without a length has no direction
    tokens[n] = length > 0 ? [(x * kept) / length, (y * kept) / length] : [0.2, 0];
  };
  const hold = (event, n) => { event.currentTarget.setPointerCapture(event.pointerId); choose(n); };
  const drag = (event, n) => {
    if (!event.buttons || n !== chosen) return;
    const [u, v] = at(picture, event);
    place(n, [(u - SIZE / 2) / UNIT, (SIZE / 2 - v) / UNIT]);
    follow();
    changed();
  };
  const turn = () => {
    const angle = (direction.get() * Math.PI) / 180;
    place(chosen, [size.get() * Math.cos(angle), size.get() * Math.sin(angle)]);
    changed();
  };
  const which = choice(_`token`, given.map((_, n) => [n, `${n + 1}`]), (to) => choose(+to));
  const direction = slider(_`direction`, { max: 360, step: 1, unit: "°" }, turn);
  const size = slider(_`length`, { min: 0.2, max: REACH }, turn);
  const label = choice(_`label`, Object.entries(LABELS), (to) => { labels[chosen] = +to; changed(); });

  stage.append(tag("div", { class: "two" }, tag("div", {}, picture, legend(LABELS)),
    tag("div", {}, terms, tag("p", { class: "axis-name" }, _`loss, step by step`), losses.picture,
      tag("div", { class: "sliders" }, which.row, label.row, direction.row, size.row))),
    tag("div", { class: "buttons" },
      button(_`Gradient step`, () => step(1)), button(_`20 steps`, () => step(20)), button(_`Start again`, start)), status);
  start();
};
