// A link to an equation or to a term shows what it leads to in a card: under the pointer of a mouse, and when it is reached by keyboard.
// What cards show lies in the page, in templates that the build makes. Escape closes a card; a touch follows the link and shows none.
(() => {
  const WAIT = 250; // milliseconds: a pointer that crosses a link opens nothing, and has time to reach the card
  const GAP = 6;
  const MATHJAX = new URL("mathjax/tex-chtml.js", document.currentScript.src).href;
  const cards = new Map([...document.querySelectorAll("template[data-preview]")].map((one) => [one.dataset.preview, one]));
  if (!cards.size || !("showPopover" in HTMLElement.prototype)) return;

  const box = document.createElement("div");
  box.id = "preview";
  box.className = "preview mathjax_ignore";
  box.setAttribute("role", "tooltip");
  box.popover = "manual";
  document.body.append(box);
  let link = null;
  let timer = 0;

  const target = (found) => decodeURIComponent(found.getAttribute("href").split("#")[1]); // in a figure links have no `hash`
  const linkAt = (element) => {
    const found = element.closest?.("a[href*='#']:not(.headerlink)");
    return found && cards.has(target(found)) ? found : null;
  };

  const load = () => new Promise((loaded) => {
    window.MathJax = { startup: { typeset: false }, options: { processHtmlClass: "math" } };
    document.head.append(Object.assign(document.createElement("script"), { src: MATHJAX, onload: loaded }));
  });
  let loading = null; // a page without formulas of its own gets MathJax with the first card that has one
  const typeset = async () => {
    if (!box.querySelector(".math")) return;
    if (!window.MathJax) loading = load();
    await loading;
    await MathJax.startup?.promise;
    await MathJax.typesetPromise?.([box]);
    for (const formula of box.querySelectorAll("div.math")) {
      const ratio = formula.clientWidth / Math.max(...[formula, ...formula.children].map((part) => part.scrollWidth));
      if (ratio < 1) formula.style.fontSize = `${Math.max(50, Math.floor(98 * ratio))}%`; // a card does not scroll
    }
  };

  const place = () => {
    if (!link) return;
    const at = link.getBoundingClientRect();
    const below = at.bottom + GAP + box.offsetHeight <= innerHeight || at.top < GAP + box.offsetHeight;
    box.style.left = `${Math.max(GAP, Math.min(at.left, document.documentElement.clientWidth - box.offsetWidth - GAP))}px`;
    box.style.top = `${below ? at.bottom + GAP : at.top - GAP - box.offsetHeight}px`;
  };

  const hide = () => {
    clearTimeout(timer);
    link?.removeAttribute("aria-describedby");
    link = null;
    window.MathJax?.typesetClear?.([box]);
    box.hidePopover();
  };

  const show = async (next) => {
    hide();
    link = next;
    box.replaceChildren(cards.get(target(link)).content.cloneNode(true));
    box.style.visibility = "hidden"; // until its formulas are typeset
    box.showPopover();
    link.setAttribute("aria-describedby", box.id);
    await typeset();
    if (link !== next) return;
    place();
    box.style.visibility = "visible";
  };

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse") return;
    clearTimeout(timer);
    if (box.contains(event.target)) return;
    const next = linkAt(event.target);
    if (next === link) return;
    timer = setTimeout(next ? show : hide, WAIT, next);
  });
  document.addEventListener("focusin", (event) => {
    const next = linkAt(event.target);
    if (next?.matches(":focus-visible")) show(next);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("click", (event) => box.contains(event.target) || hide()); // its text may be selected
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", place, { capture: true, passive: true });
})();
