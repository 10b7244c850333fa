// Patch token contrast and its gradient, as dsgc/ptc.py has it (Eq. 4-5), of a few tokens: by all pairs.
"use strict";
globalThis.explore ??= {};
explore.ptc = (() => {
  const NONE = 255;
  const dot = (u, v) => u.reduce((total, value, d) => total + value * v[d], 0);
  const length = (u) => Math.max(1e-12, Math.sqrt(dot(u, u)));
  const unit = (u) => u.map((value) => value / length(u));

  // ordered pairs (i, j) of equal labels, and of different ones; a token makes no pair with itself, none without a label
  const pairs = (labels) => {
    const all = labels.flatMap((a, i) => labels.map((b, j) => [i, j, a, b]));
    const kept = all.filter(([i, j, a, b]) => i !== j && a !== NONE && b !== NONE);
    return [kept.filter(([, , a, b]) => a === b), kept.filter(([, , a, b]) => a !== b)];
  };

  // the two means of Eq. 4; 0 where there is no pair
  const pullAndPush = (tokens, labels) => {
    const units = tokens.map(unit);
    const cosines = (some) => some.reduce((total, [i, j]) => total + dot(units[i], units[j]), 0);
    const [same, other] = pairs(labels).map((some) => cosines(some) / some.length);
    return [same === same ? 1 - same : 0, other === other ? other : 0];
  };

  // of the loss by each token: g_i, without its part along the token, divided by the token's length
  const gradient = (tokens, labels) => {
    const units = tokens.map(unit), g = tokens.map((token) => token.map(() => 0));
    pairs(labels).forEach((some, different) => {
      const scale = (different ? 2 : -2) / some.length;
      some.forEach(([i, j]) => units[j].forEach((value, d) => { g[i][d] += scale * value; }));
    });
    return g.map((of, i) => of.map((value, d) => (value - dot(of, units[i]) * units[i][d]) / length(tokens[i])));
  };

  const step = (tokens, labels, rate) => {
    const slope = gradient(tokens, labels);
    return tokens.map((token, i) => token.map((value, d) => value - rate * slope[i][d]));
  };

  return { pairs, pullAndPush, gradient, step };
})();
