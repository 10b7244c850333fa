// The order of what the search finds, which Sphinx asks for each result. Pages that explain come before the entries of the code, and these
// before the tests, whose names have every word of the book in them; of the pages those come first that speak of the words the most (RANKS,
// by word and page, see book/ranks.py), as much as if all their headings did.
const BEHIND = { "book/tests": 200, "book/reference": 100, genindex: 100 };

const spoken = {}; // by page, of the most that a page has
const weigh = () => {
  const stemmer = new Stemmer();
  for (const word of splitQuery(new URLSearchParams(location.search).get("q").toLowerCase())) {
    for (const [page, weight] of Object.entries(RANKS[stemmer.stemWord(word)] ?? {})) spoken[page] = (spoken[page] ?? 0) + weight;
  }
  const most = Math.max(1e-9, ...Object.values(spoken));
  for (const page in spoken) spoken[page] /= most;
};

var Scorer = {
  score: ([page, _title, _anchor, _description, score]) => {
    if (!Object.keys(spoken).length) weigh();
    return score + 15 * (spoken[page] ?? 0) - (BEHIND[page] ?? 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
