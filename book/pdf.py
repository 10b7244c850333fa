"""The whole book as one PDF, from what `book/build.py` has left in _build: `make pdf` writes _build/dsgc.pdf.

    python book/pdf.py [--to FOLDER]

The browser of the tests opens the pages in the order of the contents, waits until every formula is typeset, and prints them: answers and
solutions are open, explorers are pictures. pypdf joins the parts: each page is a bookmark with its headings below it, and a
link to another page of the book leads to its first sheet.

A book that is not built, or a browser that is not there, ends it in one line; exit code 1.
"""

import argparse
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REMEDY = "no browser found: apt-get install chromium, or give the path of one in DSGC_BROWSER"
READY = "() => Promise.resolve(window.MathJax?.startup?.promise).then(() => document.fonts.ready).then(() => true)"
# The code of set-up and figures stays folded, since it would be most of the paper; answers and solutions do not.
OPEN = "() => document.querySelectorAll('details').forEach((part) => { part.open = !part.classList.contains('hide'); })"
# The page's bookmark is its title; as a heading it would be one more below itself, and broken where the line is.
TITLE = "(e) => { e.setAttribute('role', 'presentation'); return e.firstChild.textContent.trim(); }"
MARGIN = dict.fromkeys(("left", "right", "top", "bottom"), "18mm")


def browser_path() -> str | None:
    """The browser that DSGC_BROWSER names, else the first that is installed."""
    named = os.environ.get("DSGC_BROWSER", "")
    if named and named != "required":
        return named
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def named() -> list[str]:
    """The pages of the book in the order of its contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def printed(pages: Sequence[Path], executable: str) -> Iterator[tuple[str, bytes]]:
    """The title of each page and the page as PDF."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        for page in pages:
            opened = chromium.new_page(color_scheme="light")
            opened.set_default_timeout(300_000)
            opened.goto(page.as_uri())
            opened.evaluate(READY)
            opened.evaluate(OPEN)
            title = opened.locator("h1").first.evaluate(TITLE)
            yield title, opened.pdf(format="A4", outline=True, tagged=True, print_background=True, margin=MARGIN, scale=0.8)
            opened.close()
        chromium.close()


def write(pages: Sequence[Path], target: Path, executable: str) -> None:
    """Print pages into one PDF, with bookmarks, and links between them."""
    from pypdf import PdfReader, PdfWriter

    book, first = PdfWriter(), {}
    for page, (title, part) in zip(pages, printed(pages, executable), strict=True):
        first[page.resolve()] = len(book.pages)
        book.append(PdfReader(io.BytesIO(part)), outline_item=title, import_outline=True)
    link(book, first)
    partial = target.with_suffix(".partial")
    book.write(partial)
    partial.replace(target)


def link(book, first: dict[Path, int]) -> None:
    """Let links to pages on disk lead to the sheet where the page begins; one to a file that is not in the book leads nowhere."""
    from pypdf.generic import ArrayObject, NameObject

    for sheet in book.pages:
        kept = ArrayObject()
        for reference in sheet.get("/Annots") or ():
            annotation = reference.get_object()
            address = urlsplit(str(annotation.get("/A", {}).get("/URI", "")))
            if address.scheme == "file":
                place = first.get(Path(unquote(address.path)).resolve())
                if place is None:
                    continue
                del annotation["/A"]
                annotation[NameObject("/Dest")] = ArrayObject([book.pages[place].indirect_reference, NameObject("/Fit")])
            kept.append(reference)
        if "/Annots" in sheet:
            sheet[NameObject("/Annots")] = kept


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the built book as one PDF, _build/dsgc.pdf.")
    parser.add_argument("--to", type=Path, default=ROOT, metavar="FOLDER", help="where _build stands; else in the repository")
    build = parser.parse_args().to.resolve() / "_build"
    executable = browser_path()
    if executable is None or not Path(executable).is_file():
        sys.exit(f"pdf: {REMEDY}" if executable is None else f"pdf: DSGC_BROWSER: no file {executable}; give the path of a browser")
    pages = [build / f"html/{name}.html" for name in named()]
    if not all(page.is_file() for page in pages):
        sys.exit(f"pdf: no book in {build}: run make book first")
    write(pages, build / "dsgc.pdf", executable)
    print(f"pdf: {build / 'dsgc.pdf'}")


if __name__ == "__main__":
    main()
