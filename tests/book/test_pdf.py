"""The book as a PDF: answers are open, titles and headings are bookmarks, links lead to its sheets; what lacks is said in one line."""

import subprocess
import sys

import pages
import pdf
import pytest
from pypdf import PdfReader

FOLDED = "".join(f"<p>Line {number}</p>" for number in range(120))
PAGE = """<!doctype html><title>Book</title>
<script>
window.MathJax = {startup: {promise: new Promise((done) => setTimeout(() => {
  document.body.insertAdjacentHTML('beforeend', '<div style="break-before: page">typeset</div>'); done();
}, 300))}};
</script>
<body><h1>%s<a href="#">#</a></h1><h2>A section</h2>%s</body>"""


def printed(tmp_path, **bodies):
    """A PDF of pages by their titles."""
    executable = pages.browser()
    sources = [tmp_path / f"{title}.html" for title in bodies]
    for source, (title, body) in zip(sources, bodies.items(), strict=True):
        source.write_text(PAGE % (title, body), encoding="utf-8")
    pdf.write(sources, tmp_path / "book.pdf", executable)
    assert not list(tmp_path.glob("*.partial"))
    return PdfReader(tmp_path / "book.pdf")


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    links = '<a href="second.html#there">on</a> <a href="https://example.org/a">out</a> <a href="file.ipynb">a file</a>'
    second = f"<details><summary>Solution</summary>{FOLDED}</details><details class='hide'><summary>Code</summary>{FOLDED}</details>"
    return printed(tmp_path_factory.mktemp("pdf"), first=links, second=second)


def test_formulas_are_waited_for(book):
    assert "typeset" in book.pages[1].extract_text()


def test_answers_are_open_and_the_code_of_figures_is_not(book):
    text = "".join(sheet.extract_text() for sheet in book.pages)
    assert text.count("Line 77") == 1 and "Solution" in text and "Code" in text


def test_each_page_is_a_bookmark_with_its_headings_below(book):
    first, below, second, _ = book.outline
    assert (first.title, second.title) == ("first", "second") and [entry.title for entry in below] == ["A section"]
    assert book.get_destination_page_number(second) == 2


def test_a_link_leads_to_the_sheet_of_its_page_out_of_the_book_or_nowhere(book):
    links = [reference.get_object() for reference in book.pages[0]["/Annots"]]
    addresses = [link["/A"]["/URI"] for link in links if "/URI" in link.get("/A", {})]
    sheets = [link["/Dest"][0].get_object() for link in links if isinstance(link.get("/Dest"), list)]
    assert addresses == ["https://example.org/a"]
    assert book.pages[2] in sheets


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


def test_a_browser_that_is_named_and_is_not_there_is_said_in_one_line(tmp_path):
    done = run("--to", tmp_path, DSGC_BROWSER=str(tmp_path / "none"))
    assert done.returncode == 1 and done.stderr == f"pdf: DSGC_BROWSER: no file {tmp_path / 'none'}; give the path of a browser\n"
