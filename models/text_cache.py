"""A frozen text encoder reads a sentence once: its outputs, kept per sentence, padded together on demand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Read = Callable[[Sequence[str]], tuple[Tensor, Tensor, Tensor]]


class TextCache:
    """Least recently used sentences are forgotten beyond `capacity`."""

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def clear(self) -> None:
        """Forget everything (the weights may have changed)."""
        self._kept.clear()

    def read(self, sentences: Sequence[str], encoder: Read) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [n, L, width], pooled [n, width] and padding [n, L]; `encoder` is asked for unknown sentences only."""
        unknown = [s for s in dict.fromkeys(sentences) if s not in self._kept]
        if unknown:
            hidden, pooled, padding = encoder(unknown)
            for sentence, words, vector, pad in zip(unknown, hidden, pooled, padding, strict=True):
                self._kept[sentence] = (words[~pad].clone(), vector.clone())
        for sentence in sentences:
            self._kept.move_to_end(sentence)
        found = [self._kept[sentence] for sentence in sentences]
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        words = [w for w, _ in found]
        lengths = torch.tensor([len(w) for w in words], device=words[0].device)
        hidden = pad_sequence(words, batch_first=True)
        padding = torch.arange(hidden.shape[1], device=lengths.device) >= lengths[:, None]
        return hidden, torch.stack([v for _, v in found]), padding
