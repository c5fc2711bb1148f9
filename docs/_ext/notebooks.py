"""Notebooks of the tutorials, made from the scripts in `examples/` that the tests run.

    python docs/_ext/notebooks.py                # make and run all of them, into docs/notebooks: about 25 minutes
    python docs/_ext/notebooks.py likelihoods

The docstring of a script is the title, `main`'s parameters are the settings, and each comment at the level of its body begins a
cell with that comment above it. Pictures that a cell writes are shown below it. A badge for Colab is added if pyproject.toml
names the repository (`[project.urls]`, `Repository`).
"""

from __future__ import annotations

import argparse
import ast
import re
import textwrap
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
SETTINGS = {  # of the tutorials, in place of the defaults of their scripts
    "own_folder": {"budget": "2m"},
    "choose_family": {"budget": "1m"},
    "collapse": {},
    "likelihoods": {"budget": "1m"},
    "few_steps": {"budget": "1m"},
    "control": {"budget": "3m"},
}
COLAB = "https://colab.research.google.com/assets/colab-badge.svg"


def repository() -> str | None:
    """Return the address of the project's repository, or None if pyproject.toml does not name it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: str | None = project.get("urls", {}).get("Repository")
    return found


def notebook(name: str) -> nbformat.NotebookNode:
    """Return the notebook of the example of that name, which has not run yet."""
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = source.splitlines()

    def code(first: ast.stmt, last: ast.stmt) -> str:
        start = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", []))])
        return "\n".join(lines[start - 1 : last.end_lineno])

    about = ast.get_docstring(tree) or name
    title, _, text = re.sub(r": |(?<=[?]) ", "\n", about, count=1).partition("\n")
    cells = [new_markdown_cell(f"# {title.rstrip('.')}" + (f"\n\n{text[0].upper()}{text[1:]}" if text else ""))]
    if address := repository():
        path = address.removeprefix("https://github.com/")
        link = f"https://colab.research.google.com/github/{path}/blob/main/docs/notebooks/{name}.ipynb"
        cells += [
            new_markdown_cell(f"[![Open in Colab]({COLAB})]({link})"),
            new_code_cell(f"%pip install --quiet git+{address}"),
        ]
    above: list[ast.stmt] = []
    for node in tree.body[1:]:
        if isinstance(node, ast.FunctionDef | ast.If):
            if above:
                cells.append(new_code_cell(code(above[0], above[-1])))
            above = []
        if isinstance(node, ast.FunctionDef):
            cells += _of_main(node, lines, SETTINGS[name]) if node.name == "main" else [new_code_cell(code(node, node))]
        elif not isinstance(node, ast.If):
            above.append(node)
    for i, cell in enumerate(cells):
        cell["id"] = f"{name.replace('_', '-')}-{i}"
    return new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )


def _of_main(node: ast.FunctionDef, lines: list[str], settings: dict[str, str]) -> list[nbformat.NotebookNode]:
    """Return the settings, and the body by its comments without the `return`."""
    names = [argument.arg for argument in node.args.args]
    values = {name: ast.unparse(value) for name, value in zip(names, node.args.defaults, strict=True)}
    values |= {name: repr(value) for name, value in settings.items()}
    cells = [new_markdown_cell("Settings:"), new_code_cell("\n".join(f"{name} = {value}" for name, value in values.items()))]
    body = lines[node.body[0].lineno - 1 : node.end_lineno]
    returned = [i for i, line in enumerate(body) if re.match(r"    return\b", line)]
    part: list[str] = []
    for line in [*(body[: returned[0]] if returned else body), "    #"]:
        if re.match(r"    #", line):
            if written := textwrap.dedent("\n".join(part)).strip():
                cells.append(new_code_cell(written))
            if comment := line.strip().removeprefix("#").strip():
                cells.append(new_markdown_cell(f"{comment[0].upper()}{comment[1:].removesuffix('.')}."))
            part = []
        else:
            part.append(line)
    return cells


def run(name: str) -> nbformat.NotebookNode:
    """Return the notebook after all its cells ran in an empty folder, with the pictures that each wrote below it."""
    found = notebook(name)
    with TemporaryDirectory() as place:
        client = NotebookClient(found, timeout=None, resources={"metadata": {"path": place}})
        with client.setup_kernel():
            seen: set[Path] = set()
            for i, cell in enumerate(found.cells):
                if cell.cell_type != "code":
                    continue
                client.execute_cell(cell, i)
                cell["outputs"] = _tidy(cell["outputs"])
                written = {path for path in (Path(place) / "runs").rglob("*.png") if "samples" not in path.parts}
                cell["outputs"] += [_picture(path) for path in sorted(written - seen)]
                seen = written
    for cell in found.cells:
        cell.metadata.pop("execution", None)
    return found


def _picture(path: Path) -> nbformat.NotebookNode:
    from base64 import b64encode

    return new_output("display_data", data={"image/png": b64encode(path.read_bytes()).decode(), "text/plain": path.name})


def _tidy(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Join the lines of text, which a notebook gets as streams or as rich text, and leave out those of progress."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        text = output.text if output.output_type == "stream" else output.data["text/plain"]
        if output.output_type == "stream" or "image/png" not in output.data:
            text = "".join(line for line in text.splitlines(keepends=True) if not re.match(r"[━╌╸]|\S+: \d+%$", line))
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += text
                continue
            output = new_output("stream", name="stdout", text=text)
        kept.append(output)
    return [output for output in kept if output.output_type != "stream" or output.text]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(SETTINGS)}; default: all")
    FOLDER.mkdir(exist_ok=True)
    for chosen in parser.parse_args().names or SETTINGS:
        nbformat.write(run(chosen), FOLDER / f"{chosen}.ipynb")
        print(FOLDER / f"{chosen}.ipynb", flush=True)
