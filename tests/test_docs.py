"""The documentation does not rot: every block of code in it and in the README runs, or is checked to name what exists.

`python` blocks run, one page after another, in a folder with small finished runs; budgets are cut to a few iterations. A block
that would take minutes is preceded by `<!-- names only -->`: its names are looked up instead. One that goes on from the block
above is preceded by `<!-- continues -->`: it runs after that. If lines end in `# prints ...`, the block prints exactly that.
Lines of `sh` blocks that call `ancestral` are parsed by the command itself; scripts and targets of others must exist. Output is
fenced as `text`.
"""

import ast
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

import ancestral
from ancestral.app.cli import app, main
from ancestral.app.data import sources
from ancestral.app.data.scenes import scenes
from ancestral.app.recipes.recipe import Recipe, override, parse
from ancestral.app.theory import CLAIMS
from ancestral.errors import UsageError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
NAMES_ONLY = "<!-- names only -->"
CONTINUES = "<!-- continues -->"
PRINTS = re.compile(r"  # prints (.*)$", re.M)
OUTSIDE = {"pip", "apt", "npm", "mkdir", ".", "for", "python3", "taskset", "wait", "done", "hf"}  # commands of others
OUTSIDE |= {"curl", "docker", "export"}
SMALL = ["--for", "4it", "--quiet"]
QUICK = ("model.width=16", "train.previews=0")


def blocks(language):
    """(page, line, whether names only, code) of every fenced block of the language."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[1].strip() == language:
                before = text[: match.start()].rstrip()
                code = found[-1][-1] + match[2] if before.endswith(CONTINUES) else match[2]
                found.append((page, text[: match.start()].count("\n") + 1, before.endswith(NAMES_ONLY), code))
    return found


def ids(found):
    return [f"{page.name}:{line}" for page, line, *_ in found]


def commands(code):
    """The commands of a shell block, without comments and prompts."""
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def test_every_fence_says_what_it_is():
    known = {"sh", "python", "text", "yaml"}
    for page in PAGES:
        for match in FENCE.finditer(page.read_text()):
            language = match[1].strip()
            assert language in known or language.startswith("{"), (
                f"{page.name}: a fence {language!r} is neither run nor checked"
            )


def check(words):
    """That a command exists, with its options and settings. Raises what the command itself would."""
    name = words[0].rpartition("/")[2]
    if name in ("torchrun", "python") and "-m" in words:
        words = words[words.index("-m") + 1 :]
        name = words[0]
    if name == "ancestral":
        _, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        if words[1] == "train":
            family = bound.arguments.get("model", "diffusion")
            given = {"data.source": "digits", "train.budget": "1m", "model.family": family}
            Recipe.of(override({}, given | parse(bound.arguments.get("settings", ()))))
    elif name == "make":
        targets = set(re.findall(r"^([a-z./]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in words[1:] if "=" not in word} <= targets
    elif name == "python":
        assert (ROOT / words[1]).exists()
    elif not (ROOT / words[0]).exists():
        assert name in OUTSIDE, f"nobody checks {name!r}"


@pytest.mark.parametrize(("page", "line", "_", "code"), blocks("sh"), ids=ids(blocks("sh")))
def test_commands_exist(page, line, _, code):
    for words in commands(code):
        check(words)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("ancestral train digits --colour red", CycloptsError),
        ("ancestral fly", CycloptsError),
        ("ancestral train digits model.colour=red", UsageError),
        ("ancestral train digits --model vae model.schedule=vp", UsageError),
        ("make coffee", AssertionError),
        ("python benchmarks/none.py", AssertionError),
        ("rm everything", AssertionError),
    ],
)
def test_what_does_not_exist_is_found(line, error):
    with pytest.raises(error):
        check(shlex.split(line))


def drawn():
    """The commands of the pictures and words that the build makes."""
    found = []
    for page in PAGES:
        for match in FENCE.finditer(page.read_text()):
            if match[1].startswith(("{drawn}", "{printed}")) and ":python:" not in match[2]:
                lines = [line for line in match[2].splitlines() if not line.startswith(":")]
                found.append((page, 0, False, "\n".join(lines)))
    return found


def test_commands_of_pictures_exist():
    assert drawn()
    for _, _, _, code in drawn():
        for words in commands(code):
            check(words)


def test_pictures_do_not_depend_on_the_web_pages():
    """The build keeps pictures when the web pages change: no other module but their commands may import them."""
    package = ROOT / "src" / "ancestral"
    commands = {package / "app" / "cli" / name for name in ("studio.py", "serve.py")}
    others = [path for path in package.rglob("*.py") if package / "app" / "web" not in path.parents and path not in commands]
    assert len(others) > 200
    assert not [path for path in others if "ancestral.app.web" in path.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with small finished runs of the names that pages use."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            ["digits", "model.channels=[8]", "model.blocks=1", "--out", "runs/digits"],
            ["digits", "--model", "vae", "model.net=mlp", "model.width=16", "--out", "runs/digits-vae"],
        ):
            with pytest.raises(SystemExit) as done:
                main(["train", *words, *SMALL, "train.previews=0"])
            assert not done.value.code
    return folder


@pytest.mark.parametrize(("page", "line", "names_only", "code"), blocks("python"), ids=ids(blocks("python")))
def test_python_runs(page, line, names_only, code, place, monkeypatch, registered, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sources.BUILT_IN, "scenes", lambda _: scenes(200, 40))
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "an":
            assert hasattr(ancestral, node.attr), f"{page.name}:{line}: an.{node.attr} does not exist"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "an":
            known = inspect.signature(getattr(ancestral, node.func.attr)).parameters
            more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
            assert more or {word.arg for word in node.keywords} <= set(known), (
                f"{page.name}:{line}: an.{node.func.attr} has {list(known)}"
            )
    if not names_only:
        short = re.sub(
            r'budget="\w+"\)', 'budget="4it", out="runs/short", settings=("model.channels=[8, 16]", "model.blocks=1"))', code
        )
        short = re.sub(r'(an\.train\(.*budget=)"\d+(it|[smh])"', r'\1"4it"', short)
        short = re.sub(r"(an\.train\((?!.*settings).*)quiet=True\)", rf"\1quiet=True, settings={QUICK})", short)
        exec(compile(short, f"{page.name}:{line}", "exec"), {"__name__": "docs"})
        if promised := PRINTS.findall(code):
            assert capsys.readouterr().out.splitlines() == promised


def test_every_setting_is_described():
    """The tables of settings have no empty rows."""
    from ancestral.app.recipes import FAMILIES
    from ancestral.app.recipes.latent import AutoencoderRecipe, DiffusersRecipe, Pretrained
    from ancestral.app.recipes.recipe import DataRecipe, TrainRecipe

    sections = [DataRecipe, TrainRecipe, *FAMILIES.values(), AutoencoderRecipe, DiffusersRecipe, Pretrained]
    assert len(sections) > 4
    bare = [f"{s.__name__}.{n}" for s in sections for n, f in s.model_fields.items() if n != "family" and not f.description]
    assert not bare


def test_every_option_is_described():
    """The page of the commands has no empty rows."""
    commands = {name: app[name].assemble_argument_collection(parse_docstring=True) for name in app if not name.startswith("-")}
    assert len(commands) > 4
    shown = [(name, argument) for name, arguments in commands.items() for argument in arguments.filter_by(show=True)]
    assert not [f"{name} {argument.name}" for name, argument in shown if not argument.parameter.help]


INSIDE = {"__main__", "cli", "files", "progress", "runtime", "suggest", "transfer", "version"}  # no part of what people import


def test_the_reference_is_complete():
    text = (ROOT / "docs" / "api.md").read_text()
    packages = {module.name for module in pkgutil.iter_modules(ancestral.__path__)} - INSIDE
    assert {name for name in packages if f"ancestral.{name}" not in text} == set()
    assert {name for name in ancestral.__all__ if f"an.{name}`" not in text} == set()


def test_linked_sides_are_those_of_claims():
    """Answers link to claims of their own page. The build, which computes them, finds a row that does not exist."""
    found = [(page.stem, name) for page in PAGES for name in re.findall(r"\{sides\}`(\S+) \d+`", page.read_text())]
    assert len(found) > 60
    for page, name in found:
        assert name in CLAIMS
        assert page == f"theory-{CLAIMS[name].family}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    listed = set(re.findall(r"^([a-z-]+)$", index, re.M))
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"} <= listed


def test_a_missing_link_is_found(tmp_path, monkeypatch):
    """The build checks every page that it wrote by this function."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    from links import missing

    (tmp_path / "b.html").write_text('<p id="here">', encoding="utf-8")
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">1</a> <a href="https://example.org/c.html">2</a> <a href="#">3</a>'
        '<a href="b.html#there">4</a> <a href="c.html">5</a> <img src="d.png"> <a href="#nowhere">6</a>',
        encoding="utf-8",
    )
    assert [line.split()[1] for line in missing(tmp_path)] == ["#nowhere", "b.html#there", "c.html", "d.png"]
