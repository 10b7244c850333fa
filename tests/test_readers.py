"""No line of the repository could run what a file holds: not by eval, pickle or a shell, nor unpack an archive."""

import ast
from pathlib import Path

import pytest
from promises import promise

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("dsgc", "book", "benchmarks", "notebooks", "tests") for path in (ROOT / folder).rglob("*.py"))
NEVER = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "marshal.load", "marshal.loads", "shelve.open", "yaml.load",
         "yaml.unsafe_load", "yaml.full_load", "pickle.load", "pickle.loads", "pickle.Unpickler", "shutil.unpack_archive",
         "runpy.run_path", "joblib.load", "pd.read_pickle", "pandas.read_pickle", "tarfile.open"}  # fmt: skip
METHODS = {"extractall", "extract", "unpack_archive", "getoutput", "create_subprocess_shell"}
ATTACKS = {"test_untrusted.py"}  # where attacks are shown to work


def faults(source):
    """Each call that could run or unpack what a file holds, as it stands."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        last = name.split(".")[-1]
        if (
            name in NEVER
            or (isinstance(node.func, ast.Attribute) and last in METHODS)
            or options.get("shell", "False") != "False"
            or (name == "torch.load" and options.get("weights_only") != "True")
            or options.get("allow_pickle", "False") != "False"
            or (name.endswith("torch.hub.load"))
        ):
            found.append(ast.unparse(node))
    return found


BAD = [
    "eval(text)", "exec(open(path).read())", "compile(text, '', 'exec')", "os.system('ls ' + name)", "os.popen(name)",
    "subprocess.run(name, shell=True)", "Popen(name, shell=loud)", "torch.load(path)", "torch.load(path, weights_only=False)",
    "np.load(path, allow_pickle=True)", "pickle.load(file)", "pickle.Unpickler(file).load()", "yaml.load(text, Loader=yaml.Loader)",
    "tarfile.open(path).extractall()", "zipfile.ZipFile(path).extract(name)", "shutil.unpack_archive(path)", "torch.hub.load(repo, name)",
]  # fmt: skip


@pytest.mark.parametrize("line", BAD)
def test_a_reader_that_would_run_a_file_is_found(line):
    assert faults(f"def f(path, text, name, file, repo, loud):\n    return [{line}]")


@promise("Untrusted files", "No code of package, book or tests evaluates a file, unpickles it, hands it to a shell or unpacks it.")
@pytest.mark.parametrize("path", [path for path in FILES if path.name not in ATTACKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_is_run_by_a_reader(path):
    """But for the repository's own notebooks, whose cells tests run."""
    own = "exec(" if path.parent == ROOT / "tests" else None
    assert [line for line in faults(path.read_text(encoding="utf-8")) if not (own and line.startswith(own))] == []
