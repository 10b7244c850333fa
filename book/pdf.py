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
READY = "() => Promise.resolve(window.MathJax?.startup?.promise).then(() => document.fonts.ready).then(() => true)"
# The code of set-up and figures stays folded, since it would be most of the paper; answers and solutions do not.
OPEN = "() => document.querySelectorAll('details').forEach((part) => { part.open = !part.classList.contains('hide'); })"
# The page's bookmark is its title; as a heading it would be one more below itself, and broken where the line is.
TITLE = "(e) => { e.setAttribute('role', 'presentation'); return e.firstChild.textContent.trim(); }"
MARGIN = dict.fromkeys(("left", "right", "top", "bottom"), "18mm")


def browser() -> str:
    """The path of a browser: that of DSGC_BROWSER, or one that is installed; else the end."""
    found = [os.environ.get("DSGC_BROWSER", ""), *map(shutil.which, BROWSERS)]
    path = next((name for name in found if name and Path(name).is_file()), None)
    return path or sys.exit("pdf: no browser found: apt-get install chromium, or give the path of one in DSGC_BROWSER")


def contents(html: Path) -> list[Path]:
    """The pages of the book in the order of its contents; the end where it is not built."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    names = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    pages = [html / f"{name}.html" for name in names]
    missing = [page for page in pages if not page.is_file()]
    return pages if not missing else sys.exit(f"pdf: no book in {html.parent}: run make book first")


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
    executable = browser()
    write(contents(build / "html"), build / "dsgc.pdf", executable)
    print(f"pdf: {build / 'dsgc.pdf'}")


if __name__ == "__main__":
    main()
