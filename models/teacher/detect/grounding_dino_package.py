"""Grounding DINO by its original code: the package `groundingdino` (`pip install groundingdino-py`), if it is there.

transformers' port of the same weights (`GroundingDino`) is the default and needs nothing; this is to compare with it.
The package is older than transformers 5: BERT's methods that it looks for are lent to it while a network is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.teacher.convert.grounding_dino import BERT, recognise, tokenizer_folder
from models.teacher.convert.original import read_original
from models.teacher.detect.grounding import Grounding, GroundingDetector, read_grounding
from models.teacher.detect.phrases import clean_phrase
from models.teacher.interfaces import ModelInfo
from models.teacher.loading import weights_hash
from util.boxes import cxcywh_to_xyxy
from util.errors import InputError

_SHORT, _LONG = 800, 1333  # pixels of the resized image's sides, as in the package's own demo
_CONFIGS = {96: "GroundingDINO_SwinT_OGC.py", 128: "GroundingDINO_SwinB_cfg.py"}  # by the width of Swin
# In the released files and in no network of the package, or in the network and computed anew
_CONSTANTS = ("label_enc.weight", "bert.embeddings.position_ids", "relative_position_index")


class GroundingDinoPackage(GroundingDetector):
    """A `GroundingDetector`; `weights` is an original .pth.

    tokenizer  hub id or folder of bert-base-uncased's tokenizer; short, long  pixels of the resized image's sides
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        tokenizer: str | Path = BERT,
        device: str | torch.device = "cpu",
        threshold: float = 0.35,
        text_threshold: float = 0.25,
        iou: float = 0.7,
        short: int = _SHORT,
        long: int = _LONG,
    ) -> None:
        """Raises InputError where the package is not installed, or the file is not one of its networks' key for key."""
        original = read_original(weights)
        config, _ = recognise(original, weights)
        network = build_network(config, tokenizer_folder(tokenizer, config, weights))
        _load(network, original, weights)
        self.network, self.device = network.to(device).eval(), torch.device(device)
        revision = weights_hash([Path(weights)])
        info = ModelInfo("grounding_dino_package", str(weights), revision, "apache-2.0")
        super().__init__(info, threshold=threshold, text_threshold=text_threshold, iou=iou)
        self.short, self.long = short, long

    @torch.inference_mode()
    def ground(
        self, image_HW3: np.ndarray, phrases: Sequence[str], heads: Sequence[str] | None = None
    ) -> list[Grounding]:
        pixels_13HW = self._pixels(image_HW3).to(self.device)
        scale_4 = torch.tensor([image_HW3.shape[1], image_HW3.shape[0]] * 2, device=self.device)
        answers = []
        for asked, head in zip(phrases, heads or [""] * len(phrases), strict=True):
            phrase = clean_phrase(asked)
            encoded = self.network.tokenizer(f"{phrase}.", return_offsets_mapping=True)
            output = self.network(pixels_13HW, captions=[f"{phrase}."])
            boxes_Q4 = cxcywh_to_xyxy(output["pred_boxes"][0].float()) * scale_4
            answers.append(read_grounding(phrase, head, encoded["offset_mapping"], boxes_Q4, output["pred_logits"][0]))
        return answers

    def _pixels(self, image_HW3: np.ndarray) -> Tensor:
        from groundingdino.datasets import transforms

        steps = transforms.Compose(
            [
                transforms.RandomResize([self.short], max_size=self.long),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )
        pixels_3HW: Tensor = steps(Image.fromarray(image_HW3), None)[0]
        return pixels_3HW[None]


def build_network(config: Any, tokenizer: Path) -> Any:
    """The package's network of a size (a GroundingDinoConfig), with random weights and the words of `tokenizer`.

    Raises InputError where the package is not installed, and for a size that it does not have.
    """
    try:
        import groundingdino
        from groundingdino.util.slconfig import SLConfig
    except ImportError as error:
        raise InputError(
            f"the package groundingdino is not usable here ({error}); `pip install groundingdino-py`, or use "
            "--detector grounding_dino, which reads the same weights once `main.py teach convert` has renamed them"
        ) from error
    name = _CONFIGS.get(config.backbone_config.embed_dim)
    if name is None:
        raise InputError(f"the package has no network with a Swin of width {config.backbone_config.embed_dim}")
    with _old_bert(config.text_config):
        from groundingdino.models import build_model

        settings = SLConfig.fromfile(str(Path(groundingdino.__file__).parent / "config" / name))
        settings.device, settings.text_encoder_type = "cpu", str(tokenizer)
        for key, value in {
            "num_queries": config.num_queries,
            "enc_layers": config.encoder_layers,
            "dec_layers": config.decoder_layers,
            "dim_feedforward": config.encoder_ffn_dim,
        }.items():
            setattr(settings, key, value)
        return build_model(settings)


def _load(network: Any, original: dict[str, Tensor], path: str | Path) -> None:
    weights = {key.removeprefix("module."): value for key, value in original.items()}
    report = network.load_state_dict(weights, strict=False)
    missing = [key for key in report.missing_keys if not key.endswith(_CONSTANTS)]
    unexpected = [key for key in report.unexpected_keys if not key.endswith(_CONSTANTS)]
    if missing or unexpected:
        raise InputError(
            f"{path} does not fit the package's network: {len(missing)} missing {missing[:5]}, {len(unexpected)} "
            f"unexpected {unexpected[:5]}"
        )


@contextmanager
def _old_bert(config: Any) -> Iterator[None]:
    """BERT as the package knows it: methods that transformers 5 dropped, and a text encoder that is not downloaded.

    The methods stay: the network calls them later. The text encoder is random, since its weights are in the file.
    """
    from transformers import BertModel

    for name, method in (
        ("get_extended_attention_mask", _extended_mask),
        ("invert_attention_mask", lambda self, mask: _extended_mask(self, mask)),
        ("get_head_mask", lambda self, mask, layers, *_: [None] * layers if mask is None else mask),
    ):
        if not hasattr(BertModel, name):
            setattr(BertModel, name, method)
    from groundingdino.models.GroundingDINO import groundingdino as code

    kept = code.get_tokenlizer.get_pretrained_language_model
    code.get_tokenlizer.get_pretrained_language_model = lambda _: BertModel(config)
    try:
        yield
    finally:
        code.get_tokenlizer.get_pretrained_language_model = kept


def _extended_mask(self: Any, mask: Tensor, *_: object, **__: object) -> Tensor:
    """0 where tokens see each other and the least number elsewhere, [B, 1, 1 or L, L] from [B, L] or [B, L, L]."""
    kind = next(self.parameters()).dtype
    seen = mask[:, None] if mask.dim() == 3 else mask[:, None, None]
    return (1 - seen.to(kind)) * torch.finfo(kind).min
