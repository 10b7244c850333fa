// EM step by step on a histogram that is picked or drawn.
"use strict";
globalThis.explore ??= {};
(explore.widgets ??= {}).em = (stage, { maps }) => {
  const { _, tag, svg, button, slider, choice, curve, at, variable, table, em } = explore;
  const WIDTH = 480, HEIGHT = 240, LEFT = 12, BOTTOM = 210, TOP = 22, LIMIT = 2000;
  const x = Object.values(maps)[0].map((_, n, all) => (n + 0.5) / all.length), bins = x.length;
  const across = (value) => LEFT + value * (WIDTH - 2 * LEFT);
  const PARTS = { low: _`low`, high: _`high` };
  let count, mixture, shares, history, most;

  const up = (density) => BOTTOM - (BOTTOM - TOP) * Math.min(1, density / most);
  const width = (WIDTH - 2 * LEFT) / bins - 1;
  const bars = x.map((_, n) => ["", "low", "high"].map((part) =>
    svg("rect", { class: `bar ${part}`, x: across(n / bins), width })));
  const curves = ["sum", "low", "high"].map((part) => svg("path", { class: `bell ${part}` }));
  const means = ["low", "high"].map((part, k) => svg("g", { class: part }, svg("line", { y1: TOP - 4, y2: BOTTOM }),
    svg("text", { y: 14 }, "μ", svg("tspan", { dy: 3, "font-size": 11 }, k + 1))));
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1].map((v) => svg("text", { class: "tick", x: across(v), y: 226 }, v));
  const axis = svg("line", { class: "axis", x1: LEFT, x2: WIDTH - LEFT, y1: BOTTOM, y2: BOTTOM });
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "histogram" },
    bars.flat(), curves, means, ticks, axis);
  const likelihoods = curve(_`mean log-likelihood`), numbers = tag("div"), status = tag("p", { role: "status" });

  const density = (value) => em.logJoint(value, mixture).map(Math.exp);
  const point = (value, of) => `${across(value).toFixed(1)},${up(of(density(value))).toFixed(1)}`;
  const path = (of) => `M${Array.from({ length: 401 }, (_, k) => point(k / 400, of)).join("L")}`;

  const draw = () => {
    const total = Math.max(1, count.reduce((a, b) => a + b, 0));
    bars.forEach((stack, n) => {
      const height = BOTTOM - up((count[n] * bins) / total), low = shares ? height * shares[0][n] : 0;
      const parts = [[BOTTOM - height, shares ? 0 : height], [BOTTOM - low, low], [BOTTOM - height, shares ? height - low : 0]];
      stack.forEach((bar, k) => ["y", "height"].forEach((name, i) => bar.setAttribute(name, parts[k][i])));
    });
    [([a, b]) => a + b, ([a]) => a, ([, b]) => b].forEach((of, k) => curves[k].setAttribute("d", path(of)));
    means.forEach((mark, k) => mark.setAttribute("transform", `translate(${across(mixture.mean[k]).toFixed(1)} 0)`));
    likelihoods.show(history);
    const said = (values) => values.map((v) => v.toFixed(3));
    const [mean, deviation, weight] = [mixture.mean, mixture.variance.map(Math.sqrt), mixture.weight].map(said);
    const key = (part) => tag("span", { class: `key ${part}` });
    const row = (part, k) => [[key(part), `${PARTS[part]} (${k + 1})`], mean[k], deviation[k], weight[k]];
    numbers.replaceChildren(table([_`bell`, variable("μ"), variable("σ"), variable("λ")], ["low", "high"].map(row)));
    const [one, other] = deviation;
    picture.setAttribute("aria-label",
      _`Histogram of ${total} values with two bells: means ${mean[0]} and ${mean[1]}, standard deviations ${one} and ${other}`);
    next.textContent = shares ? _`M-step: move the bells` : _`E-step: who accounts for what`;
    const gain = history.length > 1 ? ` (${(history.at(-1) - history.at(-2)).toExponential(1)})` : "";
    const equal = _`All values are equal: nothing to split.`, single = mixture.weight[0] > 0 ? "" : ` ${equal}`;
    status.textContent = _`Iteration ${history.length - 1}: mean log-likelihood ${history.at(-1).toFixed(4)} nats${gain}.${single}`;
  };

  const height = () => em.likelihood(em.eStep(x, mixture).evidence, count);
  const restart = () => {
    mixture = em.start(x, count);
    [shares, history] = [null, [height()]];
    draw();
  };
  const half = () => {
    if (!(mixture.weight[0] > 0)) return; // nothing to split
    if (!shares) shares = em.eStep(x, mixture).posterior;
    else {
      mixture = em.mStep(x, count, shares);
      shares = null;
      history.push(height());
    }
  };
  const whole = (turns, tolerance) => {
    for (let turn = 0; turn < turns; turn++) {
      do half(); while (shares);
      if (history.at(-1) - history.at(-2) < tolerance) break;
    }
    draw();
  };
  const pick = (name) => {
    count = [...maps[name]];
    most = (1.15 * bins * Math.max(...count)) / count.reduce((a, b) => a + b, 0);
    bar.input.max = Math.max(...count);
    bar.set(count[Math.floor(place.get() * bins)]);
    restart();
  };
  const put = (n, to) => {
    count[n] = to;
    if (!count.some((c) => c)) count[n] = 1; // a histogram of nothing has no likelihood
    place.set(x[n]);
    bar.set(count[n]);
    restart();
  };

  const bin = () => Math.min(bins - 1, Math.floor(place.get() * bins));
  const ends = { min: x[0], max: x[bins - 1], step: 1 / bins, value: x[bins >> 1] };
  const place = slider(_`at confidence`, ends, () => bar.set(count[bin()]));
  const bar = slider(_`how many values`, { min: 0, max: 1, step: 1 }, (to) => put(bin(), to));
  const next = button("", () => { half(); draw(); });
  const drawn = (event) => {
    const [u, v] = at(picture, event), n = Math.floor(((u - LEFT) / (WIDTH - 2 * LEFT)) * bins);
    if (n < 0 || n >= bins) return;
    put(n, Math.max(0, Math.min(+bar.input.max, Math.round(((BOTTOM - v) / (BOTTOM - TOP)) * 1.15 * bar.input.max))));
  };
  picture.addEventListener("pointerdown", (event) => { picture.setPointerCapture(event.pointerId); drawn(event); });
  picture.addEventListener("pointermove", (event) => { if (event.buttons) drawn(event); });

  stage.append(choice(_`values`, Object.keys(maps).map((name) => [name, name]), pick).row,
    picture, tag("p", { class: "axis-name" }, _`confidence`, " ", variable("x")),
    tag("div", { class: "buttons" }, next, button(_`10 iterations`, () => whole(10, -Infinity)),
      button(_`To the end`, () => whole(LIMIT, 1e-10)), button(_`Start again`, restart)),
    status, tag("div", { class: "two" }, numbers,
      tag("div", {}, likelihoods.picture, tag("p", { class: "axis-name" }, _`mean log-likelihood, nats`))),
    tag("fieldset", { class: "sliders" }, tag("legend", {}, _`your own histogram: drag across the bars, or`), place.row, bar.row));
  pick(Object.keys(maps)[0]);
};
