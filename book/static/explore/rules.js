// The rules of the Gaussian correction, as dsgc/correction.py has them (Eq. 18-21), on a grid read row by row.
"use strict";
globalThis.explore ??= {};
explore.rules = (() => {
  // the four neighbours of each place: up, down, left, right; -1 off the image
  const around = (height, width) => Array.from({ length: height * width }, (_, n) => {
    const x = n % width;
    const [above, below] = [n - width, n + width];
    return [Math.max(above, -1), below < height * width ? below : -1, x ? n - 1 : -1, x + 1 < width ? n + 1 : -1];
  });

  const dot = (u, v) => u.reduce((total, value, d) => total + value * v[d], 0);
  const length = (u) => Math.max(1e-12, Math.sqrt(dot(u, u)));
  const cosine = (u, v) => Math.max(-1, Math.min(1, dot(u, v) / (length(u) * length(v))));

  // Eq. 18 and 20: NaN where there is no neighbour
  const similarity = (features, near) => near.map((all, n) => all.map((m) => (m < 0 ? NaN : cosine(features[n], features[m]))));

  // 0 kept; 1 and 2 of R_h, 3 and 4 of R_u: at a boundary, inside. At equality with a threshold the label is kept.
  const which = (noise, alike, high, low, tau) => noise.map((g, n) => {
    const boundary = alike[n].some((s) => s < tau) ? 1 : 0;
    return g > high ? 2 - boundary : low < g && g < high ? 4 - boundary : 0;
  });

  // the most similar neighbour, the first of equal ones; -1 where there is none at all
  const nearest = (alike, all) => all.reduce((best, m, k) => (m >= 0 && (best < 0 || alike[k] > alike[best]) ? k : best), -1);

  // Eq. 19 and 21: all places at once, each sees its neighbours' labels from before
  const rewritten = (labels, rule, alike, near) => labels.map((label, n) => {
    const k = nearest(alike[n], near[n]);
    return [label, 0, 255, 0, k < 0 ? 255 : labels[near[n][k]]][rule[n]];
  });

  return { around, cosine, similarity, which, nearest, rewritten };
})();
