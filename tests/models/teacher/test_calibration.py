"""Calibration: the known vectors, what fitting must find, and no look at the fold that is judged."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.teacher.calibration import (
    QualityModel,
    aurc,
    ece_by_chance,
    fit_isotonic,
    fit_logistic,
    fit_quality,
    isotonic,
    report,
)
from util.errors import InputError

NAN = float("nan")


def test_known_vectors() -> None:
    np.testing.assert_allclose(isotonic([0.2, 0.1, 0.6, 0.5]), [0.15, 0.15, 0.55, 0.55])
    np.testing.assert_allclose(isotonic([3, 0], [1, 2]), [1, 1])
    assert aurc([0.9, 0.6, 0.3], [0.9, 0.6, 0.3]) == pytest.approx(0.25)
    perfect = report([0.9, 0.6, 0.3], [0.9, 0.6, 0.3])
    assert perfect["brier"] == perfect["ece"] == 0 and perfect["spearman"] == pytest.approx(1)
    assert report([0.1, 0.2, 0.3], [0.9, 0.6, 0.3])["spearman"] == pytest.approx(-1)


def test_isotonic_is_the_nearest_that_does_not_fall() -> None:
    draw = np.random.default_rng(1)
    for _ in range(20):
        y = draw.random(6)
        fitted = isotonic(y)
        assert (np.diff(fitted) >= 0).all() and fitted.sum() == pytest.approx(y.sum())
        for _ in range(50):
            other = np.sort(draw.random(6))
            assert ((y - fitted) ** 2).sum() <= ((y - other) ** 2).sum() + 1e-12


def test_isotonic_maps_equal_points_to_one_value() -> None:
    fitted = fit_isotonic([0.5, 0.5, 0.1], [1.0, 0.0, 0.2])
    np.testing.assert_allclose(fitted([0.0, 0.1, 0.3, 0.5, 1.0]), [0.2, 0.2, 0.35, 0.5, 0.5])
    with pytest.raises(InputError):
        fit_isotonic([NAN], [0.5])


def test_logistic_finds_the_model_that_made_its_targets() -> None:
    draw = np.random.default_rng(2)
    rows = draw.normal(3, 2, (4000, 2))
    targets = 1 / (1 + np.exp(-(0.5 + 1.5 * (rows[:, 0] - 3) - 0.7 * (rows[:, 1] - 3))))
    model = fit_logistic(["a", "b"], rows, targets, l2=1e-6)
    np.testing.assert_allclose(model(rows), targets, atol=1e-4)
    assert np.abs(fit_logistic(["a", "b"], rows, targets, l2=1e6).slopes).max() < 0.01


def test_a_missing_feature_is_told_by_its_absence() -> None:
    rows = np.array([[NAN], [NAN], [1.0], [1.0]] * 50)
    model = fit_logistic(["a"], rows, np.array([0.1, 0.1, 0.9, 0.9] * 50), l2=1e-3)
    assert model(np.array([[NAN]]))[0] == pytest.approx(0.1, abs=0.02)
    assert model(np.array([[1.0]]))[0] == pytest.approx(0.9, abs=0.02)


def made(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features of which one tells J; what a person would multiply is misled by the scale of the other."""
    draw = np.random.default_rng(seed)
    j = draw.beta(2, 1, rows)
    features = np.stack([np.clip(j + draw.normal(0, 0.15, rows), 0, 1) ** 3, draw.random(rows)], axis=1)
    return features, j, [f"v{n // 4}" for n in range(rows)]


def test_quality_is_calibrated_on_other_videos() -> None:
    model = fit_quality(["a", "b"], *made(800, 3))
    features, j, _ = made(800, 4)
    said = np.array([model({"a": a, "b": b}) for a, b in features])
    found, plain = report(said, j), report(features.prod(1), j)
    assert found["ece"] < 0.05 and found["aurc"] < plain["aurc"] and found["brier"] < plain["brier"]
    again = QualityModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model and again({}) == model({"a": NAN})


def test_chance_alone_makes_an_error_that_shrinks_with_samples() -> None:
    """J is 0 or 1 with a chance that is stated rightly: the error that is seen is the one foretold, and all chance."""
    draw, seen, foretold = np.random.default_rng(5), {}, {}
    for count in (100, 10000):
        trials = [draw.random(count) for _ in range(20)]
        made = [(said, (draw.random(count) < said).astype(float)) for said in trials]
        seen[count] = np.mean([report(said, j)["ece"] for said, j in made])
        foretold[count] = np.mean([ece_by_chance(said, j) for said, j in made])
    assert foretold[100] == pytest.approx(seen[100], rel=0.2) and foretold[10000] == pytest.approx(seen[10000], rel=0.2)
    assert foretold[10000] < foretold[100] / 5 and ece_by_chance([0.3, 0.9], [1, 1]) == 0


def test_too_few_videos_are_refused() -> None:
    features, j, _ = made(20, 3)
    with pytest.raises(InputError, match="at least 5"):
        fit_quality(["a", "b"], features, j, ["v"] * 20)
    with pytest.raises(InputError, match="calibrate again"):
        QualityModel.from_dict({"logistic": {}})
