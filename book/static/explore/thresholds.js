// A label by two thresholds and what it is worth, as dsgc/cam.py (Eq. 3) and dsgc/metrics.py (Eq. 24) have them.
"use strict";
globalThis.explore ??= {};
explore.thresholds = (() => {
  const NONE = 255;

  // the strongest class above `high`, background below `low`, else none
  const cut = (confidence, strongest, low, high) => confidence.map((c, n) => (c < low ? 0 : c > high ? strongest[n] : NONE));

  // Over all places that have a true label: the share labelled; the intersection over union of each class, in which what
  // is left out counts as missed, and its mean; the mean of that over what is labelled alone.
  const worth = (labels, truth) => {
    const places = [...truth.keys()].filter((n) => truth[n] !== NONE);
    const labelled = places.filter((n) => labels[n] !== NONE);
    const classes = [...new Set([...places.map((n) => truth[n]), ...labelled.map((n) => labels[n])])].sort((a, b) => a - b);
    const iou = (among, c) => {
      const shared = among.filter((n) => labels[n] === c && truth[n] === c).length;
      return shared / among.filter((n) => labels[n] === c || truth[n] === c).length; // NaN where the class does not occur
    };
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    const strict = classes.map((c) => iou(places, c));
    const loose = classes.map((c) => iou(labelled, c)).filter((value) => value === value);
    return { share: labelled.length / places.length, classes, strict, strictMean: mean(strict), mean: mean(loose) };
  };

  return { cut, worth };
})();
