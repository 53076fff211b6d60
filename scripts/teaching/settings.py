"""The teacher's settings, from a YAML file and from the options beside it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.teacher.pipeline import TeacherConfig


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="YAML", help="settings of the stages; what it leaves out keeps its default")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="one setting, such as follow.keys.stride=8; give it again for another",
    )  # fmt: skip


def teacher_config(options: argparse.Namespace) -> TeacherConfig:
    """The settings. Raises InputError for an unknown one, or a value of the wrong type."""
    from models.teacher.pipeline import TeacherConfig
    from util.config import load_config

    return load_config(TeacherConfig, options.config, options.set)
