// The order of what the search finds, which Sphinx asks for each result: pages that explain come before the entries of the code, and these
// before the tests, whose names have every word of the book in them.
const BEHIND = { "book/tests": 200, "book/reference": 100, genindex: 100 };

var Scorer = {
  score: ([page, _title, _anchor, _description, score]) => score - (BEHIND[page] ?? 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
