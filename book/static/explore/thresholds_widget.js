// Two thresholds on a real map, and what the label becomes.
"use strict";
globalThis.explore ??= {};
(explore.widgets ??= {}).thresholds = (stage, data) => {
  const { _, tag, button, slider, bytes, table, thresholds } = explore;
  const [height, width] = data.truth.shape;
  const [image, levels, strongest, truth] = ["image", "confidence", "strongest", "truth"].map((name) => [...bytes(data[name])]);
  const confidence = levels.map((level) => level / 255);
  // VOC's colours: the bits of a label spread over red, green and blue
  const bit = (label, channel, k) => ((label >> (3 * k + channel)) & 1) << (7 - k);
  const mixed = (label, channel) => bit(label, channel, 0) | bit(label, channel, 1) | bit(label, channel, 2);
  const colour = (label) => [0, 1, 2].map((channel) => mixed(label, channel));
  const HEAT = [[0, 0, 4], [80, 18, 123], [182, 54, 121], [251, 136, 97], [252, 253, 191]]; // magma, as in the picture
  const heat = (c) => {
    const k = Math.min(3, Math.floor(4 * c));
    return HEAT[k].map((value, i) => value + (4 * c - k) * (HEAT[k + 1][i] - value));
  };

  const canvas = (name) => {
    const element = tag("canvas", { width, height, role: "img", "aria-label": name });
    return { figure: tag("figure", {}, element, tag("figcaption", {}, name)), element };
  };
  const paint = ({ element }, of) => {
    const context = element.getContext("2d"), pixels = context.createImageData(width, height);
    for (let n = 0; n < width * height; n++) pixels.data.set([...of(n), 255], 4 * n);
    context.putImageData(pixels, 0, 0);
  };
  const panels = [_`image`, _`map, refined`, _`label (pale: left out)`, _`truth`].map(canvas);
  paint(panels[0], (n) => image.slice(3 * n, 3 * n + 3));
  paint(panels[1], (n) => heat(confidence[n]));
  paint(panels[3], (n) => colour(truth[n]));

  const result = tag("div"), status = tag("p", { role: "status" });
  const percent = (share) => (share === share ? `${(100 * share).toFixed(1)} %` : _`none`);
  const draw = () => {
    const labels = thresholds.cut(confidence, strongest, low.get(), high.get());
    const found = thresholds.worth(labels, truth);
    paint(panels[2], (n) => colour(labels[n]));
    panels[2].element.setAttribute("aria-label", _`label: ${percent(found.share)} of the places labelled`);
    result.replaceChildren(table([_`the label`, _`of this image`], [
      [_`labelled`, percent(found.share)],
      ...found.classes.map((c, k) => [_`IoU, ${data.classes[c]}`, percent(found.strict[k])]),
      [_`strict mIoU: their mean`, percent(found.strictMean)],
      [_`mIoU of what is labelled`, percent(found.mean)]]));
    const [share, strict, mean] = [found.share, found.strictMean, found.mean].map(percent);
    status.textContent = _`Labelled ${share}, strict mIoU ${strict}, mIoU of what is labelled ${mean}.`;
  };
  const low = slider("label_low", { value: data.low }, (to) => { if (high.get() < to) high.set(to); draw(); });
  const high = slider("label_high", { value: data.high }, (to) => { if (low.get() > to) low.set(to); draw(); });
  const preset = () => { low.set(data.low); high.set(data.high); draw(); };
  stage.append(tag("div", { class: "panels" }, panels.map((panel) => panel.figure)),
    tag("div", { class: "two" },
      tag("div", {}, low.row, high.row, tag("div", { class: "buttons" }, button(_`The preset's`, preset))), result), status);
  status.classList.add("spoken"); // the table shows the same
  draw();
};
