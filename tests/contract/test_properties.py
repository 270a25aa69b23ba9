"""Any small file and any settings: they work, or one line says what is wrong; nothing is written."""

import dataclasses
import math

import h5py
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pgd_jax.core import config as configs, hyper as floats, validation
from pgd_jax.core.errors import UserError
from pgd_jax.data import loading
from pgd_jax.data.base import Reading
from pgd_jax.generators import settings as sampling_settings
from pgd_jax.runs import denoiser as denoisers, experiment
from tests.d4rl_files import pendulum_like, write

FEW, MANY = 60, 500
KEYS = ["observations", "actions", "rewards", "terminals", "timeouts", "next_observations"]
DTYPES = ["f2", "f4", "f8", "i4", "u1", "?", "S4", "c8", ">f8"]
NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0.0, -0.0, 1.0, 1e39]),
)


@st.composite
def files(draw):
    """A small dataset with one or two faults, some of which are none."""
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    arrays = pendulum_like(lengths)
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=2)):
        if key not in arrays:
            continue
        array, fault = arrays[key], draw(st.integers(0, 7))
        if fault == 0:
            del arrays[key]
        elif fault == 1:
            with np.errstate(all="ignore"):
                arrays[key] = array.astype(draw(st.sampled_from(DTYPES)))
        elif fault == 2:
            arrays[key] = array[: draw(st.integers(0, len(array)))]
        elif fault == 3:
            arrays[key] = array[..., None]
        elif fault == 4 and array.size:
            array = array.astype(np.float64)
            array.reshape(-1)[draw(st.integers(0, array.size - 1))] = draw(st.floats())
            arrays[key] = array
        elif fault == 5:
            arrays[key] = np.zeros_like(array)
        elif fault == 6:
            arrays[key] = array.astype(np.float64) * draw(st.floats(-1e12, 1e12)) + draw(st.floats(-1e12, 1e12))
        else:
            arrays[key] = np.ones_like(array)
    return arrays


def check_file(folder, arrays, outliers, max_rows):
    path = write(folder / "own.hdf5", arrays)
    before = (folder / "own.hdf5").read_bytes()
    try:
        raw = loading.load(path, reading=Reading(max_rows, 0.0, outliers))
        data = configs.DataConfig(path, window_length=4, window_stride=2)
        made = denoisers.prepare(configs.DenoiserConfig(data, training=configs.TrainingConfig(batch_size=1)), raw)
        for leaf in (made.training.rows, made.normalizer.mean, made.normalizer.std):
            assert np.isfinite(np.asarray(leaf)).all()
        assert (np.asarray(made.normalizer.std) > 0).all()
    except UserError as error:
        assert str(error) and "\n" not in str(error)
    assert [entry.name for entry in folder.iterdir()] == ["own.hdf5"]
    assert (folder / "own.hdf5").read_bytes() == before


def examples(number):
    return hypothesis.settings(
        max_examples=number, deadline=None, database=None, derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )  # fmt: skip


ANY_FILE = hypothesis.given(files(), st.sampled_from(configs.OUTLIERS), st.integers(0, 40))


@examples(FEW)
@ANY_FILE
def test_any_small_file(tmp_path, arrays, outliers, max_rows):
    check_file(tmp_path, arrays, outliers, max_rows)


@pytest.mark.slow
@examples(MANY)
@ANY_FILE
def test_many_small_files(tmp_path, arrays, outliers, max_rows):
    check_file(tmp_path, arrays, outliers, max_rows)


@examples(FEW)
@hypothesis.given(st.binary(max_size=300), st.integers(0, 4000))
def test_any_bytes_in_a_file(tmp_path, noise, place):
    path = tmp_path / "own.hdf5"
    write(path, pendulum_like((8, 8)))
    content = bytearray(path.read_bytes())
    content[place : place + len(noise)] = noise
    path.write_bytes(content)
    try:
        loading.load(str(path))
    except UserError as error:
        assert str(error) and "own.hdf5" in str(error)


def fields(config, prefix=()):
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields(value, (*prefix, field.name))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*prefix, field.name), type(value)


def changed(config, path, value):
    if len(path) == 1:
        return dataclasses.replace(config, **{path[0]: value})
    return dataclasses.replace(config, **{path[0]: changed(getattr(config, path[0]), path[1:], value)})


@examples(FEW)
@hypothesis.given(st.data())
def test_any_number_as_a_setting(data):
    config, check = data.draw(
        st.sampled_from(
            [
                (configs.DenoiserConfig(), validation.validate_denoiser),
                (configs.AgentConfig(denoiser="x"), validation.validate_agent),
                (configs.BehaviourConfig(denoiser="x"), validation.validate_behaviour),
            ]
        )
    )
    path, kind = data.draw(st.sampled_from(list(fields(config))))
    value = data.draw(NUMBERS)
    if kind is int and (isinstance(value, float) and not math.isfinite(value)):
        return
    try:
        check(changed(config, path, kind(value)))
    except UserError as error:
        assert path[-1] in str(error) and "\n" not in str(error)


@examples(FEW)
@hypothesis.given(st.data())
def test_any_number_as_a_float(data):
    names = st.sampled_from(floats.names(experiment.hyper_of(configs.AgentConfig())))
    values = st.one_of(NUMBERS, st.lists(NUMBERS, max_size=3))
    given = data.draw(st.dictionaries(names, values, max_size=3))
    config = configs.AgentConfig(denoiser="x", hyper=given)
    try:
        complete = experiment.complete(config)
        hyper = floats.flatten(complete.hyper)
        assert all(math.isfinite(float(np.float32(value))) for values in hyper.values() for value in values)
    except UserError as error:
        assert any(name in str(error) for name in given) and "\n" not in str(error)


def test_help_of_every_float_says_what_it_is():
    for name, _, text in floats.described(sampling_settings.Hyper()):
        assert text, name


def test_an_empty_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "own.hdf5", "w"):
        pass
    with pytest.raises(UserError, match="it has no array"):
        loading.load(str(tmp_path / "own.hdf5"))
