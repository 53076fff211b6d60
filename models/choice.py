"""Which track is meant: a sentence asked of whole tracks, side by side.

A frame by itself may be sure of the wrong thing, and "the one that enters last" is a matter of all of them. Once things
are tracked, it can be asked of their tracks what each of them did, and compared (language alignment of object tokens,
SOLA, Kim et al. 2024). Tracks come from several keys at inference; in training
they are the true ones of the clip's sentences, and such as change over to another thing, or end, on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import Attention
from models.position_encoding import sine_scalar
from util.types import IGNORE, PRESENT, Targets

CODE = 16  # width of a number's sine code
STEPS = 4.0  # a movement across a quarter of the frame in a second becomes 1
RIGHT = 0.5  # overlap with what is meant from which a track shows it
SHARPNESS = 10.0  # of how much more a track with more overlap is wanted
LEAST = 1e-4  # keeps logarithms finite


@dataclass(frozen=True)
class TrackViews:
    """What is seen of K tracks in T frames, for each of N sentences.

    looks_NKTC   mean of the tokens under the track's mask, when they have met the words
    share_NKT    how much of the pointing falls into the mask, 0..1
    places_NKT5  centre (x, y), area, width, height, as shares of the frame
    seen_NKT     bool; False: nothing of the track is seen, and the rest is zeros
    times_NT     seconds
    """

    looks_NKTC: Tensor
    share_NKT: Tensor
    places_NKT5: Tensor
    seen_NKT: Tensor
    times_NT: Tensor


class TrackChoice(nn.Module):
    """A small transformer over the moments of all tracks, which reads the words; one logit per track."""

    def __init__(self, dim: int, heads: int, layers: int = 3) -> None:
        super().__init__()
        self.look = nn.Linear(dim, dim)
        self.place = nn.Sequential(nn.Linear(6 * CODE + 12, dim), nn.GELU(), nn.Linear(dim, dim))
        self.whole = nn.Parameter(0.1 * torch.randn(dim))
        self.words = nn.Linear(dim, dim)
        # few wide heads: sequences are short, and a head that is narrow costs as much
        self.layers = nn.ModuleList(TrackLayer(dim, max(1, heads // 2)) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.decide = nn.Linear(dim, 1)

    def forward(self, views: TrackViews, words_NLC: Tensor, padding_NL: Tensor) -> Tensor:
        """Logits [N, K]; a softmax over a sentence's tracks is each one's chance to be what it means."""
        seen = views.seen_NKT[..., None]
        x_NKTC = (self.look(views.looks_NKTC) + self.place(_numbers(views).to(views.looks_NKTC.dtype))) * seen
        whole = self.whole.expand(*x_NKTC.shape[:2], 1, -1)
        x_NKTC = torch.cat((x_NKTC, whole), 2)
        nobody_NK = ~views.seen_NKT.any(-1)
        nobody_NK = nobody_NK & ~nobody_NK.all(-1, keepdim=True)  # attention has to look at something
        words = self.words(words_NLC)
        for layer in self.layers:
            x_NKTC = layer(x_NKTC, nobody_NK, words, padding_NL)
        return self.decide(self.norm(x_NKTC[:, :, -1])).squeeze(-1)


class TrackLayer(nn.Module):
    """A track over time, tracks at one time, and words; then a feed-forward net. Each on what is normalised before."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))
        self.over_time, self.among, self.read = (Attention(dim, heads) for _ in range(3))
        self.think = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x_NKTC: Tensor, nobody_NK: Tensor, words_NLC: Tensor, padding_NL: Tensor) -> Tensor:
        own = self.norms[0](x_NKTC)
        x_NKTC = x_NKTC + self.over_time(own, own, own)
        others = self.norms[1](x_NKTC).transpose(1, 2)
        ignored = nobody_NK[:, None].expand(-1, others.shape[1], -1)
        x_NKTC = x_NKTC + self.among(others, others, others, ignored).transpose(1, 2)
        asking = self.norms[2](x_NKTC)
        x_NKTC = x_NKTC + self.read(asking.flatten(1, 2), words_NLC, words_NLC, padding_NL).view_as(asking)
        return x_NKTC + self.think(self.norms[3](x_NKTC))


def track_views(
    fused_NSC: Tensor, shares_NS1: Tensor, shape: tuple[int, int], masks_BKTHW: Tensor, sizes_B2: Tensor,
    times_BT: Tensor,
) -> TrackViews:  # fmt: skip
    """What sentences see of tracks that belong to a clip, N = B*E.

    fused_NSC (rows B*E*T): tokens of all levels, the finest first, which has this shape; shares_NS1: logarithms of the
    pointing's shares there, nowhere last (`GroundingHead.log_shares`); masks_BKTHW on the padded canvas, whose
    un-padded part has `sizes_B2`.
    """
    clips, frames = times_BT.shape
    expressions = fused_NSC.shape[0] // (clips * frames)
    cells = shape[0] * shape[1]
    masks = masks_BKTHW.float()  # half precision cannot count pixels
    cover_BKTS = F.adaptive_avg_pool2d(masks.flatten(0, 1), shape).unflatten(0, masks.shape[:2]).flatten(-2)
    mean_BKTS = (cover_BKTS / cover_BKTS.sum(-1, keepdim=True).clamp(min=LEAST)).to(fused_NSC.dtype)
    tokens_BETSC = fused_NSC[:, :cells].unflatten(0, (clips, expressions, frames))
    looks = torch.einsum("bkts,betsc->bektc", mean_BKTS, tokens_BETSC)
    pointing_BETS = shares_NS1[:, :-1].exp().unflatten(0, (clips, expressions, frames))
    share = torch.einsum("bkts,bets->bekt", cover_BKTS, pointing_BETS.float())
    places_BKT5 = mask_places(masks, sizes_B2)
    seen_BKT = places_BKT5[..., 2] > 0

    def for_each(x: Tensor) -> Tensor:
        return x[:, None].expand(-1, expressions, *x.shape[1:]).flatten(0, 1)

    return TrackViews(
        looks.flatten(0, 1), share.flatten(0, 1), for_each(places_BKT5), for_each(seen_BKT), for_each(times_BT)
    )


def mask_places(masks_BKTHW: Tensor, sizes_B2: Tensor) -> Tensor:
    """Centre (x, y), area, width and height of masks (0..1) as shares of the un-padded frame, [B, K, T, 5]."""
    height, width = (side[:, None, None].to(masks_BKTHW.dtype) for side in sizes_B2.unbind(1))
    rows, columns = masks_BKTHW.sum(-1), masks_BKTHW.sum(-2)
    y = torch.arange(rows.shape[-1], device=rows.device, dtype=rows.dtype) + 0.5
    x = torch.arange(columns.shape[-1], device=rows.device, dtype=rows.dtype) + 0.5
    area = rows.sum(-1)
    mass = area.clamp(min=LEAST)
    wide, high = (columns > 0).sum(-1), (rows > 0).sum(-1)
    return torch.stack(
        (
            (columns * x).sum(-1) / mass / width,
            (rows * y).sum(-1) / mass / height,
            area / (height * width),
            wide / width,
            high / height,
        ),
        -1,
    )


def _numbers(views: TrackViews) -> Tensor:
    """Places, steps from and to the neighbouring moments, times and pointing, [N, K, T, numbers], some coded too."""
    places, seen = views.places_NKT5, views.seen_NKT
    seconds_NT = views.times_NT - views.times_NT[:, :1]
    elapsed_NT = seconds_NT.diff(dim=1).clamp(min=LEAST)
    both_NKT = seen[..., 1:] & seen[..., :-1]
    speed = STEPS * places[..., :2].diff(dim=2) / elapsed_NT[:, None, :, None] * both_NKT[..., None]
    before, after = F.pad(speed, (0, 0, 1, 0)), F.pad(speed, (0, 0, 0, 1))
    size = places[..., 2:].clamp(min=LEAST).log()
    share = (views.share_NKT + LEAST).log()
    plain = torch.cat((places[..., :2] - 0.5, size, before, after), -1)
    plain = torch.cat((plain, views.share_NKT[..., None], share[..., None], seen[..., None].to(plain.dtype)), -1)
    when = seconds_NT[:, None].expand_as(share)
    coded = [sine_scalar(places[..., axis], CODE, 16 * math.pi) for axis in (0, 1)]
    coded += [sine_scalar(number, CODE, math.pi) for number in size.unbind(-1)]
    coded += [sine_scalar(when, CODE, math.pi)]
    return torch.cat((plain, *coded), -1)


# ---- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lineup:
    """Tracks of B clips, masks bool [B, K, T, H, W], and their overlap with what each of E sentences means [B, E, K].

    known_BE: bool, sentences that have a referent which is labelled in all frames; the others are not asked.
    """

    masks_BKTHW: Tensor
    overlap_BEK: Tensor
    known_BE: Tensor


def line_up(targets: Targets) -> Lineup:
    """The true tracks of a clip's sentences, and as many that are wrong for a part of the time: at a random moment
    they become another sentence's, or nothing. Draws from torch's own generator.
    """
    real_BEN1 = targets.objects_BEN[..., None]
    present = real_BEN1 & (targets.states_BENT == PRESENT)
    labelled_BE = ~(real_BEN1 & (targets.states_BENT == IGNORE)).flatten(2).any(-1)
    true = (targets.masks_BENTHW & present[..., None, None]).any(2) & labelled_BE[..., None, None, None]
    clips, expressions, frames = true.shape[:3]
    nothing = torch.zeros_like(true[:, :1])
    other = torch.randint(expressions + 1, (clips, expressions), device=true.device)
    turn = torch.randint(1, max(2, frames), (clips, expressions, 1), device=true.device)
    second = torch.cat((true, nothing), 1)[torch.arange(clips, device=true.device)[:, None], other]
    early = torch.arange(frames, device=true.device) < turn
    swap = torch.rand(clips, expressions, 1, device=true.device) < 0.5
    mixed = torch.where((early ^ swap)[..., None, None], true, second)
    masks = torch.cat((true, mixed), 1)
    flat_true, flat = (x.flatten(2).float() for x in (true, masks))
    common = flat_true @ flat.transpose(1, 2)
    union = flat_true.sum(-1)[:, :, None] + flat.sum(-1)[:, None] - common
    known = labelled_BE & (flat_true.sum(-1) > 0)
    return Lineup(masks, common / union.clamp(min=1), known)


def choice_loss(logits_BEK: Tensor, lineup: Lineup, weights_BE: Tensor) -> Tensor:
    """Cross-entropy (nats) of the choice among each sentence's tracks that show anything, summed over sentences.

    Wanted are tracks that overlap with what is meant by `RIGHT` or more, those with more of it more.
    """
    shown_B1K = lineup.masks_BKTHW.flatten(2).any(-1)[:, None]
    asked_BE = lineup.known_BE
    overlap = lineup.overlap_BEK
    wanted = (SHARPNESS * overlap).masked_fill(overlap < RIGHT, -torch.inf)
    wanted = wanted.masked_fill(~asked_BE[..., None], 0).softmax(-1)
    chances = logits_BEK.float().masked_fill(~shown_B1K, -torch.inf)
    chances = chances.masked_fill(~asked_BE[..., None], 0).log_softmax(-1)
    entropy = -(wanted * chances.masked_fill(wanted == 0, 0)).sum(-1)
    return (entropy * asked_BE * weights_BE).sum()
