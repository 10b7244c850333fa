"""The built book as the tests see it: built once from the stored notebooks, read as HTML, opened in a browser from file:."""

import os
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import pdf
import pytest
import sizes
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
SOURCES = pdf.named()
PAGES = [*SOURCES, "search", "genindex"]
CHINESE = [f"zh_CN/{page}" for page in ("book/intro", "book/framework", "book/glossary", "notebooks/03_gmm_em", "notebooks/07_ablations")]

QUIET = [  # no window, and nothing sent anywhere that no page asked for
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MODES = ("light", "dark")
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 900}}
FACTS = """() => {
    const SCROLLS = 'pre, .output, .framework, .pst-scrollable-table-container';
    const all = (selector) => [...document.querySelectorAll(selector)];
    const padding = (cell, side) => parseFloat(getComputedStyle(cell)[`padding${side}`]);
    const text = all('article :is(p, li, dt, dd, td, th)').filter((e) => e.innerText?.trim() && e.offsetParent);
    return {
        formulas: all('.math').length,
        typeset: all('mjx-container').length,
        wrong: all('mjx-merror, [data-mjx-error], mjx-mtext[style*="red"]').map((e) => e.dataset.mjxError || 'an unknown macro'),
        cut: all('div.math').filter((e) => [...e.querySelectorAll('mjx-mi, mjx-mo, mjx-mn')].some((glyph) =>
            glyph.getBoundingClientRect().left < e.getBoundingClientRect().left - 1)).map((e) => e.textContent.slice(0, 60)),
        scrolling: all('div.math').filter((e) => [e, ...e.querySelectorAll('mjx-container')].some((box) =>
            box.scrollWidth > box.clientWidth + 1)).map((e) => e.textContent.slice(0, 60)),
        width: document.documentElement.clientWidth,
        needed: document.documentElement.scrollWidth,
        wide: all('article *').filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(SCROLLS))
            .slice(0, 3).map((e) => e.outerHTML.slice(0, 100)),
        small: text.map((e) => [parseFloat(getComputedStyle(e).fontSize), e.innerText.slice(0, 40)]).filter((e) => e[0] < 14),
        found: all('ul.search li > a').map((e) => e.getAttribute('href')),
        pictures: all('article img').map((e) => ({ src: e.src, real: [e.naturalWidth, e.naturalHeight],
            said: ['width', 'height'].map((name) => Number(e.getAttribute(name))),
            shown: e.getBoundingClientRect().width || Math.min(e.naturalWidth, document.querySelector('article p').clientWidth) })),
        drawn: all('article svg text').filter((e) => e.getBoundingClientRect().width)
            .map((e) => [parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a, e.textContent]),
        cutoff: all('article pre, article :is(.output, .pst-scrollable-table-container):has(> table)')
            .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => [e.scrollWidth, e.clientWidth, e.innerText.slice(0, 60)]),
        touching: all('article :is(td, th) + :is(td, th)')
            .filter((e) => padding(e, 'Left') + padding(e.previousElementSibling, 'Right') < 8).map((e) => e.parentElement.innerText),
    };
}"""
# `pictures`: one that is not shown, since a script took its place, counts as it would be without it.
TYPESET = "() => !window.MathJax || MathJax.startup?.promise?.then(() => true)"
# Formulas that are typeset only after the page has come, in a browser that does not hold the reader's place while a page grows.
LATE = """(() => {
    let given;
    const come = new Promise((go) => addEventListener('load', () => setTimeout(go, 50)));
    const late = () => come.then(() => MathJax.startup.defaultPageReady());
    const set = (value) => { given = value; if (!value.version) value.startup = { pageReady: late }; };
    Object.defineProperty(window, 'MathJax', { get: () => given, set });
    const style = Object.assign(document.createElement('style'), { textContent: '* { overflow-anchor: none; }' });
    addEventListener('DOMContentLoaded', () => document.head.append(style));
})()"""
# The next frame knows of the new mode, and colours fade from one to the other. Some never come to rest: a second is enough.
CHANGED = """async () => {
    const frame = () => new Promise(requestAnimationFrame), second = new Promise((go) => setTimeout(go, 1000));
    await frame();
    await frame();
    await Promise.race([second, Promise.allSettled(document.getAnimations().map((one) => one.finished))]);
    return document.documentElement.dataset.theme;
}"""
# Structure is checked once, contrast in each mode. Contrast is slow where there are many elements, and the entries of the
# reference look alike, so the first of each section stands for the others; to leave them out alone would not spare axe reading them.
AXE = """async (mode) => {
    const contrast = 'color-contrast', options = { preload: false, resultTypes: ['violations'] }, results = [];
    if (mode === 'light') results.push(await axe.run({ ...options, rules: { [contrast]: { enabled: false } } }));
    document.querySelectorAll('dl.py + dl.py').forEach((entry) => entry.remove());
    results.push(await axe.run({ ...options, runOnly: [contrast] }));
    return results.flatMap((result) => result.violations);
}"""


def build(to: Path) -> Path:
    """Build both editions of the book from the stored notebooks below a folder; the HTML."""
    command = [sys.executable, ROOT / "book/build.py", "--stored", "--language", "zh_CN", "--to", to]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=to)
    reasons = [line for line in done.stdout.splitlines() if "WARNING" in line or "ERROR" in line]
    assert done.returncode == 0, "\n".join(reasons) or done.stdout[-3000:]
    return to / "_build/html"


class Html(HTMLParser):
    """One page: its ids, where it links to, and the pictures of its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.in_article = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key) and (key == "id" or tag == "a")}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.in_article |= tag == "article"
        if self.in_article and (tag == "img" or given.get("role") == "img"):
            self.pictures.append(given)

    def handle_endtag(self, tag: str) -> None:
        self.in_article &= tag != "article"


@cache
def read(path: Path) -> Html:
    return Html(path)


@cache
def smallest_letter(address: str) -> float | None:
    """In the pixels of a figure's file; None for a picture that is no figure."""
    return sizes.smallest_letter(Image.open(unquote(urlsplit(address).path)).info) if address.endswith(".png") else None


def browser_required() -> bool:
    return bool(os.environ.get("CI")) or bool(os.environ.get("DSGC_BROWSER"))


def browser() -> str:
    """The path of a browser; where there is none the test that asks is left out, or fails if one is required."""
    executable = pdf.browser_path()
    if executable is None:
        (pytest.fail if browser_required() else pytest.skip)(pdf.REMEDY)
    return executable


def axe() -> str:
    """The script of axe-core."""
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


class Visit(NamedTuple):
    """What was seen on one page, on a screen and on a telephone; and with the colours of each mode."""

    facts: dict[str, Any]
    narrow: dict[str, Any]  # the same on a telephone
    errors: list[str]  # of the console and of scripts
    requests: list[str]  # addresses
    violations: dict[str, list[dict]]  # axe's, by mode
    themes: dict[str, str]  # what the page calls each mode


class Browser:
    """A browser; a page is visited once. The system changes from light to dark while it is open, as it does at dusk."""

    def __init__(self, playwright, executable: str, html: Path):
        self.html = html
        self.chromium = playwright.chromium.launch(executable_path=executable, args=QUIET)
        self.windows: dict[str, Any] = {}
        self.seen: dict[str, Visit] = {}
        self.axe = axe()

    def visit(self, page: str, query: str = "") -> Visit:
        if page + query not in self.seen:
            self.seen[page + query] = self._visit(page, query)
        return self.seen[page + query]

    def address(self, page: str) -> str:
        return (self.html / f"{page}.html").as_uri()

    def found(self, query: str, edition: str = "") -> list[str]:
        """The pages that the search of an edition shows, from the first on, each once, whatever place on it is meant."""
        if "search" not in self.windows:
            self.windows["search"] = self.chromium.new_page()
        window = self.windows["search"]
        window.goto(f"{self.address(edition + 'search')}?q={quote(query)}")
        window.wait_for_function("() => document.querySelectorAll('ul.search li > a').length && !document.querySelector('.search-dots')")
        links = window.evaluate("() => [...document.querySelectorAll('ul.search li > a')].map((e) => e.pathname)")
        root = urlsplit(self.html.as_uri()).path + "/" + edition
        return list(dict.fromkeys(link.removeprefix(root).removesuffix(".html") for link in links))

    def _visit(self, page: str, query: str) -> Visit:
        window = self.chromium.new_page(viewport=SIZES["wide"], color_scheme=MODES[0])
        errors, requests = [], []
        window.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        window.on("pageerror", lambda error: errors.append(str(error)))
        window.on("request", lambda request: requests.append(request.url))
        window.goto(self.address(page) + query)
        window.wait_for_function(TYPESET)
        if query:
            window.wait_for_selector("ul.search li > a")
        facts = window.evaluate(FACTS)
        window.set_viewport_size(SIZES["narrow"])
        narrow = window.evaluate(FACTS)
        window.set_viewport_size(SIZES["wide"])
        heard, asked = list(errors), list(requests)  # as the page made them, without axe's
        window.evaluate(self.axe)
        violations, themes = {}, {}
        for mode in MODES:
            before = len(errors)
            window.emulate_media(color_scheme=mode)
            themes[mode] = window.evaluate(CHANGED)
            heard += errors[before:]  # of the page, as its mode changes
            violations[mode] = window.evaluate(AXE, mode)
        window.close()
        return Visit(facts, narrow, heard, asked, violations, themes)
