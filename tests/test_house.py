"""The house's rules, read from the source: who imports whom, what the documentation promises, what no file may say."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import main

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("main", "scripts", "engine", "models", "datasets", "util")  # each may import itself and those after it
PACKAGES = ("scripts", "models", "datasets", "util")
READS_DATA = ("teacher", "selection", "captioning")  # the parts of models that may import datasets
LAZY = ("pycocotools", "fvcore", "av", "tensorboard", "matplotlib", "h5py", "scipy")  # imported by what needs them
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("pretrained_weights/**/*.md")])


def sources() -> list[Path]:
    """Every Python file of the project itself, tests aside."""
    return sorted([*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path, body: list[ast.stmt] | None = None) -> Iterator[str]:
    """Dotted names of the modules that a file imports anywhere, relative ones resolved, or only by `body`."""
    package = path.relative_to(ROOT).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if body is None else body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*above, *([node.module] if node.module else [])])


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] not in LAYERS:
        return
    allowed = set(LAYERS[LAYERS.index(parts[0]) :])
    if parts[0] == "models" and parts[1] not in READS_DATA:
        allowed -= {"datasets"}
    used = {name.split(".")[0] for name in imported(path)} & set(LAYERS)
    assert used <= allowed, f"{name_of(path)} must not import {sorted(used - allowed)}"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_file_begins_with_what_it_is_and_imports_lazily(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or text.startswith("# ") or not tree.body, "the first line says what the file is"
    eager = {name.split(".")[0] for name in imported(path, tree.body)}
    assert not eager & set(LAZY), f"import {sorted(eager & set(LAZY))} inside the function that needs it"


def test_transformers_classes_come_from_its_root_beside_our_datasets_folder() -> None:
    """transformers looks for a `datasets` package; ours must not be taken for it."""
    names = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "transformers":
                assert node.module == "transformers", f"{name_of(path)} imports from {node.module}"
                names.update(alias.name for alias in node.names)
    assert names
    code = f"import datasets, transformers; [getattr(transformers, name) for name in {sorted(names)}]"
    code += "; assert datasets.__file__.startswith(__import__('os').getcwd())"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)


def test_overview_is_printed_without_importing_torch() -> None:
    code = "import sys, main; print(main.commands()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
    shown = subprocess.run(
        [sys.executable, "main.py", "--help"], cwd=ROOT, check=True, timeout=120, capture_output=True, text=True
    ).stdout
    assert all(name in shown for name in main.commands())


@pytest.mark.parametrize("name", sorted(main.commands()))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([name, "--help"])
    assert ended.value.code == 0
    assert main.commands()[name] in " ".join(capsys.readouterr().out.split())


def documented_commands() -> list[tuple[str, list[str]]]:
    """(document, words after `main.py`) of every command in the code blocks and code spans of the documents."""
    found = []
    for path in DOCUMENTS:
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        for line in re.findall(r"main\.py ([^`\n]+)", text):
            found.append((name_of(path), line.split("#")[0].split()))
    return found


def options_of(parser: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """Options of the parser, and of the sub-parser that the words choose."""
    options = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word in words:
                if word in action.choices:
                    options |= options_of(action.choices[word], words)
    return options


def test_documented_commands_exist() -> None:
    parsers: dict[str, argparse.ArgumentParser] = {}
    documented = documented_commands()
    assert documented
    for document, words in documented:
        command, rest = words[0], words[1:]
        if command in ("COMMAND", "..."):
            continue
        assert command in main.commands(), f"{document}: main.py has no command {command!r}"
        if command not in parsers:
            parsers[command] = argparse.ArgumentParser()
            importlib.import_module(f"scripts.{command}").add_arguments(parsers[command])
        known = options_of(parsers[command], rest)
        for word in rest:
            if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word.strip("[]")):
                option = word.strip("[]").split("=")[0]
                assert option in known, f"{document}: main.py {command} has no option {option}"


def test_documented_files_exist() -> None:
    for path in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{name_of(path)} links to {link}, which is not there"


def test_no_file_names_a_machine() -> None:
    """Paths of the machine it was written on and hosts of package registries belong to no one else."""
    places = [*PACKAGES, "tests", "configs", "docs", ".ci"]
    files = [path for place in places for path in (ROOT / place).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    roots = ("work", "home", "root", "opt", "mnt", "Users")
    machine = re.compile(rf"(?<![\w./~$}}])/(?:{'|'.join(roots)})/\w|py" + r"pi\.org|python" + r"hosted\.org")
    for path in files:
        if path.suffix in (".py", ".md", ".yaml", ".sh", ".toml", ".lock", ".json", "") and "__pycache__" not in str(
            path
        ):
            found = machine.search(path.read_text(encoding="utf-8", errors="replace"))
            assert found is None, f"{name_of(path)}: {found.group(0)}"
