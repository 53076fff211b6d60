"""The sheet of what videos ask: a row for each, every sentence's colour around its object and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from util.drawing import colour_of
from util.truth_sheet import truth_sheet
from util.types import PRESENT, Expression, ReferringVideo

SIZE = (48, 80)


class Grey:
    fps, size = 5.0, SIZE

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((*SIZE, 3), 128, np.uint8)


class Square:
    """Every object is the same square, which is moved by its id's columns."""

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        masks = np.zeros((len(object_ids), *SIZE), bool)
        for mask, n in zip(masks, object_ids, strict=True):
            mask[14:34, n : n + 20] = True
        return masks, np.full(len(object_ids), PRESENT, np.int8)


def video(*answers: tuple[int, ...]) -> ReferringVideo:
    expressions = tuple(Expression(str(n), f"sentence {n}", ids, "looks") for n, ids in enumerate(answers))
    return ReferringVideo("v", Grey(), tuple("abcd"), expressions, Square())


def frames_of(sheet: np.ndarray) -> np.ndarray:
    """The two frames of a sheet of 80 pixels a frame, without what is written below."""
    return np.stack([sheet[8 : 8 + 48, left : left + 80] for left in (8, 8 + 80 + 8)])


def has(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image == np.asarray(colour, np.uint8)).all(axis=-1)


def test_every_sentence_is_drawn_around_its_object_even_where_several_name_it() -> None:
    drawn = frames_of(truth_sheet([video((10,), (10,), (50,), ())], frames=2, cell_width=80))
    for image in drawn:
        first, second, third, none = (has(image, colour_of(e)) for e in range(4))
        assert first[14:34, 10:30].any() and not first[:, 40:].any()
        assert second.any() and not second[14:34, 10:30].any()  # around the first line
        assert third[14:34, 50:70].any() and not third[:, :40].any()
        assert not none.any()


def test_each_video_has_a_row_and_one_without_sentences_too() -> None:
    one, bare = video((10,)), video()
    sheet = truth_sheet([one, bare, one], frames=2, cell_width=80)
    alone = truth_sheet([one], frames=2, cell_width=80)
    assert (sheet[: len(alone)] == alone).all()
    assert (sheet[-len(alone) :] == alone).all()
    assert not has(sheet[len(alone) : -len(alone)], colour_of(0)).any()
