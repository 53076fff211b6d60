"""The tiny backbone's classification weights: naming the size, colour, texture and shape of synthetic things.

    python -m scripts.looks --out pretrained_weights/tiny_backbone      # some minutes on two cores

What ImageNet is to a large backbone. From sentences alone the tiny one learns colours and shapes first, and a stem that
has settled for them passes no texture on, so that no later training finds it again.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.layout import COLOURS, SIZES, TEXTURES
from datasets.synthetic.shapes import SHAPES
from datasets.synthetic.world import Thing
from models.backbone import Backbone, BackboneConfig
from models.tracking import IMAGENET_MEAN, IMAGENET_STD
from util.atomic import write_bytes
from util.report import provenance, write_json

NAMES: dict[str, tuple[str, ...]] = {"size": tuple(SIZES), "colour": COLOURS, "texture": TEXTURES, "shape": SHAPES}
LEVELS = (1, 2)  # of C2..C5, those that tell small things apart: strides 8 and 16
WORLD = SyntheticConfig(seed=3, videos=4000, height=64, width=112, split="mixed")
HELD_OUT = 2_600_000  # seed
LEAST = 0.005  # of the frame that is seen of a thing, to be asked what it is


@dataclass(frozen=True)
class Schedule:
    """AdamW, a cosine after a warm-up; each step sees `batch` of all views, of which each video has `views`."""

    steps: int = 3000
    batch: int = 24
    views: int = 4
    lr: float = 1e-3
    warmup: int = 50
    asked: int = 250  # held-out videos


@dataclass(frozen=True)
class View:
    """One frame, uint8 [H, W, 3], which thing is seen where, uint8 [H, W], and all things that may be, by number."""

    frame_HW3: np.ndarray
    labels_HW: np.ndarray
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Things:
    """Frames [M, 3, H, W], and of each thing seen in one: its frame [K], mask [K, H, W] and names, int64 [K, 4]."""

    frames_MCHW: Tensor
    frame_K: Tensor
    masks_KHW: Tensor
    names_K4: Tensor


class Namer(nn.Module):
    """A backbone, and for each of `LEVELS` a linear layer that reads its mean over a thing's mask."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.read = nn.ModuleList(
            nn.ModuleList(nn.Linear(backbone.channels[level], len(values)) for values in NAMES.values())
            for level in LEVELS
        )

    def forward(self, things: Things) -> list[list[Tensor]]:
        """Logits [K, values] of each level and attribute."""
        levels = self.backbone(things.frames_MCHW[:, None])
        answers = []
        for level, read in zip(LEVELS, self.read, strict=True):
            share_Khw = F.adaptive_avg_pool2d(things.masks_KHW, levels[level].shape[-2:])
            share_Khw = share_Khw / share_Khw.sum((1, 2), keepdim=True)
            mean_KC = torch.einsum("kchw,khw->kc", levels[level][things.frame_K], share_Khw)
            assert isinstance(read, nn.ModuleList)
            answers.append([layer(mean_KC) for layer in read])
        return answers


def pretrain(backbone: Backbone, schedule: Schedule, seed: int, say: Callable[[str], None]) -> dict[str, float]:
    """Train in place; returns the share of held-out things whose name is right, by attribute, read at stride 8."""
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    namer = Namer(backbone).train()
    optimizer = torch.optim.AdamW(namer.parameters(), lr=schedule.lr)
    held_out = views(replace(WORLD, seed=HELD_OUT, videos=schedule.asked), 1)
    began = time.perf_counter()
    for step, things in zip(range(schedule.steps), lessons(schedule, seed), strict=False):
        share = min(1.0, (step + 1) / schedule.warmup) * (1 + math.cos(math.pi * step / schedule.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * share
        losses = [
            F.cross_entropy(logits, things.names_K4[:, n])
            for answers in namer(things)
            for n, logits in enumerate(answers)
        ]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 250 == 0 or step + 1 == schedule.steps:
            right = ask(namer, held_out)
            named = "  ".join(f"{attribute} {100 * share:.1f}" for attribute, share in right.items())
            say(f"step {step + 1}: loss {float(loss.detach()):.2f}  {named}  {time.perf_counter() - began:.0f} s")
    return right


def lessons(schedule: Schedule, seed: int) -> Iterator[Things]:
    """Batches without end: all views of all videos in random order, again and again."""
    pool = views(WORLD, schedule.views)
    generator = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.randperm(len(pool), generator=generator).split(schedule.batch):
            yield look([pool[n] for n in chosen.tolist()])


@torch.no_grad()
def ask(namer: Namer, held_out: Sequence[View]) -> dict[str, float]:
    """Share of the things in these views that are named right, by attribute, read at the finest of `LEVELS`."""
    namer.eval()
    right: list[Tensor] = []
    for first in range(0, len(held_out), 50):
        things = look(held_out[first : first + 50])
        chosen_K4 = torch.stack([logits.argmax(-1) for logits in namer(things)[0]], -1)
        right.append(chosen_K4 == things.names_K4)
    namer.train()
    return dict(zip(NAMES, torch.cat(right).float().mean(0).tolist(), strict=True))


def views(config: SyntheticConfig, count: int) -> list[View]:
    """`count` moments of each video of a world, spread over it."""
    world = SyntheticVideos(config)
    found = []
    for number in range(len(world)):
        scene, video = world.silent(number)
        assert video.masks is not None
        for part in range(count):
            moment = (2 * part + 1) * len(video.frames) // (2 * count)
            masks_NHW, _ = video.masks.read(moment, [thing.id for thing in scene.things])
            numbers = np.arange(1, len(scene.things) + 1, dtype=np.uint8)[:, None, None]
            found.append(View(video.frames[moment], (masks_NHW * numbers).max(0), scene.things))
    return found


def look(seen: Sequence[View]) -> Things:
    """Views as the network's input, with the things that are well seen in them."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    frames_MCHW = torch.from_numpy(np.stack([view.frame_HW3 for view in seen])).permute(0, 3, 1, 2).float() / 255
    of_frame, masks, names = [], [], []
    for order, view in enumerate(seen):
        for number, thing in enumerate(view.things, start=1):
            mask_HW = view.labels_HW == number
            if mask_HW.mean() >= LEAST:
                of_frame.append(order)
                masks.append(torch.from_numpy(mask_HW))
                names.append(name(thing))
    return Things((frames_MCHW - mean) / std, torch.tensor(of_frame), torch.stack(masks).float(), torch.tensor(names))


def name(thing: Thing) -> list[int]:
    """Which of each attribute's values a thing has, in the order of `NAMES`."""
    limit = (SIZES["small"][1] + SIZES["large"][0]) / 2
    size = "small" if thing.radius < limit else "large"
    values = {"size": size, "colour": thing.colour, "texture": thing.texture, "shape": thing.shape}
    return [NAMES[attribute].index(values[attribute]) for attribute in NAMES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for backbone.safetensors and facts.json")
    parser.add_argument("--steps", type=int, default=Schedule.steps, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights (default: %(default)s)")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    backbone = Backbone(BackboneConfig("tiny"))
    schedule = Schedule(steps=options.steps)
    right = pretrain(backbone, schedule, options.seed, lambda line: print(line, flush=True))
    weights = {key: value.half() for key, value in backbone.body.state_dict().items()}
    write_bytes(options.out / "backbone.safetensors", save(weights))
    facts = {"right": {key: round(share, 3) for key, share in right.items()}, "schedule": vars(schedule)}
    print(f"wrote {write_json(options.out / 'facts.json', facts | {'provenance': provenance()})}")


if __name__ == "__main__":
    main()
