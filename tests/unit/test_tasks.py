"""A tidy table of scores -> statistics by dataset and over all of them."""

import math

import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.report import stats, tasks


def rows_of(scores, **more):
    """Rows of {(dataset, method): scores by seed}."""
    return [
        {"dataset": dataset, "method": method, "seed": seed, "score": score} | more
        for (dataset, method), values in scores.items()
        for seed, score in enumerate(values)
    ]


TABLE = rows_of({("x", "a"): [1, 2, 3, 10], ("y", "a"): [50, 50, 50], ("x", "b"): [0, 0, 9], ("y", "b"): [60, 40, 60]})


def test_each_dataset_and_all_of_them():
    found = tasks.summarise(TABLE)
    cell = found.last["x"]["a"]
    # Of 1, 2, 3, 10 the middle two: 2.5; their mean is 4.
    assert (cell.mean.mean, cell.iqm.value, cell.seeds) == (4.0, 2.5, {0: 1, 1: 2, 2: 3, 3: 10})
    assert cell.mean == stats.mean([1, 2, 3, 10])
    # a: seven scores, one is cut at each end: (2 + 3 + 10 + 50 + 50) / 5 = 23. The mean over datasets is (4 + 50) / 2.
    assert (found.overall["a"].iqm.value, found.overall["a"].mean) == (23.0, 27.0)
    # b against a: on x 9 beats 1, 2 and 3 of 12 pairs, 0 none: 3/12. On y 60 beats 50 in six of nine pairs.
    (improvement,) = found.improvements
    assert improvement[:2] == ("b", "a") and improvement.probability.value == pytest.approx((3 / 12 + 6 / 9) / 2)
    assert found.late == {} and found.overall_late == {} and found.incomplete == []


def test_the_table_as_text():
    text = tasks.markdown(tasks.summarise(TABLE))
    assert "| dataset | method | seeds | mean | interquartile mean | each seed |" in text
    assert "| x | a | 4 | 4.0 [-2.5, 10.5] | 2.5 [" in text and "| 1.0 2.0 3.0 10.0 |" in text
    assert "| a | 27.0 | 23.0 [" in text and "| b | a | 0.46 [" in text


def test_the_last_update_that_all_reach_is_the_score():
    # Seed 0 has updates 10 to 40, seed 1 stops at 30: 30 is the score of both, 10 to 30 the last three.
    rows = rows_of({("x", "a"): [1.0, 5.0]}, update=10) + rows_of({("x", "a"): [2.0, 6.0]}, update=20)
    rows += rows_of({("x", "a"): [6.0, 10.0]}, update=30) + rows_of({("x", "a"): [99.0]}, update=40)
    found = tasks.summarise(reversed(rows))
    assert found.last["x"]["a"].seeds == {0: 6.0, 1: 10.0}
    assert found.late["x"]["a"].seeds == {0: 3.0, 1: 7.0}
    assert "| x | a | 2 | 8.0 (6.0, 10.0) | 8.0 | 5.0 (3.0, 7.0) | 6.0 10.0 |" in tasks.markdown(found)
    assert not found.overall  # of one dataset


def test_methods_are_told_apart_by_their_setting():
    rows = rows_of({("x", "guided"): [1.0]}, setting="λ=1") + rows_of({("x", "guided"): [2.0]}, setting="λ=2")
    assert [*tasks.summarise(rows).last["x"]] == ["guided λ=1", "guided λ=2"]


def test_a_method_that_lacks_a_dataset_is_compared_on_its_own():
    found = tasks.summarise(TABLE + rows_of({("y", "c"): [1, 2, 3]}))
    assert found.incomplete == ["c"] and [*found.overall] == ["a", "b"] and len(found.improvements) == 1
    assert found.last["y"]["c"].mean.mean == 2.0
    assert "as they lack one: c." in tasks.markdown(found)


def test_a_lost_seed_shows():
    found = tasks.summarise(rows_of({("x", "a"): [1.0, 2.0, math.nan, 3.0]}))
    assert np.isnan(found.last["x"]["a"].iqm.value) and "1.0 2.0 nan 3.0" in tasks.markdown(found)


@pytest.mark.parametrize(
    "rows, wanted",
    [
        ([], "no rows"),
        ([{"dataset": "x", "method": "a", "seed": 0}], "row 0 has no score"),
        (TABLE + TABLE[:1], "a on x has seed 0 twice"),
        (rows_of({("x", "a"): [1.0]}, measure="r") + rows_of({("x", "b"): [1.0]}, measure="s"), r"measures \(r, s\)"),
        (rows_of({("x", "a"): [1]}, update=9) + rows_of({("x", "b"): [1]}, update=5), "no score up to update 5"),
    ],
)
def test_what_is_no_table_is_refused(rows, wanted):
    with pytest.raises(UserError, match=wanted):
        tasks.summarise(rows)
