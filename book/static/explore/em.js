// A mixture of two Gaussians by EM, as dsgc/gmm.py has it (Eq. 11-17), of values x that occur count times each: a histogram.
// A mixture is {mean, variance, weight}, two numbers each; a posterior is [of the first, of the second], a number a value.
"use strict";
globalThis.explore ??= {};
explore.em = (() => {
  const both = (make) => [make(0), make(1)];
  const sum = (values, of) => values.reduce((total, value, n) => total + of(value, n), 0);

  const logJoint = (x, { mean, variance, weight }) => both((k) => Math.log(weight[k])
    + -0.5 * ((x - mean[k]) * (x - mean[k]) / variance[k] + Math.log(variance[k]) + Math.log(2 * Math.PI)));

  // Eq. 13, in logarithms: far from both means the densities themselves are 0
  const eStep = (x, mixture) => {
    const joint = x.map((value) => logJoint(value, mixture));
    const evidence = joint.map(([a, b]) => Math.max(a, b) + Math.log(Math.exp(a - Math.max(a, b)) + Math.exp(b - Math.max(a, b))));
    return { posterior: both((k) => joint.map((pair, n) => Math.exp(pair[k] - evidence[n]))), evidence };
  };

  // Eq. 14-16; a variance below the floor is the floor
  const mStep = (x, count, posterior, floor = 1e-6) => {
    const mass = posterior.map((part) => Math.max(Number.MIN_VALUE, sum(x, (_, n) => part[n] * count[n])));
    const mean = both((k) => sum(x, (value, n) => posterior[k][n] * count[n] * value) / mass[k]);
    const about = (k) => sum(x, (value, n) => posterior[k][n] * count[n] * ((value - mean[k]) * (value - mean[k]))) / mass[k];
    return { mean, variance: both((k) => Math.max(floor, about(k))), weight: mass.map((part) => part / sum(count, (c) => c)) };
  };

  const likelihood = (evidence, count) => sum(evidence, (value, n) => value * count[n]) / sum(count, (c) => c);

  // one standard deviation to either side of the mean; of equal values there is no second component
  const start = (x, count, floor = 1e-6) => {
    const total = Math.max(1, sum(count, (c) => c)), centre = sum(x, (value, n) => value * count[n]) / total;
    const spread = sum(x, (value, n) => (value - centre) * (value - centre) * count[n]) / total;
    const single = spread <= floor, apart = single ? 0 : Math.sqrt(spread);
    const variance = Math.max(spread, floor);
    return { mean: [centre - apart, centre + apart], variance: [variance, variance], weight: single ? [0, 1] : [0.5, 0.5] };
  };

  // from the start until an iteration gains less than the tolerance
  const fit = (x, count, { limit = 100, tolerance = 1e-4, floor = 1e-6 } = {}) => {
    let mixture = start(x, count, floor), before = -Infinity;
    for (let turn = 0; turn < limit && mixture.weight[0] > 0; turn++) {
      const { posterior, evidence } = eStep(x, mixture), now = likelihood(evidence, count);
      if (now - before < tolerance) break;
      [mixture, before] = [mStep(x, count, posterior, floor), now];
    }
    return mixture;
  };

  // Eq. 17: the posterior of the component with the smaller mean
  const noise = (x, { mean, variance: v, weight: w }) => {
    const [a, b] = mean[1] < mean[0] ? [1, 0] : [0, 1];
    const constant = Math.log(w[a] / w[b]) + 0.5 * Math.log(v[b] / v[a]);
    const odds = (value, k) => (value - mean[k]) * (value - mean[k]) / (2 * v[k]);
    return x.map((value) => 1 / (1 + Math.exp(-(odds(value, b) - odds(value, a) + constant))));
  };

  return { logJoint, eStep, mStep, likelihood, start, fit, noise };
})();
