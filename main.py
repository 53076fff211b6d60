"""ReferTrack's command line: `python main.py COMMAND ...`; each command is one file of scripts/."""

from __future__ import annotations

import argparse
import ast
import errno
import importlib
import sys
from pathlib import Path

from util.errors import InputError

SCRIPTS = Path(__file__).resolve().parent / "scripts"


def commands() -> dict[str, str]:
    """Every command and its one line of help, read from the files without importing them (torch takes seconds)."""
    found = {}
    for path in sorted(SCRIPTS.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Name) and target.id == "HELP" for target in targets):
                    found[path.stem] = str(node.value.value)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the process's exit status: 0 done, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="main.py", description="Referring video object segmentation.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    called = None
    for name, help_ in commands().items():
        subparser = subparsers.add_parser(name, help=help_, description=help_)
        if arguments and arguments[0] == name:
            called = importlib.import_module(f"scripts.{name}")
            called.add_arguments(subparser)
    options = parser.parse_args(arguments)
    assert called is not None  # argparse has refused every other first word
    try:
        return called.run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"error: no space left on device: {error.filename or 'output'}; free some and run again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
