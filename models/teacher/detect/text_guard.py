"""Grounding DINO's text side in the installed transformers, checked by what it does and not by its version.

Some releases (5.18 is one) give the full stop that closes a phrase position 0 instead of the phrase's length, and
truncate the sinusoid of text positions to integers. Both change every box without a sign.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from util.errors import InputError

_PROMPT = (101, 7, 7, 1012, 102)  # [CLS] a car . [SEP]; the model code knows the delimiters by these ids
_POSITIONS = [0, 0, 1, 2, 0]
GOOD_VERSION = "5.23.0"


class _Stop(Exception):
    """The text encoder was reached; the rest of the network need not run."""


@torch.no_grad()
def check_text_positions(model: Any) -> None:
    """Raises InputError, naming the version to install, where this transformers reads phrases wrongly.

    `model` is a (MM) Grounding DINO for object detection, of any size. Only its text encoder's door is reached.
    """
    wrong = []
    positions = _position_ids(model)
    if positions.tolist() != [_POSITIONS]:
        wrong.append(f"positions of '[CLS] a car . [SEP]' are {positions.tolist()[0]} and not {_POSITIONS}")
    layer = model.model.encoder.layers[0]
    sinusoid = layer.get_text_position_embeddings(torch.zeros(1, len(_PROMPT), layer.d_model), None, positions)
    if torch.equal(sinusoid, sinusoid.trunc()):
        wrong.append("the sinusoid of text positions is cut to integers")
    if wrong:
        import transformers

        raise InputError(
            f"transformers {transformers.__version__} computes Grounding DINO's text wrongly ({'; '.join(wrong)}); "
            f"install transformers=={GOOD_VERSION}"
        )


def _position_ids(model: Any) -> Tensor:
    """What the model hands its text encoder as positions, int64 [1, 5]."""
    seen: list[Tensor] = []

    def look(_: nn.Module, args: tuple, kwargs: dict) -> None:
        seen.append(kwargs["position_ids"] if "position_ids" in kwargs else args[3])
        raise _Stop

    handle = model.model.text_backbone.register_forward_pre_hook(look, with_kwargs=True)
    try:
        model(input_ids=torch.tensor([_PROMPT]), pixel_values=torch.zeros(1, 3, 96, 96))
    except _Stop:
        pass
    finally:
        handle.remove()
    return seen[0]
