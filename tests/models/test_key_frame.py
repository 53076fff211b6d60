"""Key frames, propagation and clip mode, exactly, on a network whose answers are known; then on the real one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.election import FirstPass, choose_key
from models.inference import Inference, mask_confidence, network_size, overlap
from models.key_frame import InferenceConfig, VideoResult, open_video, segment_video
from models.propagation import agreed_presence
from models.soft_masks import SoftMasks
from models.windows import FeatureCache, blocks, spread_over, windows_of
from tests.fakes import FPS, SIZE, FakeSegmenter, Squares, agree, moving
from util import rle
from util.decision import Decision
from util.errors import InputError
from util.protocol import CORRECTED, PUBLISHED
from util.types import ExpressionFeatures, Prediction, TrackingMemory

CONFIG = InferenceConfig(short_side=64, max_side=96, window=3)


def masks_of(result: VideoResult, sentence: int = 0) -> np.ndarray:
    return np.stack([rle.decode(mask) for mask in result.masks[sentence]])


def truth_of(video: Squares, place: int = 0) -> np.ndarray:
    return np.stack([video.truth(t, place) for t in range(len(video))])


def same(one: VideoResult, other: VideoResult, of: int = 0, as_: int = 0) -> bool:
    return (
        one.masks[of] == other.masks[as_]
        and one.key_E[of] == other.key_E[as_]
        and np.allclose(one.presence_ET[of], other.presence_ET[as_], atol=1e-6)
    )


# --- windows


@pytest.mark.parametrize("frames, window, spread", [(1, 5, 1), (11, 5, 1), (6, 5, 1), (24, 3, 8), (37, 4, 3)])
def test_windows_cover_every_frame_once_and_are_nearly_equal(frames: int, window: int, spread: int) -> None:
    runs = blocks(frames, window, spread)
    assert [t for run in runs for t in run] == list(range(frames))
    dealt = [w for run in runs for w in windows_of(run, window)]
    assert sorted(t for w in dealt for t in w) == list(range(frames))
    assert max(map(len, dealt)) <= window
    assert max(len(run) for run in runs) - min(len(run) for run in runs) <= 1


def test_spread_windows_reach_over_the_block() -> None:
    assert windows_of(blocks(24, 3, 8)[0], 3)[1] == (1, 9, 17)
    assert windows_of(blocks(24, 3, 1)[1], 3) == [(3, 4, 5)]


def test_network_size_follows_the_published_rule() -> None:
    assert network_size((720, 1280), 360, 640) == (360, 640)
    assert network_size((800, 1920), 360, 640) == (267, 640)
    assert network_size((800, 1920), 360, None) == (360, 864)
    assert network_size((4, 4000), 360, 640) == (32, 640)


# --- scores and the key


def test_confidence_is_the_mean_certainty_of_the_foreground() -> None:
    logits = torch.logit(torch.tensor([[[0.9, 0.7, 0.1]], [[0.1, 0.2, 0.3]]]))
    assert mask_confidence(logits, 0.5).tolist() == pytest.approx([(0.8 + 0.4) / 2, 0.0])
    assert overlap(logits[0], -logits[0], 0.5) == 0 and overlap(logits[1], logits[1], 0.5) == 1


def test_answers_unite_the_chosen_queries() -> None:
    logits = torch.logit(torch.tensor([0.9, 0.8, 0.3])).view(1, 1, 1, 3, 1)
    masks = torch.full((1, 1, 1, 3, 16, 24), -9.0)
    for q in range(3):
        masks[0, 0, 0, q, q] = 9.0
    zeros = torch.zeros(1, 1, 1, 3, 4)
    presence = torch.logit(torch.tensor([0.2, 0.6, 0.99])).view(1, 1, 1, 3)
    prediction = Prediction(logits, zeros, masks, None, zeros, zeros[..., :2])

    def read(prediction: Prediction, **decision):
        config = replace(CONFIG, decision=Decision(**decision))
        return Inference(FakeSegmenter(), config, SIZE).read(prediction).at(0, 0)

    one, both = read(prediction), read(prediction, several=True)
    assert one.logits_hw.sigmoid().round().sum(1).tolist()[:3] == [24, 0, 0]
    assert both.logits_hw.sigmoid().round().sum(1).tolist()[:3] == [24, 24, 0]
    assert one.score == both.score == pytest.approx(0.9)
    assert one.presence == pytest.approx(0.9 * one.confidence)
    headed = replace(prediction, presence_BETQ=presence)
    assert read(headed).presence == pytest.approx(0.2)
    assert read(headed, several=True).presence == pytest.approx(0.6)
    none = read(prediction, threshold=0.95, fallback="empty")
    assert none.presence == none.confidence == 0 and none.score == pytest.approx(0.9)
    assert read(replace(headed, masks_BETQhw=-masks.abs()), several=True).presence == 0


def test_key_is_the_best_present_frame_and_the_earliest_of_equals() -> None:
    first = FirstPass(np.array([[0.2, 0.9, 0.7, 0.7]]), np.array([[0.9, 0.1, 0.9, 0.9]]))
    key = choose_key(first, 0, 0.3)
    assert key is not None and key.frame == 2
    assert choose_key(first, 0, 0.95) is None


@pytest.mark.parametrize("best", [0, 4, 10])
def test_brightest_frame_is_the_key_and_every_frame_is_segmented(best: int) -> None:
    video = Squares(moving(11, best=best))
    result = segment_video(FakeSegmenter(), video, ["red"], CONFIG)
    assert result.key_E.tolist() == [best] and result.mode == "track"
    assert agree(masks_of(result), truth_of(video))
    assert result.scores_ET[0].argmax() == best and result.scores_ET.shape == result.presence_ET.shape == (1, 11)


def test_stability_prefers_the_frame_whose_mask_its_neighbours_share() -> None:
    rows = [[("red", 24, left, 0.8)] for left in (0, 20, 40, 40, 40, 60)]
    rows[1] = [("red", 24, 20, 0.9)]
    video = Squares(rows)
    by_class = segment_video(FakeSegmenter(), video, ["red"], CONFIG)
    stable = segment_video(FakeSegmenter(), video, ["red"], replace(CONFIG, frame_score="stability"))
    assert by_class.key_E.tolist() == [1] and stable.key_E.tolist() == [3]
    assert stable.scores_ET[0] == pytest.approx(by_class.scores_ET[0] * [0, 0, 0.5, 1, 0.5, 0], abs=1e-4)


def test_class_score_ignores_the_mask() -> None:
    video = Squares(moving(3))
    plain = segment_video(FakeSegmenter(), video, ["red"], replace(CONFIG, frame_score="class"))
    weighed = segment_video(FakeSegmenter(), video, ["red"], CONFIG)
    sure = 2 / (1 + np.exp(-10)) - 1
    assert weighed.scores_ET == pytest.approx(plain.scores_ET * sure, rel=1e-5)
    assert plain.scores_ET != pytest.approx(weighed.scores_ET, rel=1e-5)


# --- propagation


def test_order_and_references_are_the_golden_ones() -> None:
    video = Squares(moving(8, best=3))
    corrected, published = FakeSegmenter(), FakeSegmenter(protocol=PUBLISHED)
    for network in (corrected, published):
        segment_video(network, video, ["red"], CONFIG)
    assert corrected.tracked == [(4, 3), (5, 4), (6, 5), (7, 6), (2, 3), (1, 2), (0, 1)]
    assert published.tracked == [(5, 3), (6, 5), (7, 6), (1, 3), (0, 1)]


def test_protocol_decides_between_soft_and_hard_masks() -> None:
    video = Squares(moving(4, best=0))
    soft, hard = FakeSegmenter(), FakeSegmenter(protocol=replace(CORRECTED, track_mask="hard"))
    for network in (soft, hard):
        segment_video(network, video, ["red"], CONFIG)
    assert {tuple(mask.shape) for mask in soft.handed} == {(16, 24)}
    assert soft.handed[0].unique().tolist() == pytest.approx([1 / (1 + np.exp(10)), 1 / (1 + np.exp(-10))])
    assert {tuple(mask.shape) for mask in hard.handed} == {SIZE}
    assert agree(hard.handed[0].bool().numpy(), video.truth(0))


def test_published_frames_are_read_alone_and_never_called_absent() -> None:
    network = FakeSegmenter(protocol=PUBLISHED)
    faint = [[("red", 24, 8, 0.15)]]  # below every presence threshold, above the fake's own
    video = Squares(moving(5, best=4)[:3] + faint + moving(5, best=4)[4:])
    result = segment_video(network, video, ["red"], CONFIG)
    assert all(len(frames) == 1 for frames in network.encoded)
    assert masks_of(result)[3].any()
    assert not masks_of(segment_video(FakeSegmenter(), video, ["red"], CONFIG))[3].any()


def with_twin(rows: list, top: int, left: int, brightness: float) -> list:
    """A second red square, listed after the first, in every frame but the best."""
    return [row if row[0][3] > 0.9 else [*row, ("red", top, left, brightness)] for row in rows]


def test_tracking_stays_with_the_referent_where_the_first_pass_would_not() -> None:
    video = Squares(with_twin(moving(9, best=4, top=4), 44, 72, 0.8))
    tracked = segment_video(FakeSegmenter(), video, ["red"], CONFIG)
    assert agree(masks_of(tracked), truth_of(video))
    single = segment_video(FakeSegmenter(), video, ["red"], replace(CONFIG, mode="clip"))
    assert agree(masks_of(single)[0], video.truth(0, 1))


def test_absent_referent_is_predicted_empty_everywhere() -> None:
    result = segment_video(FakeSegmenter(), Squares(moving(6)), ["blue"], CONFIG)
    assert result.key_E.tolist() == [-1] and not masks_of(result).any() and not result.presence_ET.any()


def test_late_referent_is_empty_before_it_enters() -> None:
    video = Squares([[], [], [], *moving(6, best=2)])
    result = segment_video(FakeSegmenter(), video, ["red"], CONFIG)
    assert result.key_E.tolist() == [5]
    assert agree(masks_of(result), truth_of(video))
    assert (result.presence_ET[0] > 0.3).tolist() == [False] * 3 + [True] * 6


@pytest.mark.parametrize("best", [0, 20])
def test_referent_that_returns_elsewhere_is_found_again(best: int) -> None:
    here, there = [("red", 0, 0, 0.6)], [("red", 44, 76, 0.6)]
    rows = [here] * 7 + [[]] * 7 + [there] * 7
    rows[best] = [(*rows[best][0][:3], 0.95)]
    video = Squares(rows)
    result = segment_video(FakeSegmenter(), video, ["red"], replace(CONFIG, patience=3))
    assert result.key_E.tolist() == [best]
    assert agree(masks_of(result), truth_of(video))


def test_patience_delays_the_search() -> None:
    """With the referent gone and a look-alike far away, the look-alike is taken, but not before patience is over."""
    rows = [[("red", 0, 0, 0.95)]] + [[("red", 44, 76, 0.6)]] * 6
    for patience, empty in ((0, 0), (2, 2), (6, 6)):
        result = segment_video(FakeSegmenter(), Squares(rows), ["red"], replace(CONFIG, patience=patience))
        assert [bool(m.any()) for m in masks_of(result)] == [True] + [False] * empty + [True] * (6 - empty)


def test_hidden_for_a_moment_is_continued_and_not_looked_for() -> None:
    referent, other = ("red", 0, 0, 0.6), ("red", 44, 76, 0.8)
    video = Squares([[("red", 0, 0, 0.95)], [referent], [other], [other], [referent, other], [referent, other]])
    result = segment_video(FakeSegmenter(), video, ["red"], replace(CONFIG, patience=3))
    expected = truth_of(video)
    expected[2:4] = False
    assert agree(masks_of(result), expected)


def test_the_first_pass_can_make_a_find_doubtful_but_not_make_one() -> None:
    assert agreed_presence(0.8, 0.1, given=False) == pytest.approx(0.45)
    assert agreed_presence(0.8, 0.1, given=True) == 0.8
    assert agreed_presence(0.2, 0.9, given=False) == 0.2


class Denying(FakeSegmenter):
    """Without a mask it sees nothing from frame 3 on."""

    def decode(self, features: ExpressionFeatures, tracking: TrackingMemory | None = None) -> Prediction:
        found = super().decode(features, tracking)
        if tracking is not None:
            return found
        late_T = (features.times_BT[0] * FPS).round() >= 3
        return replace(found, logits_BETQK=torch.where(late_T[:, None, None], -4.0, found.logits_BETQK))


def test_what_the_first_pass_denies_is_absent_unless_the_mask_was_given() -> None:
    video, config = Squares(moving(6, brightness=0.8, best=1)), replace(CONFIG, presence_below=0.5)
    doubted = segment_video(Denying(), video, ["red"], config)
    assert masks_of(doubted).any((1, 2)).tolist() == [True] * 3 + [False] * 3
    assert (doubted.presence_ET[0, 3:] < 0.5).all() and (doubted.presence_ET[0, :3] > 0.5).all()
    believed = segment_video(Denying(), video, ["red"], config, keys={0: (1, video.truth(1))})
    assert agree(masks_of(believed), truth_of(video)) and (believed.presence_ET[0] > 0.5).all()


@pytest.mark.parametrize("cached_frames", [1, 7, 1000])
def test_several_sentences_are_as_one_by_one(cached_frames: int) -> None:
    red, green, blue = (
        moving(13, colour=colour, best=best, top=top)
        for colour, best, top in (("red", 2, 0), ("green", 9, 24), ("blue", 12, 48))
    )
    rows = [[*r, *(g if t != 5 else []), *b] for t, (r, g, b) in enumerate(zip(red, green, blue, strict=True))]
    video = Squares(rows)
    config = replace(CONFIG, cached_frames=cached_frames)
    sentences = ["red", "green", "blue"]
    together = segment_video(FakeSegmenter(), video, sentences, config)
    assert together.key_E.tolist() == [2, 9, 12]
    for e, sentence in enumerate(sentences):
        assert same(together, segment_video(FakeSegmenter(), video, [sentence], config), of=e)


@pytest.mark.parametrize("spread", [1, 2, 4])
@pytest.mark.parametrize("window", [1, 2, 5])
def test_windows_do_not_change_a_network_that_reads_frames_alone(window: int, spread: int) -> None:
    video = Squares(with_twin(moving(10, best=6, top=4), 44, 72, 0.8))
    expected = segment_video(FakeSegmenter(), video, ["red"], CONFIG)
    result = segment_video(FakeSegmenter(), video, ["red"], replace(CONFIG, window=window, spread=spread))
    assert same(result, expected)


def test_given_key_replaces_the_networks_own() -> None:
    video = Squares(with_twin(moving(9, best=4, top=4), 44, 72, 0.8))
    result = segment_video(FakeSegmenter(), video, ["red", "red"], CONFIG, keys={1: (2, video.truth(2, 1))})
    assert result.key_E.tolist() == [4, 2]
    expected = truth_of(video, 1)
    assert agree(masks_of(result, 0), truth_of(video, 0))
    assert agree(np.delete(masks_of(result, 1), 4, 0), np.delete(expected, 4, 0))  # hidden in frame 4
    assert not masks_of(result, 1)[4].any()


def test_a_key_without_a_mask_takes_the_first_passes_own() -> None:
    """Also where the referent would be called absent: what is tracked from is the caller's choice."""
    video = Squares([*moving(4)[:1], [("red", 24, 12, 0.15)], *moving(5)[2:]])
    free, told = (segment_video(FakeSegmenter(), video, ["red"], CONFIG, keys=keys) for keys in (None, {0: (1, None)}))
    assert free.key_E.tolist() == [0] and told.key_E.tolist() == [1]
    assert not masks_of(free)[1].any() and agree(masks_of(told)[1], video.truth(1))
    chosen = segment_video(FakeSegmenter(), video, ["red"], CONFIG, keys={0: (0, None)})
    assert same(chosen, free)


def test_calls_that_share_a_cache_are_as_calls_of_their_own_and_read_once() -> None:
    video = Squares(with_twin(moving(11, best=6, top=4), 44, 72, 0.8))
    configs = [CONFIG, replace(CONFIG, frame_score="stability", patience=0), replace(CONFIG, presence_below=0.7)]
    network = FakeSegmenter()
    cache = open_video(network, video, ["red", "blue"], CONFIG)
    shared = [segment_video(network, video, ["red", "blue"], config, cache=cache) for config in configs]
    assert sorted(t for window in network.encoded for t in window) == list(range(11))
    for config, result in zip(configs, shared, strict=True):
        alone = segment_video(FakeSegmenter(), video, ["red", "blue"], config)
        assert same(result, alone) and same(result, alone, 1, 1)
    with pytest.raises(AssertionError):
        segment_video(network, video, ["red", "blue"], replace(CONFIG, window=2), cache=cache)


# --- cost


def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames x sentences in the cache after each read."""
    counts: list[int] = []
    read = FeatureCache.read

    def counted(cache: FeatureCache, *arguments):
        block = read(cache, *arguments)
        counts.append(cache.kept)
        return block

    monkeypatch.setattr(FeatureCache, "read", counted)
    return counts


def test_features_held_do_not_grow_with_the_video_or_its_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = held(monkeypatch)
    most = {}
    for frames, sentences in ((30, 1), (300, 1), (30, 3)):
        counts.clear()
        segment_video(FakeSegmenter(), Squares(moving(frames)), ["red", "green", "blue"][:sentences],
                      replace(CONFIG, cached_frames=12))  # fmt: skip
        most[frames, sentences] = max(counts)
    assert most == {(30, 1): 12, (300, 1): 12, (30, 3): 12}


def test_frames_are_encoded_once_while_they_fit_and_at_most_once_a_walk_otherwise() -> None:
    video = Squares(moving(12, best=6))
    roomy, tight = FakeSegmenter(), FakeSegmenter()
    segment_video(roomy, video, ["red"], CONFIG)
    segment_video(tight, video, ["red"], replace(CONFIG, cached_frames=1))
    assert sorted(t for window in roomy.encoded for t in window) == list(range(12))
    times = np.bincount([t for window in tight.encoded for t in window])
    assert times.tolist() == [2] * 6 + [3] * 3 + [2] * 3  # twice; thrice in the key's window, which both walks need


def test_progress_ends_at_its_total() -> None:
    seen: list[tuple[str, int, int]] = []
    segment_video(FakeSegmenter(), Squares(moving(7)), ["red", "blue"], CONFIG, progress=lambda *s: seen.append(s))
    assert [s for s in seen if s[0] == "scoring"][-1] == ("scoring", 7, 7)
    assert seen[-1] == ("tracking", 14, 14)
    assert [done for stage, done, _ in seen if stage == "tracking"] == sorted(d for s, d, _ in seen if s == "tracking")


# --- masks before the threshold


@pytest.mark.parametrize(
    "mode, switches",
    [("track", {}), ("track", {"track_adjacent": "skipped"}), ("clip", {}), ("clip", {"query_scope": "forward"})],
)
def test_soft_masks_are_what_the_finished_ones_come_from(mode: str, switches: dict[str, str]) -> None:
    rows = [*moving(5), *moving(4, colour="green", top=24), [("red", 0, 0, 0.6), ("green", 40, 40, 0.6)]]
    config = replace(CONFIG, mode=mode, clip_window=4)
    network, soft = FakeSegmenter(protocol=replace(CORRECTED, **switches)), SoftMasks()
    result = segment_video(network, Squares(rows), ["red", "green", "blue"], config, soft=soft)
    assert 0 < sum(masks_of(result, e).any((1, 2)).sum() for e in range(3)) < 2 * len(rows)
    for frame in range(len(rows)):
        probabilities = soft.probabilities(frame, [2, 0, 1])
        assert probabilities.dtype == np.float32 and probabilities.min() >= 0 and probabilities.max() <= 1
        assert np.array_equal(probabilities > 0.5, result.frame_masks(frame)[[2, 0, 1]])


# --- clip mode


class TwoClips(FakeSegmenter):
    """Query 0 is the better one in the first four frames, query 1 after them and on the average."""

    def decode(self, features, tracking=None) -> Prediction:
        prediction = super().decode(features, tracking)
        early = (features.times_BT[0] < 0.35)[None, None, :, None]
        scores = torch.where(early, torch.tensor([0.6, 0.5]), torch.tensor([0.3, 0.8]))
        return replace(prediction, logits_BETQK=torch.logit(scores)[..., None])


def test_clip_mode_chooses_one_query_per_forward_or_per_video() -> None:
    video = Squares(moving(8))
    config = replace(CONFIG, mode="clip", clip_window=4)
    full = np.ones((4, *SIZE), bool)

    def masks(**switches: str) -> tuple[np.ndarray, list[list[int]]]:
        network = TwoClips(protocol=replace(CORRECTED, **switches))
        return masks_of(segment_video(network, video, ["red"], config)), network.encoded

    per_video, windows = masks()
    assert per_video.all() and windows == [[0, 1, 2, 3], [4, 5, 6, 7]]
    per_forward, _ = masks(query_scope="forward")
    assert agree(per_forward, np.concatenate([truth_of(video)[:4], full]))
    whole, windows = masks(query_scope="forward", fpn_window="all")
    assert whole.all() and windows == [list(range(8))]


def test_clip_mode_is_the_default_without_a_tracking_stream() -> None:
    video = Squares(moving(5, best=3))
    result = segment_video(FakeSegmenter(tracking="none"), video, ["red"], CONFIG)
    assert result.mode == "clip" and result.key_E.tolist() == [-1]
    assert agree(masks_of(result), truth_of(video))
    assert np.allclose(result.scores_ET[0], [0.6, 0.6, 0.6, 0.95, 0.6], atol=0.01)
    with pytest.raises(InputError, match="no tracking stream"):
        segment_video(FakeSegmenter(tracking="none"), video, ["red"], replace(CONFIG, mode="track"))


def test_clip_mode_predicts_absent_frames_empty_unless_published() -> None:
    video = Squares([*moving(4), [("red", 24, 8, 0.15)]])
    for protocol, present in ((CORRECTED, False), (PUBLISHED, True)):
        network = FakeSegmenter(tracking="none", protocol=protocol)
        assert masks_of(segment_video(network, video, ["red"], CONFIG))[4].any() == present


def test_masks_are_upsampled_as_the_protocol_says() -> None:
    """62 x 94 needs 16 x 24 cells: stretched, these shrink to the frame; cropped, they keep their four pixels."""
    source = (62, 94)
    logits = torch.full((1, 16, 24), -10.0)
    logits[:, 4:8, 8:16] = 10

    def finished(way: str) -> np.ndarray:
        network = FakeSegmenter(protocol=replace(CORRECTED, mask_upsample=way))
        return Inference(network, replace(CONFIG, short_side=62), source).finish(logits)[0]

    rows, columns = (np.flatnonzero(finished("crop").any(axis)) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (16, 31, 32, 63)
    rows, columns = (np.flatnonzero(finished("stretch").any(axis)) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (16, 30, 31, 62)


# --- errors and manners


@pytest.mark.parametrize(
    "sentences, said", [([], "no sentence"), (["red", " "], "sentence 2 is empty"), ("red", "no sent")]
)
def test_sentences_are_needed(sentences, said: str) -> None:
    with pytest.raises(InputError, match=said):
        segment_video(FakeSegmenter(), Squares(moving(2)), sentences, CONFIG)


def test_sentences_are_cleaned_unless_published() -> None:
    class Heard(FakeSegmenter):
        def encode_text(self, captions):
            heard.append(captions)
            return super().encode_text([["red"]])

    heard: list[list[list[str]]] = []
    for protocol in (CORRECTED, PUBLISHED):
        result = segment_video(Heard(protocol=protocol), Squares(moving(2)), [" The  Red ONE"], CONFIG)
    assert heard == [[["the red one"]], [[" The  Red ONE"]]] and result.sentences == (" The  Red ONE",)


def test_bad_input_is_refused() -> None:
    video = Squares(moving(3))
    mask = np.ones(SIZE, bool)
    refused = [
        (dict(frames=Squares([])), "no frames"),
        (dict(keys={1: (0, mask)}), "counted from 0"),
        (dict(keys={0: (3, mask)}), "ends at 2"),
        (dict(keys={0: (0, mask[1:])}), "at the frames' size"),
        (dict(keys={0: (0, mask)}, config=replace(CONFIG, mode="clip")), "leave the keys out"),
        (dict(config=replace(CONFIG, window=0)), "window is 0"),
        (dict(config=replace(CONFIG, threshold=1.0)), "threshold is 1.0"),
    ]
    for change, said in refused:
        arguments = dict(frames=video, sentences=["red"], config=CONFIG) | change
        with pytest.raises(InputError, match=said):
            segment_video(FakeSegmenter(), **arguments)


def test_frames_of_another_size_and_damaged_weights_are_refused() -> None:
    class Growing(Squares):
        def __getitem__(self, index: int) -> np.ndarray:
            return np.zeros((64, 96 + index, 3), np.uint8)

    class Damaged(FakeSegmenter):
        def decode(self, features, tracking=None) -> Prediction:
            prediction = super().decode(features, tracking)
            return replace(prediction, logits_BETQK=prediction.logits_BETQK * float("nan"))

    with pytest.raises(InputError, match="one size"):
        segment_video(FakeSegmenter(), Growing(moving(3)), ["red"], CONFIG)
    for mode in ("track", "clip"):
        with pytest.raises(InputError, match="weights are damaged"):
            segment_video(Damaged(), Squares(moving(3)), ["red"], replace(CONFIG, mode=mode))


@pytest.mark.parametrize("training", [True, False])
def test_network_is_left_in_the_mode_it_was_in(training: bool) -> None:
    network = FakeSegmenter().train(training)
    segment_video(network, Squares(moving(3)), ["red"], CONFIG)
    assert network.training is training and torch.is_grad_enabled()
    with pytest.raises(InputError):
        segment_video(network, Squares(moving(3)), [], CONFIG)
    assert network.training is training


@pytest.mark.parametrize(
    ("frames", "cached", "spread"), [(24, 512, 3), (96, 512, 12), (10, 512, 2), (96, 64, 4), (2000, 512, 32)]
)
def test_a_spanning_window_sees_the_whole_video_as_far_as_is_kept(frames, cached, spread):
    config = InferenceConfig(window=8, spread=2, cached_frames=cached, spanning=True)
    assert spread_over(frames, 8, config) == spread
    assert spread_over(frames, 8, replace(config, spanning=False)) == 2
    longest = max(len(block) for block in blocks(frames, 8, spread))
    assert longest <= max(cached // 2, 16)
    if frames <= cached // 2:
        assert windows_of(blocks(frames, 8, spread)[0], 8)[0][0] == 0
        assert len(blocks(frames, 8, spread)) == 1
