"""No file of the repository calls what runs, unpacks or expands whatever it is given; the finder of such calls is tested itself."""

import ast

import pytest
from pages import ROOT
from promises import promise

FOLDERS = ("dsgc", "book", "tests", "benchmarks", "notebooks")
FILES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])
ATTACKS = {f"tests/{name}.py" for name in ("attacks", "command/test_untrusted", "command/test_untrusted_data")}  # attacks at work

NEVER = {  # whole modules too: what lies below a name is meant with it
    "builtins": "runs text",
    "eval": "runs text",
    "exec": "runs text",
    "compile": "runs text",
    "__import__": "runs a module that text names",
    "pickle.load": "runs a pickle",
    "pickle.loads": "runs a pickle",
    "pickle.Unpickler": "runs a pickle",
    "_pickle": "runs a pickle",
    "cloudpickle": "runs a pickle",
    "dill": "runs a pickle",
    "joblib": "runs a pickle",
    "marshal": "runs code",
    "shelve": "runs a pickle",
    "pandas.read_pickle": "runs a pickle",
    "torch.hub": "runs code from the net",
    "torch.jit.load": "runs a stranger's TorchScript",
    "torch.serialization.add_safe_globals": "lets a pickle call more",
    "torch.serialization.safe_globals": "lets a pickle call more",
    "yaml.load": "runs tags",
    "yaml.load_all": "runs tags",
    "yaml.unsafe_load": "runs tags",
    "yaml.unsafe_load_all": "runs tags",
    "yaml.full_load": "runs tags",
    "yaml.full_load_all": "runs tags",
    "os.system": "a shell",
    "os.popen": "a shell",
    "subprocess.getoutput": "a shell",
    "subprocess.getstatusoutput": "a shell",
    "asyncio.create_subprocess_shell": "a shell",
    "pty": "a shell",
    "shutil.unpack_archive": "unpacks an archive",
    "tarfile": "unpacks an archive",
    "lxml": "expands entities",
    "xml.dom": "expands entities",
    "xml.parsers": "expands entities",
    "xml.sax.parse": "expands entities",
    "xml.sax.parseString": "expands entities",
    "xml.sax.make_parser": "expands entities",
}
METHODS = {"extract": "unpacks an archive", "extractall": "unpacks an archive"}
EXPANDING = {f"xml.etree.ElementTree.{name}" for name in ("parse", "iterparse", "fromstring", "fromstringlist", "XML", "XMLID")}
PROCESSES = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}
ALLOWED = {
    ("dsgc/data/annotation.py", "xml.etree.ElementTree.fromstring"),  # behind a look for document types
    ("book/sizes.py", "xml.etree.ElementTree.fromstring"),  # of drawings of this repository, as its book is built
    ("dsgc/network/tensor_files.py", "torch.serialization.safe_globals"),  # an empty class of its own in the place of each
    ("tests/experiments/test_results.py", "exec"),  # a cell of a notebook of this repository
    ("tests/book/test_chapters.py", "exec"),
    ("tests/book/test_own_notebook.py", "exec"),
    ("tests/book/test_own_notebook.py", "compile"),
    ("tests/book/test_readme.py", "exec"),  # its lines of Python
    ("tests/book/test_framework.py", "xml.etree.ElementTree.fromstring"),  # a figure of the book
    ("tests/data/test_shapes.py", "xml.etree.ElementTree.parse"),
}


def full_names(tree):
    """By the name under which a file has it, what it imports."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:  # `import a.b` gives a file the name a, `import a.b as c` the name c for a.b
                first = alias.name.split(".")[0]
                found |= {alias.asname: alias.name} if alias.asname else {first: first}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def full_name(node, known):
    """The dotted name of an expression as it would be without aliases; None for what is no name."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (owner := full_name(node.value, known)):
        return f"{owner}.{node.attr}"
    return None


def careless(name, call):
    """Whether a call lacks the argument that makes it safe, or has one that it must not have."""
    given = {keyword.arg: getattr(keyword.value, "value", keyword.value) for keyword in call.keywords}  # of **more the name is None
    if name in PROCESSES:
        return None in given or given.get("shell", False) is not False
    if name == "torch.load":
        return given.get("weights_only") is not True
    if name == "numpy.load":
        return None in given or len(call.args) > 2 or given.get("allow_pickle", False) is not False
    if name == "PIL.Image.open":  # among the formats that it tries by itself is PostScript
        return len(call.args) < 3 and "formats" not in given
    return name in EXPANDING


def unsafe(text):
    """The unsafe names that a file's text uses, called or not, and the calls that lack care."""
    tree = ast.parse(text)
    known, found = full_names(tree), set()
    fields = {node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}  # a field's own name is no use of another's
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute) and node not in fields]
    names = [full_name(node, known) for node in used]
    for name in filter(None, [*names, *known.values()]):
        parts = name.split(".")
        found |= {start for n in range(1, len(parts) + 1) if (start := ".".join(parts[:n])) in NEVER}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            found.add(node.attr)
        if isinstance(node, ast.Call) and (name := full_name(node.func, known)) and careless(name, node):
            found.add(name)
    return found


BAD = {
    "import yaml\nyaml.load(text, yaml.SafeLoader)": "yaml.load",
    "from yaml import unsafe_load as read\nread(text)": "yaml.unsafe_load",
    "import yaml as y\ny.full_load(text)": "yaml.full_load",
    "def f():\n    import pickle\n    return pickle.load(file)": "pickle.load",
    "from pickle import loads": "pickle.loads",
    "import pickle as p\nlist(map(p.loads, texts))": "pickle.loads",
    "import pickle\nclass Mine(pickle.Unpickler): pass": "pickle.Unpickler",
    "from joblib import load": "joblib",
    "import pandas as pd\npd.read_pickle(path)": "pandas.read_pickle",
    "eval(text)": "eval",
    "run = exec": "exec",
    "compile(text, '', 'exec')": "compile",
    "import builtins\nbuiltins.eval(text)": "builtins",
    "__import__(name)": "__import__",
    "import os\nos.system(command)": "os.system",
    "from os import popen": "os.popen",
    "import subprocess\nsubprocess.run(command, shell=True)": "subprocess.run",
    "import subprocess\nsubprocess.run(command, shell=how)": "subprocess.run",
    "from subprocess import Popen as P\nP(command, **options)": "subprocess.Popen",
    "import subprocess\nsubprocess.getoutput(command)": "subprocess.getoutput",
    "import torch\ntorch.load(path)": "torch.load",
    "import torch\ntorch.load(path, weights_only=False)": "torch.load",
    "import torch\ntorch.load(path, weights_only=careful)": "torch.load",
    "import torch\ntorch.hub.load('a/b', 'c')": "torch.hub",
    "import torch.jit\ntorch.jit.load(path)": "torch.jit.load",
    "import numpy as np\nnp.load(path, allow_pickle=True)": "numpy.load",
    "import numpy as np\nnp.load(path, None, True)": "numpy.load",
    "import tarfile": "tarfile",
    "from zipfile import ZipFile\nZipFile(path).extractall(folder)": "extractall",
    "archive.extract(name)": "extract",
    "import shutil\nshutil.unpack_archive(path)": "shutil.unpack_archive",
    "from xml.etree import ElementTree as E\nE.parse(path)": "xml.etree.ElementTree.parse",
    "import xml.dom.minidom\nxml.dom.minidom.parse(path)": "xml.dom",
    "from PIL import Image\nImage.open(path)": "PIL.Image.open",
}
GOOD = [
    "import yaml\nyaml.safe_load(text)",
    "import pickle\npickle.dumps(value)",
    "network.eval()\nast.literal_eval(text)\nre.compile(text)",
    "class Config:\n    compile: bool = False",
    "import subprocess\nsubprocess.run([program, word], check=True)\nsubprocess.Popen(words, shell=False)",
    "import torch\ntorch.load(path, map_location='cpu', weights_only=True)",
    "import numpy as np\nnp.load(path)\nnp.load(path, allow_pickle=False)",
    "from PIL import Image\nImage.open(path, formats=['PNG'])",
    "from xml.etree import ElementTree\nElementTree.SubElement(parent, 'a')\nfrom xml.sax.saxutils import escape",
]


@pytest.mark.parametrize("text", BAD)
def test_the_finder_finds(text):
    assert BAD[text] in unsafe(text)


@pytest.mark.parametrize("text", GOOD)
def test_the_finder_finds_nothing_where_there_is_nothing(text):
    assert not unsafe(text)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_is_looked_through(folder):
    assert any(path.is_relative_to(ROOT / folder) for path in FILES)


@promise("Untrusted files", "No code of package, book or tests evaluates a file, unpickles it, hands it to a shell or unpacks it.")
def test_nothing_that_the_repository_has_is_unsafe_but_what_is_allowed():
    found = set()
    for path in FILES:
        file = path.relative_to(ROOT).as_posix()
        names = unsafe(path.read_text(encoding="utf-8"))
        if not file.startswith("dsgc/"):
            names -= {"PIL.Image.open"}  # tests and benchmarks open what they or the package have written
        found |= {(file, name) for name in names if file not in ATTACKS}
    assert found == ALLOWED
