"""Which tests call a function of the package: read off the tests' syntax trees, so that the book can name them."""

import ast
from collections import defaultdict
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def imported_names(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: `from dsgc import cam as c` gives {"c": "dsgc.cam"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0]: alias.name if alias.asname else alias.name.split(".")[0]
                      for alias in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` of the expression a.b.c; None for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return None


def mentioned(node: ast.AST) -> set[str]:
    """All dotted names in a piece of code."""
    found = {dotted(part) for part in ast.walk(node) if isinstance(part, (ast.Name, ast.Attribute))}
    return found - {None}


def calls_of(path: Path) -> dict[str, set[str]]:
    """For each test function of a file the full names it mentions, itself or through helpers of the same file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = imported_names(tree)
    functions = {node.name: node for node in tree.body if isinstance(node, FUNCTIONS)}
    own = {name: mentioned(node) for name, node in functions.items()}

    def reached(name: str, seen: set[str]) -> set[str]:
        names = set(own[name])
        for helper in names & functions.keys() - seen:
            names |= reached(helper, seen | names & functions.keys())
        return names

    def full(name: str) -> str:
        head, _, rest = name.partition(".")
        return imports.get(head, head) + (f".{rest}" if rest else "")

    tests = [name for name in functions if name.startswith("test_")]
    return {name: {full(found) for found in reached(name, {name})} for name in tests}


def tests_by_function(folder: Path) -> dict[str, list[str]]:
    """For each full name `dsgc.room.function` the tests `test_file.test_name` that mention it, the room's own file first."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        for test, names in calls_of(path).items():
            for name in names:
                if name.startswith("dsgc."):
                    found[name].append(f"{path.stem}.{test}")
    for name, tests in found.items():
        room = f"test_{name.split('.')[-2]}."
        tests.sort(key=lambda test: not test.startswith(room))  # stable: within a file the order of the file
    return dict(found)
