"""A run small enough for tests: the whole path from synthetic videos to checkpoints in a second of CPU time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import TrainConfig
from util.config import from_dict

TEXT = {
    "model_type": "roberta", "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 130, "type_vocab_size": 1, "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.0, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
WORLD = {"frames": 6, "height": 32, "width": 48, "expressions": 2}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Import it where runs are compared bit for bit: sums over threads have no fixed order, and tiny ones are slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def micro_dict(folder: Path, *, dropout: float = 0.0, steps: int = 20, **changes: Any) -> dict[str, Any]:
    """A `TrainConfig` as a plain dict; `changes` replace top-level keys."""
    return {
        "model": {
            "backbone": {"name": "tiny"},
            "text": {"arch": TEXT | {"hidden_dropout_prob": dropout}, "max_tokens": 120},
            "hidden_dim": 64, "heads": 4, "encoder_layers": 1, "decoder_layers": 2, "feedforward": 32, "points": 2,
            "queries": 3, "dropout": dropout, "cross_modal_dropout": dropout,
            "tracking": "feature", "time": True, "presence": True,
        },
        "data": {
            "workers": 0,
            "sources": [{"kind": "synthetic", "synthetic": {"videos": 6, **WORLD}}],
            "clip": {
                "frames": [1, 2],
                "transform": {"short_sides": [32], "max_side": 64, "crop": 0.0, "photometric": False},
            },
        },
        "optim": {"lr": 1e-3, "warmup_steps": 2, "schedule": "cosine"},
        "ema_decay": 0.9, "batch": 2, "micro_batch": 2, "steps": steps, "log_every": 1, "checkpoint_every": 1000,
        "device": "cpu", "output_dir": str(folder), **changes,
    }  # fmt: skip


def micro_config(folder: Path, **changes: Any) -> TrainConfig:
    """`micro_dict` as a config."""
    return from_dict(TrainConfig, micro_dict(folder, **changes))
