"""Names that the package and other packages register."""

import subprocess
import sys
import textwrap

import pytest

import ancestral as an
from ancestral import registry
from ancestral.errors import AncestralError, UsageError


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(registry, "_kinds", {})
    monkeypatch.setattr(registry, "_plugins_loaded", True)


def test_a_registered_class_is_found_with_its_meaning_and_facts():
    @an.register("solver", "midpoint", "second-order midpoint rule", evaluations=2)
    class Midpoint:
        pass

    assert registry.lookup("solver", "midpoint") is Midpoint
    assert registry.meaning("solver", "midpoint") == "second-order midpoint rule"
    found = registry.entry("solver", "midpoint")
    assert (found.name, found.value, dict(found.facts)) == ("midpoint", Midpoint, {"evaluations": 2})


def test_names_keep_the_order_of_registration_and_kinds_are_apart():
    for name in ("b", "a", "c"):
        an.register("solver", name, "a letter")(object())
    an.register("schedule", "a", "another letter")(object())
    assert registry.names("solver") == ("b", "a", "c")
    assert registry.names("schedule") == ("a",)
    assert registry.names("nothing") == ()
    assert registry.lookup("solver", "a") is not registry.lookup("schedule", "a")


def test_a_name_belongs_to_one_object():
    value = an.register("solver", "euler", "first order")(object())
    an.register("solver", "euler", "first order")(value)
    with pytest.raises(ValueError, match="two objects register as solver 'euler'"):
        an.register("solver", "euler", "first order")(object())
    assert registry.lookup("solver", "euler") is value


def test_a_definition_that_is_run_again_replaces_itself():
    cell = """
import ancestral as an

@an.register("solver", "own", "my own solver")
class Own:
    pass
"""
    notebook = {"__name__": "__main__"}
    exec(cell, notebook)
    exec(cell, notebook)
    assert registry.lookup("solver", "own") is notebook["Own"]
    with pytest.raises(ValueError, match="two objects register as solver 'own'"):
        exec(cell.replace("class Own", "class Other"), notebook)


def test_the_file_of_a_plugin_can_be_the_script_too(tmp_path):
    """It is then loaded twice, as __main__ and under its name."""
    plugin(
        tmp_path,
        """
        import ancestral as an

        @an.register("solver", "mine", "my own")
        class Mine:
            pass

        if __name__ == "__main__":
            from ancestral import registry
            assert registry.lookup("solver", "mine").__qualname__ == "Mine"
        """,
    )
    subprocess.run([sys.executable, str(tmp_path / "my_plugin.py")], check=True)


def test_an_unknown_name_comes_with_a_suggestion():
    an.register("solver", "heun", "second order")(object())
    with pytest.raises(UsageError, match="unknown solver 'hean': did you mean 'heun'"):
        registry.lookup("solver", "hean")


def plugin(folder, body):
    """A package as pip installs it: a module, and a folder of metadata with the entry point."""
    (folder / "my_plugin.py").write_text(textwrap.dedent(body))
    info = folder / "my_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ancestral.plugins]\nmine = my_plugin\n")


def test_a_plugin_is_imported_at_the_first_look_up_and_not_before(tmp_path):
    plugin(tmp_path, "import ancestral as an\nan.register('solver', 'mine', 'my own')(len)\n")
    script = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import ancestral as an
        from ancestral import registry
        an.register
        assert "my_plugin" not in sys.modules and "importlib.metadata" not in sys.modules
        assert registry.names("solver") == ("mine",) and registry.lookup("solver", "mine") is len
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True)


def test_a_broken_plugin_is_named(tmp_path, monkeypatch):
    plugin(tmp_path, "raise RuntimeError('no such device')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_plugins_loaded", False)
    for _ in range(2):
        with pytest.raises(AncestralError, match=r"the plug-in 'mine' .*RuntimeError: no such device.*uninstall it"):
            registry.names("solver")
