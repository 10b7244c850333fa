"""The book as a PDF: what is folded is open in it, headings are bookmarks, formulas are waited for; what lacks is said in one line."""

import re
import subprocess
import sys

import pages
import pdf
import pytest

FOLDED = "".join(f"<p>Line {number}</p>" for number in range(120))
PAGE = """<!doctype html><title>Book</title>
<script>
window.MathJax = {startup: {promise: new Promise((done) => setTimeout(() => {
  document.body.insertAdjacentHTML('beforeend', '<div style="break-before: page">typeset</div>'); done();
}, 300))}};
</script>
<body><h1>First chapter</h1><h2>A section</h2>%s</body>"""


def printed(tmp_path, body):
    executable = pages.browser_path()
    if executable is None:
        (pytest.fail if pages.browser_required() else pytest.skip)(pages.REMEDY)
    source, target = tmp_path / "page.html", tmp_path / "book.pdf"
    source.write_text(PAGE % body, encoding="utf-8")
    pdf.write(source, target, executable)
    assert [path.name for path in tmp_path.glob("*.p*")] == ["book.pdf"]  # and nothing half-written beside it
    return target.read_bytes()


def sheets(document):
    return len(re.findall(rb"/Type /Page\b", document))


def test_what_is_folded_is_printed_and_formulas_are_waited_for(tmp_path):
    short = printed(tmp_path, "<p>Words</p>")
    folded = printed(tmp_path, f"<details><summary>Solution</summary>{FOLDED}</details>")
    assert sheets(short) == 2 and sheets(folded) > sheets(short) + 1


def test_headings_are_bookmarks(tmp_path):
    assert re.search(rb"/Outlines|/Type /Outlines", printed(tmp_path, "<p>Words</p>"))


def run(*options, **environment):
    command = [sys.executable, pages.ROOT / "book/pdf.py", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_book_that_is_not_built_is_said_in_one_line(tmp_path):
    (tmp_path / "browser").touch()
    done = run("--to", tmp_path, DSGC_BROWSER=str(tmp_path / "browser"), PATH="")
    assert done.returncode == 1 and done.stderr == f"pdf: no book in {tmp_path.resolve() / '_build'}: run make book first\n"


def test_a_browser_that_is_not_there_is_said_in_one_line(tmp_path):
    done = run("--to", tmp_path, PATH="")
    assert done.returncode == 1 and done.stderr.startswith("pdf: no browser found") and done.stderr.count("\n") == 1
