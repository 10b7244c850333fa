"""The whole book as one PDF, from what `book/build.py` has left in _build: `make pdf` writes _build/dsgc.pdf.

    python book/pdf.py [--to FOLDER]

1. Sphinx joins all pages into one, with the doctrees of the build, so that nothing is executed again and a link leads to its
   place in the document.
2. The browser of the tests opens it, waits until every formula is typeset, and prints it: what is folded on a screen is open,
   explorers are pictures. Headings become bookmarks.

A book that is not built, or a browser that is not there, ends it in one line; exit code 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = "() => MathJax.startup.promise.then(() => document.fonts.ready).then(() => true)"
OPEN = "() => document.querySelectorAll('details').forEach((part) => { part.open = true; })"
NUMBER = "<div style='font-size:8px;width:100%;text-align:center'><span class='pageNumber'></span> / <span class='totalPages'></span></div>"


def browser() -> str:
    """The path of a browser: that of DSGC_BROWSER, or one that is installed; else the end."""
    found = [os.environ.get("DSGC_BROWSER", ""), *map(shutil.which, BROWSERS)]
    path = next((name for name in found if name and Path(name).is_file()), None)
    return path or sys.exit("pdf: no browser found: apt-get install chromium, or give the path of one in DSGC_BROWSER")


def joined(to: Path) -> Path:
    """All pages of the book that stands below a folder as one."""
    stage = to / "_build/stage"
    if not (to / "_build/html/index.html").is_file() or not stage.is_dir():
        sys.exit(f"pdf: no book in {to / '_build'}: run make book first")
    command = Path(sys.executable).with_name("jupyter-book")
    options = ["--config", ROOT / "_config.yml", "--toc", ROOT / "_toc.yml", "--path-output", to, "--builder", "singlehtml"]
    words = [command, "build", stage, *options, "-n", "-q"]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    page = to / "_build/singlehtml/book/intro.html"
    if done.returncode or not page.is_file():
        sys.exit(f"pdf: the pages could not be joined:\n{done.stdout[-2000:]}")
    return page


def write(page: Path, target: Path, executable: str) -> None:
    """Print a page of HTML as PDF, with bookmarks."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        opened = chromium.new_page(color_scheme="light")
        opened.set_default_timeout(900_000)
        opened.goto(page.as_uri())
        opened.evaluate(READY)
        opened.evaluate(OPEN)
        partial = target.with_suffix(".partial")
        opened.pdf(
            path=partial, format="A4", outline=True, tagged=True, print_background=True, display_header_footer=True,
            header_template="<span></span>", footer_template=NUMBER, margin=dict.fromkeys(("left", "right", "top", "bottom"), "18mm"),
        )  # fmt: skip
        chromium.close()
    partial.replace(target)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the built book as one PDF, _build/dsgc.pdf.")
    parser.add_argument("--to", type=Path, default=ROOT, metavar="FOLDER", help="where _build stands; else in the repository")
    to = parser.parse_args().to.resolve()
    executable = browser()
    target = to / "_build/dsgc.pdf"
    write(joined(to), target, executable)
    print(f"pdf: {target}")


if __name__ == "__main__":
    main()
