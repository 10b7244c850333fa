"""The bibliography: complete entries, the paper's 44 references, every work cited somewhere, nothing cited that is not there."""

import re
import unicodedata
from pathlib import Path

import pytest
from pybtex.database import parse_file

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book" / "references.bib"
WORKS = parse_file(BOOK, bib_format="bibtex").entries
PAGES = {path.name: path.read_text(encoding="utf-8") for path in [*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*.py")]}
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def cited(text: str) -> set[str]:
    """The keys that a page cites. A role with text, {cite:p}`see <key>`, is read too."""
    targets = [re.sub(r".*<([^>]*)>$", r"\1", target) for target in CITATION.findall(text)]
    return {key.strip() for target in targets for key in target.split(",")}


def test_citations_are_read_in_every_spelling():
    text = "{cite:t}`a2000b` and {cite}`c2001d, e2002f`, {cite:p}`as in <g2003h>`; not `i2004j`"
    assert cited(text) == {"a2000b", "c2001d", "e2002f", "g2003h"}


def test_keys_are_unique():
    keys = re.findall(r"^@\w+\{([^,]+),", BOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(keys) == len({key.lower() for key in keys}) == len(WORKS)


def test_the_paper_s_references_are_all_there():
    assert sum(entry.fields.get("keywords") == "paper" for entry in WORKS.values()) == 44


@pytest.mark.parametrize("key", WORKS)
def test_entry_is_complete(key):
    entry = WORKS[key]
    assert entry.persons.get("author") and entry.fields["title"] and re.fullmatch(r"(19|20)\d\d", entry.fields["year"])
    if "doi" in entry.fields:
        assert re.fullmatch(r"10\.\d{4,}/\S+", entry.fields["doi"]), "a bare DOI, without the resolver"
    else:  # a work that has none
        assert re.fullmatch(r"https://www\.jstor\.org/stable/\d+", entry.fields["url"])
    if entry.type == "article":
        assert {"journal", "volume", "pages"} <= set(entry.fields.keys())
        assert "number" in entry.fields or re.fullmatch(r"e\d+", entry.fields["pages"])  # journals without issues number their articles
    elif entry.type == "inproceedings":
        assert "booktitle" in entry.fields and ("pages" in entry.fields or "eprint" in entry.fields)
    else:
        assert entry.type == "misc" and "eprint" in entry.fields


@pytest.mark.parametrize("key", WORKS)
def test_key_is_name_year_word(key):
    first, year = WORKS[key].persons["author"][0].last_names[-1], WORKS[key].fields["year"]
    plain = unicodedata.normalize("NFKD", first).encode("ascii", "ignore").decode()  # ä is a
    assert re.fullmatch(rf"\w+{year}\w+", key) and key.startswith(re.sub(r"\W.*", "", plain).lower())


def test_works_are_told_apart_by_their_doi():
    dois = [entry.fields.get("doi", entry.fields.get("url")).lower() for entry in WORKS.values()]
    assert len(set(dois)) == len(dois)


@pytest.mark.parametrize("key", [key for key, entry in WORKS.items() if "eprint" in entry.fields])
def test_eprint_is_an_arxiv_number_and_an_arxiv_doi_agrees_with_it(key):
    fields = WORKS[key].fields
    assert fields["archiveprefix"] == "arXiv" and re.fullmatch(r"\d{4}\.\d{4,5}", fields["eprint"])
    if fields["doi"].lower().startswith("10.48550/"):
        assert fields["doi"] == f"10.48550/arXiv.{fields['eprint']}"


def test_every_work_is_cited():
    everything = set().union(*map(cited, PAGES.values()))
    assert set(WORKS) - everything == set()


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if cited(text)])
def test_every_citation_has_its_work(name):
    assert cited(PAGES[name]) - set(WORKS) == set()
