"""Ctrl-C and SIGTERM as a flag that a loop reads when it is ready, so that it can save before it stops."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Interrupt:
    """Context in which the first SIGINT or SIGTERM only sets `signal`; a second one acts as it always did.

    Made for the main thread (Python delivers signals there alone). Enter it before data workers are forked: they
    inherit the quiet handler, and a Ctrl-C typed at the terminal, which reaches them too, does not kill them first.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self.__exit__()
