"""The dispatcher: one clear line for bad input and a full disk, a status for each ending."""

from __future__ import annotations

import argparse
import errno
import sys
from types import ModuleType

import pytest

import main
from util.errors import InputError


def command(monkeypatch: pytest.MonkeyPatch, ending: BaseException | int) -> None:
    """A command `try` that ends in that way."""
    module = ModuleType("scripts.try")

    def run(options: argparse.Namespace) -> int:
        if isinstance(ending, BaseException):
            raise ending
        return ending + options.more

    module.add_arguments = lambda parser: parser.add_argument("--more", type=int, default=0)  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scripts.try", module)
    monkeypatch.setattr(main, "commands", lambda: {"try": "a command", "other": "another"})


def test_options_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, 0)
    assert main.main(["try", "--more", "3"]) == 3


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (InputError("no such file: x; check the path"), 2, "error: no such file: x; check the path\n"),
        (OSError(errno.ENOSPC, "No space left on device", "mask.png"), 2, "no space left on device: mask.png"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_endings(
    ending: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, ending)
    assert main.main(["try"]) == status
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, OSError(errno.EIO, "a broken disk"))
    with pytest.raises(OSError, match="broken disk"):
        main.main(["try"])


@pytest.mark.parametrize("words", [[], ["unheard"], ["--more", "1"]])
def test_unknown_commands_are_refused(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, 0)
    with pytest.raises(SystemExit) as ended:
        main.main(words)
    assert ended.value.code == 2
