"""Sphinx extension of the book: docstrings as this project writes them, with links from code to equations and tests.

A docstring is plain text with `Args:`, `Returns:`, `Raises:` and `Source:`. In the book

- `Eq. (7)` and `Eq. 7` lead to the equation (the pages define the targets eq-1, eq-2, ...),
- a name in backticks leads to its entry if the package has one, and is set as code otherwise,
- a function's entry names the tests that call it,
- a field of a dataclass or a named tuple is explained by its own text or by the comment behind it.

A name of another package, `torch.Tensor` say, stays without a link: the book is built without a connection.
"""

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import typing
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.ext import autodoc
from sphinx.ext.napoleon import Config as Napoleon
from sphinx.ext.napoleon.docstring import GoogleDocstring
from tested import tests_by_function

ROOT = Path(__file__).resolve().parents[1]
TESTS = [ROOT / "tests", *sorted(path for path in (ROOT / "tests").iterdir() if path.is_dir())]
sys.path[:0] = map(str, [ROOT, *TESTS, ROOT / "benchmarks"])  # what the reference documents

EQUATION = re.compile(r"Eq\. \(?(\d+)(?:\)|-\d+)?")
QUOTED = re.compile(r"(?<![`:\w])`([^`\n]+)`(?!`)")
SOURCE = re.compile(r"(?:^|(?<=\. ))Source: (.+?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
TEST_NAME = re.compile(r'(?<=<span class="pre">)test_\w+(?=</span>)')
EACH = re.compile(r"^% each of (\S+)$", re.MULTILINE)
ENTRY = "### {0}\n\n```{{eval-rst}}\n.. automodule:: {0}\n```\n"
SHOWN = 6  # tests named in an entry; of the others only how many there are
ORIGINS = {  # of a setting's default
    "paper": "The paper's.",
    "published": "A peer's, as published.",
    "choice": "A choice.",
    "departs": "Departs from the paper.",
}
OTHERS = {"torch", "timm", "msgspec", "numpy", "PIL", "matplotlib", "pandas", "accelerate", "pathlib", "typing", "collections"}
TESTED = tests_by_function(ROOT / "tests")


class Docstring(GoogleDocstring):
    """Napoleon's reading of a docstring; what is returned is text, in which a colon has no meaning of its own."""

    def _parse_returns_section(self, section: str) -> list[str]:
        return self._format_block(":returns: ", self._dedent(self._consume_to_next_section())) + [""]


def link(text: str, module: str) -> str:
    """A quoted name as a link to its entry, or as code if the package has no entry for it."""
    name = re.sub(r"\(.*\)$", "", text)
    for full in (name, f"{module}.{name}", f"dsgc.{name}"):
        *parents, last = full.split(".")
        if parents and parents[0] == "dsgc" and not last.startswith("_"):
            owner = sys.modules.get(".".join(parents))
            found = getattr(owner, last, None)
            if callable(found) and getattr(found, "__module__", "").startswith("dsgc"):
                return f":py:obj:`{text} <{found.__module__}.{found.__qualname__}>`"
            if inspect.ismodule(found) and found.__name__.startswith("dsgc"):
                return f":py:mod:`{text} <{found.__name__}>`"
    return f"``{text}``"


def linked(text: str, module: str) -> str:
    text = QUOTED.sub(lambda match: link(match[1], module), text)
    return EQUATION.sub(lambda match: f":ref:`{match[0]} <eq-{match[1]}>`", text)


def tests_of(name: str) -> str:
    """Links to the tests that call a function, their names in words."""
    tests = TESTED.get(name, [])
    words = [test.split(".")[1].removeprefix("test_").replace("_", " ") for test in tests]
    links = [f":py:func:`{title} <{test}>`" for title, test in zip(words[:SHOWN], tests, strict=False)]
    more = len(tests) - SHOWN
    return "; ".join(links) + (f"; and {more} more" if more > 0 else "")


def field_text(module: str, owner: str, field: str) -> str | None:
    """What the package says of a field: its `text` (`dsgc.config`), else the comment on its line, else nothing."""
    kind = getattr(sys.modules[module], owner, None)
    if dataclasses.is_dataclass(kind):
        about = {item.name: item.metadata for item in dataclasses.fields(kind)}.get(field, {})
        if "text" in about:
            origin = ORIGINS[about["source"]]
            return f"{origin} {about['text'][:1].upper()}{about['text'][1:]}."
    if not (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
        return None
    lines, start = inspect.getsourcelines(kind)
    for node in ast.parse("".join(lines)).body[0].body:
        if isinstance(node, ast.AnnAssign) and node.target.id == field:
            _, _, comment = lines[node.end_lineno - 1].partition("  # ")
            return comment.removeprefix("fmt: skip").strip()
    return None


def docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn one docstring into reStructuredText, in place."""
    if what == "attribute":
        module, owner, field = name.rsplit(".", 2)
        text = field_text(module, owner, field)
        if text is not None:
            lines[:] = [linked(text, module)]
        return
    module = name if what == "module" else getattr(obj, "__module__", None) or name
    text = inspect.cleandoc("\n".join(lines))
    if what == "class" and getattr(obj, "__doc__", "").startswith(f"{obj.__name__}("):
        text = ""  # the signature that Python writes where a class has no docstring
    source = SOURCE.search(text)
    text = linked(SOURCE.sub("", text).rstrip(), module)
    lines[:] = Docstring(text, Napoleon(), app, what, name, obj, options).lines()
    fields = []
    if source:
        fields.append(f":Source: {linked(' '.join(source[1].split()), module)}")
    if what in ("function", "class") and (tests := tests_of(name)):
        fields.append(f":Tests: {tests}")
    if fields:
        while lines and not lines[-1].strip():
            lines.pop()
        listed = any(re.match(r":(param \w+|returns|raises \w+):", line) for line in lines)  # a list to go on with
        lines += [*([] if listed else [""]), *fields, ""]


def signature(app, what, name, obj, options, arguments, returned):
    """Tests have fixtures for arguments, and the fields of a dataclass or a named tuple stand below it: neither is shown."""
    fields = inspect.isclass(obj) and (dataclasses.is_dataclass(obj) or hasattr(obj, "_fields"))
    return ("", "") if fields or name.startswith("test_") else (arguments, returned)


def shown(annotation: object, mode: str = "fully-qualified-except-typing", *rest, written=autodoc.stringify_annotation) -> str:
    """A type as the reference writes it: without what `Annotated` tells the command line of it. Autodoc has no event for a field's."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = annotation.__origin__
    return written(annotation, mode, *rest)


def skip(app, what, name, obj, skipped, options):
    """Of a test file its tests alone are listed; the helpers are in its source."""
    module = getattr(obj, "__module__", None) or ""
    if module.startswith("test_") or (what == "module" and type(obj).__module__.startswith("_pytest")):
        return not name.startswith("test_")
    return None


def missing(app, env, node, content):
    """A name as its module sees it leads to where it is defined; a name of another package stays text."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    module = sys.modules.get(node.get("py:module") or "")
    found = getattr(module, target.split(".")[-1], None)
    if hasattr(found, "__qualname__") and found.__module__.startswith("dsgc."):  # not a type variable, which has a module alone
        full = f"{found.__module__}.{found.__qualname__}"
        return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, content)
    head = target.split(".")[0]
    if head in OTHERS | sys.stdlib_module_names or hasattr(importlib.import_module("builtins"), head) or found is not None:
        return content
    return None


def every(app, page, source):
    """A comment `% each of FILES` stands for an entry of each of these files, so that a new one needs no line of its own."""
    source[0] = EACH.sub(lambda match: "\n".join(map(ENTRY.format, modules_of(match[1]))), source[0])


def modules_of(pattern: str) -> list[str]:
    """The dotted names, in order, of the modules whose files fit a pattern; tests are imported by their last name alone."""
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in sorted(ROOT.glob(pattern))]
    return [name[-1] if name[0] == "tests" else ".".join(name) for name in parts]


def polish(app, page, template, context, doctree):
    """Two things that the writers of HTML leave: a role that ARIA has withdrawn, and long names that break anywhere."""
    if "body" in context:
        body = context["body"].replace(' role="doc-biblioentry"', ' role="listitem"')
        context["body"] = TEST_NAME.sub(lambda match: match[0].replace("_", "_<wbr>"), body)


def setup(app: Sphinx) -> dict:
    app.setup_extension("sphinx.ext.autodoc")
    autodoc.stringify_annotation = shown
    app.connect("source-read", every)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", missing)
    app.connect("html-page-context", polish)
    return {"parallel_read_safe": True}
