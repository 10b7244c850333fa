// A link to a place on a page lands on it: the browser goes there before the formulas are typeset, and these then push the place away. So
// the page goes there again when they are, and when their fonts have come, unless the reader has moved meanwhile.
(() => {
  let moved = false;
  for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    addEventListener(kind, () => { moved = true; }, { passive: true });
  }
  addEventListener("hashchange", () => { moved = false; });
  addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    for (const last of [Promise.resolve(), document.fonts.ready]) {
      await last;
      const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (target && !moved) target.scrollIntoView({ behavior: "instant" });
    }
  });
})();
