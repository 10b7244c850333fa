// The order of what the search finds, which Sphinx asks for each result. Pages that explain come before the entries of the code, and
// these before the tests, whose names have every word of the book in them. Of the pages those come first that speak of the words the
// most (RANKS, see book/ranks.py): the first of them gains what a word in a heading does. The chapters of the method come a little before
// pages that use it, and so does a page whose own title has all the words.
const BEHIND = { "book/tests": 200, "book/reference": 100, genindex: 100 };
const CHAPTER = /^notebooks\/0[1-4]_/;
const AHEAD = 8;

const spoken = {}; // by page, as a share of the most that a page has
const stems = (text) => splitQuery(text.toLowerCase()).map((word) => new Stemmer().stemWord(word));
const asked = () => stems(new URLSearchParams(location.search).get("q"));
const weigh = () => {
  for (const word of asked()) {
    for (const [place, weight] of Object.entries(RANKS.words[word] ?? {})) {
      spoken[RANKS.pages[place]] = (spoken[RANKS.pages[place]] ?? 0) + weight;
    }
  }
  const most = Math.max(...Object.values(spoken));
  for (const page in spoken) spoken[page] /= most;
};

var Scorer = {
  score: ([page, title, _anchor, _description, score]) => {
    if (!Object.keys(spoken).length) weigh();
    const named = asked().every((word) => stems(title).includes(word));
    return score + 15 * (spoken[page] ?? 0) + AHEAD * (CHAPTER.test(page) + named) - (BEHIND[page] ?? 0);
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
