"""The network: a video transformer that reads frames and sentences and proposes masks (ReferFormer, Wu et al. 2022),
with a tracking stream (TF-RVOS), time and presence beside it, each off unless its switch is on.

    encode_video -> encode_expressions (with encode_text) -> decode

The first knows no sentence and runs once per video; the last is cheap, so one reading of a frame can be decoded
again with other tracking information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbone import Backbone, BackboneConfig, build_backbone
from models.choice import TrackChoice, track_views
from models.fusion import FeatureResizer, VisionLanguageFusion
from models.grounding import GroundingHead
from models.heads import class_heads, controller
from models.levels import LEVELS, input_projections, level_slices, padding_mask, rows_of_frames, valid_ratio
from models.mask_head import dynamic_masks, parameter_count
from models.matching import Carried, Matching, reference_masks
from models.mlp import MLP
from models.motion import Motion
from models.pixel_decoder import PixelDecoder
from models.pointed import Pointed, peaks
from models.position_encoding import sine_1d, sine_2d
from models.space_time import SpaceTime
from models.text_cache import TextCache
from models.text_encoder import TextEncoderConfig, Tokenizer, build_text_encoder, encode, set_text_mode, text_width
from models.tracking import feature_memory, mask_centres, tracking_frames
from models.transformer import DecoderOutput, DeformableTransformer, LayerSizes, Shapes, box_heads, temporal_layers
from util.errors import InputError
from util.protocol import CORRECTED, Protocol
from util.types import ExpressionFeatures, GroundingMaps, Prediction, TextFeatures, TrackingMemory, VideoFeatures

SMALLEST_SIDE = 29


@dataclass(frozen=True)
class SegmenterConfig:
    """Sizes of the network and its switches; the defaults are ReferFormer-R50."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    hidden_dim: int = 256
    heads: int = 8
    encoder_layers: int = 4
    decoder_layers: int = 4
    feedforward: int = 2048
    points: int = 4
    queries: int = 5
    classes: int = 1
    dropout: float = 0.1  # transformer
    cross_modal_dropout: float = 0.1  # resizer and pixel decoder
    dynamic_channels: int = 8
    rel_coord: bool = True
    tracking: Literal["none", "rgb", "feature"] = "none"
    motion: bool = False  # likeness to the frames before and after, beside the pixels
    space_time: bool = False  # what a sentence means, seen over all frames of a clip
    matching: bool = False  # the reference mask carried to the current frame, place by place
    time: bool = False
    presence: bool = False
    grounding: bool = False  # maps of where a sentence points, which the queries' scores listen to
    pointed: bool = False  # queries start where it points, and see the place marked; needs grounding
    choice: bool = False  # which of several tracks is meant, asked of whole tracks; needs grounding
    protocol: Protocol = CORRECTED


class Segmenter(nn.Module):
    """ReferFormer's modules under ReferFormer's names; shapes in `util/types.py`."""

    def __init__(
        self, config: SegmenterConfig, *, pretrained: bool = False, tokenizer: Tokenizer | None = None
    ) -> None:
        """`pretrained` fetches the text encoder's weights; without it everything starts at random."""
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        dim, layers = config.hidden_dim, config.decoder_layers
        self.backbone = build_backbone(config.backbone)
        body = self.backbone[0]
        assert isinstance(body, Backbone)
        channels = body.channels
        self.input_proj = input_projections(channels, dim)
        self.motion = Motion(channels[1:], dim) if config.motion else None
        self.query_embed = nn.Embedding(config.queries, dim)
        sizes = LayerSizes(dim, config.heads, LEVELS, config.points, config.feedforward, config.dropout)
        self.transformer = DeformableTransformer(sizes, encoder_layers=config.encoder_layers, decoder_layers=layers)
        self.class_embed = class_heads(dim, config.classes, layers)
        self.bbox_embed = box_heads(dim, layers)
        self.text_encoder = build_text_encoder(config.text, pretrained=pretrained)
        self.resizer = FeatureResizer(text_width(self.text_encoder), dim, config.cross_modal_dropout)
        self.fusion_module = VisionLanguageFusion(dim, config.heads)
        self.space_time = SpaceTime(dim, config.heads) if config.space_time else None
        self.pixel_decoder = PixelDecoder(
            dim, config.heads, config.feedforward, channels[0], config.cross_modal_dropout
        )
        written = parameter_count(dim, config.dynamic_channels, config.rel_coord)
        self.controller = controller(dim, written)
        self.temporal = temporal_layers(dim, config.heads, layers) if config.time else None
        self.presence_head = MLP(dim, dim, 1, 2) if config.presence else None
        self.grounding_head = GroundingHead(dim) if config.grounding else None
        self.matching = Matching(dim) if config.matching else None
        self.pointed = Pointed(dim) if config.pointed else None
        self.choice = TrackChoice(dim, config.heads) if config.choice else None
        for name in ("pointed", "choice"):
            if getattr(config, name) and not config.grounding:
                raise InputError(f"model.{name} needs the maps of where a sentence points: set model.grounding to true")
        if self.pointed is not None:
            nn.init.zeros_(self.transformer.reference_points.weight)  # what it learns is how far beside to start
        self._text_cache = TextCache()
        self.train()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.query_embed.weight.device

    def train(self, mode: bool = True) -> Segmenter:
        """A frozen text encoder stays in eval mode unless the published protocol asks for its dropout."""
        super().train(mode)
        set_text_mode(self.text_encoder, mode, freeze=self.config.text.freeze, protocol=self.config.protocol)
        self._text_cache.clear()
        return self

    def encode_video(
        self, frames_BTCHW: Tensor, times_BT: Tensor | None = None, sizes_B2: Tensor | None = None
    ) -> VideoFeatures:
        """Everything that needs no sentence. `sizes_B2` (height, width) without padding; None: nothing is padded.

        Times are seconds; None numbers the frames. Raises ValueError for frames too small for the pixel decoder's
        attention, which looks at every eighth cell of the stride-4 grid.
        """
        video = self._encode_frames(frames_BTCHW, times_BT, sizes_B2)
        if self.motion is None:
            return video
        moving = self.motion(video.backbone[1:], video.padding[1:4], video.times_BT)
        projected = tuple(level + seen for level, seen in zip(video.projected, moving, strict=False))
        return replace(video, projected=(*projected, *video.projected[len(moving) :]))

    def _encode_frames(self, frames_BTCHW: Tensor, times_BT: Tensor | None, sizes_B2: Tensor | None) -> VideoFeatures:
        """`encode_video` of each frame alone, as far as the backbone goes."""
        batch, frames, _, height, width = frames_BTCHW.shape
        if min(height, width) < SMALLEST_SIDE:
            raise ValueError(f"frames of {height}x{width} are too small: a side needs {SMALLEST_SIDE} pixels")
        device = frames_BTCHW.device
        canvas = torch.tensor([height, width], device=device)
        padded = sizes_B2 is not None and (sizes_B2.is_cuda or bool((sizes_B2 != canvas.to(sizes_B2)).any()))
        sizes = canvas.expand(batch, 2) if sizes_B2 is None else sizes_B2.to(device)
        if times_BT is None:
            times_BT = torch.arange(frames, dtype=torch.float32, device=device).expand(batch, frames)
        features = self.backbone[0](frames_BTCHW)
        levels = [*features[1:], features[-1]]
        projected = tuple(project(level) for project, level in zip(self.input_proj, levels, strict=True))
        mask = padding_mask(sizes, height, width)
        grids = [features[0].shape[-2:], *(level.shape[-2:] for level in projected)]
        padding = tuple(F.interpolate(mask[:, None].float(), size=g).to(torch.bool)[:, 0] for g in grids)
        return VideoFeatures(features, projected, padding, sizes, times_BT, padded)

    def encode_text(self, captions: Sequence[Sequence[str]] | Sequence[str]) -> TextFeatures:
        """Sentences [B][E] (or [E], of one video) to features. A frozen encoder reads each sentence once.

        Raises InputError for an empty or over-long sentence and ValueError when there is no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("this network has no tokenizer: give Segmenter one, or use encode_tokens")
        groups = [[c] if isinstance(c, str) else list(c) for c in captions]
        sentences = [sentence for group in groups for sentence in group]
        videos = 1 if isinstance(captions[0], str) else len(groups)
        frozen = self.config.text.freeze and not self.text_encoder.training
        if frozen:
            hidden, pooled, padding = self._text_cache.read(sentences, self._read_sentences)
        else:
            hidden, pooled, padding = self._read_sentences(sentences)
        return self._resize_text(hidden, pooled, padding, videos)

    def encode_tokens(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, batch: int) -> TextFeatures:
        """As encode_text, from token ids of `batch` videos' sentences, video by video."""
        hidden, pooled = encode(self.text_encoder, input_ids_NL, attention_mask_NL)
        return self._resize_text(hidden, pooled, attention_mask_NL != 1, batch)

    def _read_sentences(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        assert self.tokenizer is not None
        ids, mask = (t.to(self.device) for t in self.tokenizer(sentences))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.text.freeze):
            hidden, pooled = encode(self.text_encoder, ids, mask)
        return hidden, pooled, mask != 1

    def _resize_text(self, hidden: Tensor, pooled: Tensor, padding: Tensor, batch: int) -> TextFeatures:
        words, sentence = self.resizer(hidden), self.resizer(pooled)
        return TextFeatures(*(x.unflatten(0, (batch, -1)) for x in (words, padding, sentence)))

    def encode_expressions(
        self, video: VideoFeatures, text: TextFeatures, frames_BT: Tensor | None = None
    ) -> ExpressionFeatures:
        """Read each video with each of its sentences: fusion, encoder, pixel decoder.

        frames_BT: positions of the frames to go on with after the fusion; None = all.
        """
        positions = self._positions(video)
        fused, shapes, padding = self._over_time(video, text, frames_BT)
        if frames_BT is not None:
            video = video.gather_frames(frames_BT)
        memory, ratios = self._encode(video, fused, shapes, padding, positions[1:])
        starts = level_slices(shapes)
        pyramid = tuple(
            memory[:, s].transpose(1, 2).unflatten(-1, shape) for s, shape in zip(starts[:3], shapes[:3], strict=True)
        )
        words = (text.words_BELC, self._word_positions(text), text.padding_BEL)
        masks = video.padding if video.padded else (None,) * 5
        batch = text.sentence_BEC.shape[0]
        mask_features = self.pixel_decoder(video.backbone[0], pyramid, positions[:4], masks[:4], words, batch)
        return ExpressionFeatures(
            memory,
            shapes,
            padding,
            ratios,
            mask_features,
            text.sentence_BEC,
            video.sizes_B2,
            video.times_BT,
            None if self.grounding_head is None else self.grounding_head(fused),
        )

    def ground(self, video: VideoFeatures, text: TextFeatures, frames_BT: Tensor | None = None) -> GroundingMaps:
        """Where each sentence points in those frames, known before the encoder; ValueError without grounding."""
        if self.grounding_head is None:
            raise ValueError("this network has no grounding head; set grounding to true")
        fused, shapes, padding = self._over_time(video, text, frames_BT)
        return GroundingMaps(self.grounding_head(fused), shapes, padding)

    def choose(self, video: VideoFeatures, text: TextFeatures, masks_BKTHW: Tensor) -> Tensor:
        """Which of a clip's tracks, on the padded canvas, each sentence means: logits [B, E, K].

        What is seen of them gets no gradient. ValueError without a choice.
        """
        if self.choice is None or self.grounding_head is None:
            raise ValueError("this network does not choose among tracks; set choice and grounding to true")
        with torch.no_grad():
            fused, shapes, padding = self._over_time(video, text, None)
            shares = self.grounding_head.log_shares(GroundingMaps(self.grounding_head(fused), shapes, padding))
            views = track_views(fused, shares[0], shapes[0], masks_BKTHW, video.sizes_B2, video.times_BT)
        logits_NK = self.choice(views, text.words_BELC.detach().flatten(0, 1), text.padding_BEL.flatten(0, 1))
        return logits_NK.unflatten(0, text.sentence_BEC.shape[:2])

    def _positions(self, video: VideoFeatures) -> tuple[Tensor, ...]:
        dtype = video.projected[0].dtype
        return tuple(sine_2d(mask, self.config.hidden_dim).to(dtype) for mask in video.padding)

    def _word_positions(self, text: TextFeatures) -> Tensor:
        codes = sine_1d(text.padding_BEL.flatten(0, 1), self.config.hidden_dim)
        return codes.view_as(text.words_BELC).to(text.words_BELC.dtype)

    def _over_time(
        self, video: VideoFeatures, text: TextFeatures, frames_BT: Tensor | None
    ) -> tuple[Tensor, Shapes, Tensor]:
        """`_fuse`, and what the clip's other moments tell about each token; then only frames `frames_BT`."""
        fused, shapes, padding = self._fuse(video, text)
        if self.space_time is not None:
            fused = self.space_time(fused, shapes, padding, video.times_BT)
        if frames_BT is not None:
            expressions = text.sentence_BEC.shape[1]
            fused, padding = (rows_of_frames(rows, expressions, frames_BT) for rows in (fused, padding))
        return fused, shapes, padding

    def _fuse(self, video: VideoFeatures, text: TextFeatures) -> tuple[Tensor, Shapes, Tensor]:
        """Pixels that have met the words [N, S, C], with their level shapes and padding [N, S]."""
        batch, expressions = text.sentence_BEC.shape[:2]
        frames = video.times_BT.shape[1]
        shapes: Shapes = tuple((level.shape[-2], level.shape[-1]) for level in video.projected)
        tokens = torch.cat([level.flatten(2) for level in video.projected], -1).transpose(1, 2)
        fused = self.fusion_module(
            tokens.reshape(batch, -1, tokens.shape[-1]), text.words_BELC, self._word_positions(text), text.padding_BEL
        )
        copies = expressions * frames
        padding = torch.cat([mask.flatten(1) for mask in video.padding[1:]], 1).repeat_interleave(copies, 0)
        return fused.reshape(batch * copies, -1, tokens.shape[-1]), shapes, padding

    def _encode(
        self,
        video: VideoFeatures,
        fused_NSC: Tensor,
        shapes: Shapes,
        padding_NS: Tensor,
        positions: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        """Encoder output [N, S, C] and valid ratios [N, levels, 2]; `positions` of the four levels."""
        embedded = [
            p.flatten(2).transpose(1, 2) + code for p, code in zip(positions, self.transformer.level_embed, strict=True)
        ]
        copies = fused_NSC.shape[0] // video.sizes_B2.shape[0]
        position = torch.cat(embedded, 1).repeat_interleave(copies, 0)
        ratios = torch.stack([valid_ratio(m, fused_NSC.dtype) for m in video.padding[1:]], 1)
        ratios = ratios.repeat_interleave(copies, 0)
        masked = padding_NS if video.padded else None
        return self.transformer.encoder(fused_NSC, position, ratios, shapes, masked), ratios

    def track(
        self,
        reference: ExpressionFeatures,
        masks_BETHW: Tensor,
        present_BET: Tensor,
        *,
        frames_BTCHW: Tensor | None = None,
        text: TextFeatures | None = None,
    ) -> TrackingMemory:
        """What the reference frames and their masks tell about the current ones, frame by frame.

        reference: features of each current frame's reference frame; masks: soft 0..1 masks of those frames over the
        padded canvas, at any resolution; `frames_BTCHW` (normalised reference frames) and `text` serve the `rgb`
        stream only. Raises ValueError when the network has no tracking stream or its inputs are missing.
        """
        mode = self.config.tracking
        if mode == "none":
            raise ValueError("this network has no tracking stream; set tracking to 'rgb' or 'feature'")
        marked = None if self.matching is None else reference_masks(reference, masks_BETHW)
        if mode == "feature":
            memory = feature_memory(reference.memory_NSC, reference.shapes, masks_BETHW.flatten(0, 2))
            centres = mask_centres(masks_BETHW, reference.sizes_B2, reference.mask_features_NChw.shape[-2:])
            present = present_BET.flatten()
            return TrackingMemory(
                memory, reference.shapes, reference.padding_NS, reference.ratios_NL2, present, centres, marked
            )
        if frames_BTCHW is None or text is None:
            raise ValueError("the rgb tracking stream needs the reference frames and the text features")
        told = self.track_frames(frames_BTCHW, masks_BETHW, present_BET, reference.times_BT, reference.sizes_B2, text)
        return replace(told, marked=marked)

    def track_frames(
        self,
        frames_BTCHW: Tensor,
        masks_BETHW: Tensor,
        present_BET: Tensor,
        times_BT: Tensor,
        sizes_B2: Tensor,
        text: TextFeatures,
    ) -> TrackingMemory:
        """The `rgb` stream of normalised reference frames, on a canvas of any size, and their masks on that canvas."""
        blacked = tracking_frames(frames_BTCHW, masks_BETHW)
        expressions = masks_BETHW.shape[1]
        times = times_BT.repeat_interleave(expressions, 0)
        # each of them alone: which frames are referred to says nothing of how things move
        video = self._encode_frames(blacked, times, sizes_B2.repeat_interleave(expressions, 0))
        return self.track_video(video, text, present_BET)

    def track_video(self, video: VideoFeatures, text: TextFeatures, present_BET: Tensor) -> TrackingMemory:
        """The `rgb` stream (TF-RVOS): frames blacked out outside their mask, as B*E videos, read with the sentences."""
        single = TextFeatures(
            text.words_BELC.flatten(0, 1)[:, None],
            text.padding_BEL.flatten(0, 1)[:, None],
            text.sentence_BEC.flatten(0, 1)[:, None],
        )
        fused, shapes, padding = self._fuse(video, single)
        memory, ratios = self._encode(video, fused, shapes, padding, self._positions(video)[1:])
        return TrackingMemory(memory, shapes, padding, ratios, present_BET.flatten())

    def decode(
        self, features: ExpressionFeatures, tracking: TrackingMemory | None = None, *, aux: bool = False
    ) -> Prediction:
        """Queries, heads and masks; `aux` also gives the earlier layers' predictions, for training."""
        batch, expressions, dim = features.sentence_BEC.shape
        frames = features.times_BT.shape[1]
        rows, queries = batch * expressions * frames, self.config.queries
        if tracking is not None and self.config.protocol.track_valid_ratio == "current":
            tracking = replace(tracking, ratios_NL2=features.ratios_NL2)
        target = features.sentence_BEC[:, :, None, None].expand(-1, -1, frames, queries, -1).reshape(-1, queries, dim)
        pointing, carried, starts = self._pointing(features), None, None
        if self.pointed is not None and pointing is not None:
            sizes_N2 = features.sizes_B2.repeat_interleave(expressions * frames, 0)
            starts = peaks(pointing[0], features.shapes[0], sizes_N2, queries)
            features = self.pointed(features, pointing, None if tracking is None else tracking.present_N)
        if self.matching is not None and tracking is not None and tracking.marked is not None:
            features, tracking, carried = self.matching(features, tracking)
        position = self.query_embed.weight.expand(rows, -1, -1)
        reference = self.transformer.initial_reference(self.query_embed.weight, rows, tracking, starts)
        decoded = self.transformer.decoder(
            target, position, reference, features, tracking, box_heads=self.bbox_embed, temporal=self.temporal
        )
        last = len(decoded.embeddings) - 1
        wanted = range(last + 1) if aux else (last,)
        told_N = None if tracking is None else tracking.present_N
        predictions = [self._heads(features, decoded, pointing, told_N, layer, carried) for layer in wanted]
        return replace(predictions[-1], aux=tuple(predictions[:-1]))

    def _pointing(self, features: ExpressionFeatures) -> list[Tensor] | None:
        """Logarithms of the grounding map's shares, the same for every layer; None without the head."""
        if self.grounding_head is None or features.grounding is None:
            return None
        return self.grounding_head.log_shares(features.grounding)

    def _heads(
        self,
        features: ExpressionFeatures,
        decoded: DecoderOutput,
        pointing: list[Tensor] | None,
        told_N: Tensor | None,
        layer: int,
        carried: Carried | None,
    ) -> Prediction:
        batch, expressions = features.sentence_BEC.shape[:2]
        lead = (batch, expressions, features.times_BT.shape[1])
        embeddings, boxes = decoded.embeddings[layer], decoded.boxes[layer]
        copies = lead[1] * lead[2]
        masks = dynamic_masks(
            features.mask_features_NChw,
            self.controller(embeddings),
            boxes[..., :2].detach(),
            features.sizes_B2.repeat_interleave(copies, 0),
            channels=self.config.dynamic_channels,
            rel_coord=self.config.rel_coord,
        )
        if carried is not None and told_N is not None:
            assert self.matching is not None
            masks = masks + self.matching.added(carried, told_N)
        presence = None
        if self.presence_head is not None and layer == len(decoded.embeddings) - 1:
            presence = self.presence_head(embeddings).squeeze(-1).unflatten(0, lead)
        logits = self.class_embed[layer](embeddings)
        if self.grounding_head is not None and pointing is not None:
            # masks are taken as they are: a query answers for its object, it does not move to where words point
            evidence_NQ = self.grounding_head.evidence(pointing, features.shapes, masks.detach())
            if told_N is not None:  # a mask says what is meant better than this frame's words, which may fit two things
                evidence_NQ = evidence_NQ.masked_fill(told_N[:, None], 0)
            logits = logits + evidence_NQ[..., None]
        return Prediction(
            logits_BETQK=logits.unflatten(0, lead),
            boxes_BETQ4=boxes.unflatten(0, lead),
            masks_BETQhw=masks.unflatten(0, lead),
            presence_BETQ=presence,
            embeddings_BETQC=embeddings.unflatten(0, lead),
            reference_points_BETQ2=decoded.references[layer][..., :2].unflatten(0, lead),
            carried_BEThw=None if carried is None else carried.logits_Nhw.unflatten(0, lead),
            told_BET=None if told_N is None else told_N.unflatten(0, lead),
        )

    def forward(
        self, video: VideoFeatures, text: TextFeatures, tracking: TrackingMemory | None = None, *, aux: bool = False
    ) -> Prediction:
        """Read and decode in one go."""
        return self.decode(self.encode_expressions(video, text), tracking, aux=aux)
