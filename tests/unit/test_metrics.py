import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.runs import metrics


def rows_of(*phases):
    return [{"lane": lane, "phase": phase, "loss": phase + lane / 10} for phase in phases for lane in range(2)]


def test_rows_come_back_across_writers(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with metrics.MetricsWriter(path) as writer:
        writer.write(rows_of(0, 1))
        assert metrics.read(path) == rows_of(0, 1)  # on the disk when write returns
    with metrics.MetricsWriter(path) as writer:
        writer.write(rows_of(2))
    assert metrics.read(path) == rows_of(0, 1, 2)


def test_nan_and_infinity_are_valid_json_and_marked(tmp_path):
    path = tmp_path / "metrics.jsonl"
    row = {
        "lane": np.int32(0),
        "phase": 3,
        "loss": np.float32("nan"),
        "peak": jnp.float32(-jnp.inf),
        "returns": np.array([1.5, np.nan], np.float32),
        "score": None,
        "value": jnp.float32(0.5),
    }
    with metrics.MetricsWriter(path) as writer:
        writer.write([row])

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "lane": 0,
        "phase": 3,
        "loss": None,
        "peak": None,
        "returns": [1.5, None],
        "score": None,
        "value": 0.5,
        "nonfinite": ["loss", "peak", "returns"],
    }
    (back,) = metrics.read(path)
    assert math.isnan(back["loss"]) and math.isnan(back["peak"]) and math.isnan(back["returns"][1])
    assert back["score"] is None and "nonfinite" not in back
    assert metrics.first_nonfinite([back], ["score", "value", "peak"]) == (0, 3, "peak")


def test_the_first_nonfinite_value_names_lane_and_phase():
    rows = rows_of(0, 1, 2)
    assert metrics.first_nonfinite(rows, ["loss", "absent"]) is None
    rows[3]["loss"] = np.float32("inf")  # rows are (phase 0, lane 0), (0, 1), (1, 0), (1, 1), ...
    rows[5]["loss"] = math.nan
    assert metrics.first_nonfinite(rows, ["absent", "loss"]) == metrics.NonFinite(lane=1, phase=1, key="loss")
    assert metrics.first_nonfinite(rows, ["phase"]) is None


@pytest.mark.parametrize("tail", ['{"lane": 0, "pha', '{"lane": 0, "phase": 2, "loss": 2', "\0\0\0\0", '{"x": "\udcff'])
def test_a_half_written_last_line_is_dropped(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    with metrics.MetricsWriter(path) as writer:
        writer.write(rows_of(0, 1))
    with open(path, "ab") as file:
        file.write(tail.encode(errors="surrogateescape"))
    assert metrics.read(path) == rows_of(0, 1)
    with metrics.MetricsWriter(path) as writer:
        writer.write(rows_of(2))
    assert metrics.read(path) == rows_of(0, 1, 2)


def test_resume_drops_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with metrics.MetricsWriter(path) as writer:
        writer.write([{"event": "start"}])
        writer.write(rows_of(0, 1))
        writer.write([{"lane": 0, "phase": 2, "loss": math.nan}])
        with open(path, "a") as file:
            file.write('{"lane": 1, "phase": 2')
        writer.truncate_after(1)
        assert metrics.read(path) == [{"event": "start"}, *rows_of(0, 1)]
        writer.write(rows_of(2))
    assert metrics.read(path) == [{"event": "start"}, *rows_of(0, 1, 2)]


def test_truncation_keeps_the_marks_of_earlier_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with metrics.MetricsWriter(path) as writer:
        writer.write([{"lane": 0, "phase": 0, "loss": math.nan}, {"lane": 0, "phase": 1, "loss": 1.0}])
        writer.truncate_after(0)
    assert path.read_text() == '{"lane": 0, "phase": 0, "loss": null, "nonfinite": ["loss"]}\n'


def test_damage_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"phase": 0}\n{"phase": \n{"phase": 2}\n')
    with pytest.raises(UserError, match="line 2"):
        metrics.read(path)
    with pytest.raises(UserError, match="no metrics file"):
        metrics.read(tmp_path / "absent")
