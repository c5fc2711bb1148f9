"""What no line of the package does: run code from data, start a shell, or call the network where it should not."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ancestral"
FILES = sorted(file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py"))
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.startfile", "builtins.eval", "builtins.exec"}
CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle", "code"}
NETWORK = {"socket", "http", "urllib", "ftplib", "smtplib", "telnetlib", "xmlrpc", "socketserver", "ssl", "asyncio"}
NETWORK |= {
    "requests",
    "httpx",
    "httpx2",
    "aiohttp",
    "urllib3",
    "huggingface_hub",
    "websockets",
    "uvicorn",
    "fastapi",
    "starlette",
}

# Modules that may use the network, and why.
ALLOWED = {
    "app/remote.py": "hub:OWNER/NAME names a repository that a person asked for",
    "app/hub/": "push writes to the repository that a person named",
    "app/data/fashion_mnist.py": "the data set's own address, with a checksum",
    "app/web/": "the studio and the service, which answer this machine",
}
PICKLED = {"app/processes.py": "the processes of one command send values to each other, as torch.distributed does"}


def name_of(node):
    """The dotted name of a call's function, such as `os.system`; "" for other expressions."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def found(tree, name):
    """What is wrong in a module, one line each."""
    for node in ast.walk(tree):
        line = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                top = module.partition(".")[0]
                if top in CODE and name not in PICKLED:
                    yield f"{line} imports {module}, which runs code from data"
                if top in NETWORK and not any(name.startswith(place) for place in ALLOWED):
                    yield f"{line} imports {module}, which calls the network"
        if not isinstance(node, ast.Call):
            continue
        function, options = name_of(node.func), {key.arg: key.value for key in node.keywords}
        if function in CALLS:
            yield f"{line} calls {function}"
        if "shell" in options and not (isinstance(options["shell"], ast.Constant) and options["shell"].value is False):
            yield f"{line} starts a shell"
        if function in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
            yield f"{line} reads YAML that may build any object"
        if function == "torch.load" and not _is(options.get("weights_only"), True):
            yield f"{line} reads a file of torch without weights_only=True"
        if function in ("np.load", "numpy.load") and not _is(options.get("allow_pickle", ast.Constant(False)), False):
            yield f"{line} reads an array that may hold Python objects"
        if function.endswith((".extractall", ".extract")) and not _is(options.get("filter"), "data"):
            yield f"{line} unpacks an archive to where its names lead"
        if _is(options.get("trust_remote_code"), True):
            yield f"{line} runs code of a repository"


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value == value


def test_no_code_from_data_and_no_network():
    assert len(FILES) > 200
    assert not [line for file in FILES for line in found(ast.parse((SOURCE / file).read_text(encoding="utf-8")), file)]


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "import os\nos.system(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=flag)",
        "yaml.load(text, Loader)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "archive.extractall(folder)",
        "archive.extractall(folder, filter='fully_trusted')",
        "import urllib.request",
        "from requests import get",
        "load_dataset(name, trust_remote_code=True)",
    ],
)
def test_each_is_found(text):
    assert list(found(ast.parse(text), "app/data/x.py"))


def test_every_exception_is_needed():
    for places, wanted in ((ALLOWED, NETWORK), (PICKLED, CODE)):
        for place in places:
            texts = [(SOURCE / file).read_text(encoding="utf-8") for file in FILES if file.startswith(place)]
            nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
            used = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            used |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
            assert {module.partition(".")[0] for module in used} & wanted, place


def test_json_is_read_in_one_way():
    """By `read_json`, which bounds nesting and digits. The runner of an export works without the package."""
    readers = [file for file in FILES if "json.load" in (SOURCE / file).read_text(encoding="utf-8")]
    assert readers == ["files.py", "runner.py"]
