"""The one exception that means: the input is wrong, and the message says what to do next."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from the person at the keyboard. `main.py` prints the message alone and exits with status 2."""
