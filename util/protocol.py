"""Published behaviour and its correction: every switch that can change a published number, and two presets.

`published` reproduces the ReferFormer and TF-RVOS releases, defects included; `corrected` is what we train
and evaluate with. A checkpoint stores its protocol. Ids D*, T* and M* are those of docs/decisions.md's table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Protocol:
    """One field per behaviour; the first value of each pair is the published one."""

    name: Literal["published", "corrected"] = "corrected"
    # losses and matching
    mask_norm: Literal["frames", "clips"] = "clips"  # D5: mask losses are clip averages already
    mask_padding: Literal["included", "excluded"] = "excluded"  # D6: padded pixels in mask losses and costs
    absent_boxes: Literal["zero", "ignored"] = "ignored"  # D7: absent frames regress to a zero box
    mask_targets: Literal["sampled", "covered"] = "covered"  # M1: a stride-4 cell's truth, at its centre or its share
    # data
    box_from: Literal["inclusive", "mask"] = "mask"  # D8: box edges without +1, not recomputed after crops
    caption_flip: Literal["substring", "word"] = "word"  # D9: "bright" -> "bleft"
    photometric: Literal["frame", "clip"] = "clip"  # D10: flicker, wrap-around and channel permutation
    # text encoder
    frozen_text_dropout: Literal["on", "off"] = "off"  # D11: a frozen encoder keeps its dropout
    # tracking stream
    track_valid_ratio: Literal["current", "own"] = "own"  # T2: whose padding scales the tracking references
    track_adjacent: Literal["skipped", "tracked"] = "tracked"  # T3: frames next to the key keep their first mask
    track_mask: Literal["hard", "soft"] = "soft"  # T3: masks handed on as 0/255 or as probabilities
    # evaluation
    eval_text: Literal["raw", "cleaned"] = "cleaned"  # D4: lower case and single spaces, as in training
    eval_resize: Literal["short", "short_and_long"] = "short_and_long"  # D4: 360, without or with max 640
    mask_upsample: Literal["stretch", "crop"] = "crop"  # D4: straight to size, or x4, crop, resize
    query_scope: Literal["forward", "video"] = "video"  # D3: one query choice per forward or per video
    fpn_window: Literal["all", "window"] = "window"  # D23: pixel decoder attention over the whole video


PUBLISHED = Protocol("published", "frames", "included", "zero", "sampled", "inclusive", "substring", "frame", "on",
                     "current", "skipped", "hard", "raw", "short", "stretch", "forward", "all")  # fmt: skip
CORRECTED = Protocol()


def protocol(name: str) -> Protocol:
    """The preset of that name. Raises ValueError for any other."""
    presets = {"published": PUBLISHED, "corrected": CORRECTED}
    if name not in presets:
        raise ValueError(f"protocol must be one of {sorted(presets)}, not {name!r}")
    return presets[name]
