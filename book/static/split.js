// What is searched for, in words: Chinese is cut into the longest words that the pages have, from left to right; the rest is as in Sphinx,
// whose own way stands before this in a `var`.
const CHINESE = /(\p{Script=Han}+)/u;
const cut = (run) => {
  const known = (word) => Object.hasOwn(Search._index.terms, word) || Object.hasOwn(Search._index.titleterms, word);
  const words = [];
  for (let start = 0; start < run.length;) {
    let end = run.length;
    while (end > start + 1 && !known(run.slice(start, end))) end -= 1;
    if (end > start + 1) words.push(run.slice(start, end)); // a single sign is no word of the index
    start = end;
  }
  return words.length ? words : [run];
};
var splitQuery = (query) => query
  .split(/[^\p{Letter}\p{Number}_\p{Emoji_Presentation}]+/gu)
  .flatMap((part) => part.split(CHINESE))
  .filter((part) => part)
  .flatMap((part) => (CHINESE.test(part) ? cut(part) : [part]));
