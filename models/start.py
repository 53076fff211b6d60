"""What training starts from: a tokenizer, and a network with random, pre-trained or given weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from models.checkpoint import initialise
from models.imagenet import load_imagenet
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import (
    TOKENIZER_FILE,
    TextEncoderConfig,
    Tokenizer,
    build_tokenizer,
    train_byte_level_tokenizer,
)
from util.types import ReferringVideo

# prefixes of what comes before the encoder, where words meet pixels
BEFORE_ENCODER = (
    "backbone.", "input_proj.", "motion.", "text_encoder.", "resizer.", "fusion_module.", "space_time.",
    "grounding_head.",
)  # fmt: skip
COMPILED = ("backbone.0", "transformer.encoder", "transformer.decoder", "pixel_decoder")


def start_tokenizer(
    config: TextEncoderConfig, folder: Path, weights: str | None, sentences: Iterable[str]
) -> Tokenizer:
    """The tokenizer in `folder`, else that of the `weights` to start from, else the config's.

    A text encoder given by its architecture alone has none: then a byte-level one is learned from `sentences` and
    written to `folder`. One process at a time may do that.
    """
    beside = _beside(weights)
    if (folder / TOKENIZER_FILE).is_file():
        return build_tokenizer(config, search=folder)
    if config.arch is not None and config.tokenizer is None and beside is None:
        train_byte_level_tokenizer(sentences, folder / TOKENIZER_FILE, int(config.arch["vocab_size"]))
        return build_tokenizer(config, search=folder)
    return build_tokenizer(config, search=beside)


def start_segmenter(
    config: SegmenterConfig,
    tokenizer: Tokenizer,
    *,
    weights: str | None = None,
    only: Sequence[str] = (),
    backbone_weights: Path | None = None,
    overwritten: bool = False,
    say: Callable[[str], None] = print,
) -> Segmenter:
    """A network for training, and a line through `say` about every part that did not start at random.

    `weights` is a checkpoint, ours or released, of which the keys with the prefixes `only` are taken where some are
    given; without it a text encoder that is not given by its architecture takes the hub's. `backbone_weights` are the
    backbone's, whatever `weights` says of it. `overwritten`: a training checkpoint will replace everything, so nothing
    is fetched or read. Raises InputError.
    """
    fetch = not overwritten and weights is None and config.text.arch is None
    segmenter = Segmenter(config, pretrained=fetch, tokenizer=tokenizer)
    if overwritten:
        return segmenter
    if weights is not None:
        say(f"starting from {weights}: {initialise(segmenter, weights, only=only)}")
    if backbone_weights is not None:
        report = load_imagenet(segmenter.backbone, backbone_weights)
        say(f"backbone from {backbone_weights}: {len(report.loaded)} entries loaded")
    return segmenter


def sentences_of(sources: Sequence[Sequence[ReferringVideo]], videos: int = 2000) -> Iterator[str]:
    """Cleaned sentences of the first `videos` videos of each source, as training reads them."""
    for source in sources:
        for number in range(min(videos, len(source))):
            yield from (" ".join(expression.text.lower().split()) for expression in source[number].expressions)


def compile_parts(segmenter: Segmenter, *, backend: str = "inductor") -> None:
    """torch.compile the parts that do most of the work, in place; names in the state_dict stay."""
    for name in COMPILED:
        segmenter.get_submodule(name).compile(backend=backend)


def _beside(weights: str | None) -> Path | None:
    """The folder of local weights, where it holds a tokenizer."""
    if weights is None:
        return None
    path = Path(weights).expanduser()
    folder = path if path.is_dir() else path.parent
    return folder if (folder / TOKENIZER_FILE).is_file() else None
