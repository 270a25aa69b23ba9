"""Compiled programs on disk: commands write and read them, users can say where, and no machine reads another's."""

import configparser
import os
import pathlib
import subprocess
import sys
import time
import zlib

import jax
import jax.numpy as jnp
import pytest

from pgd_jax.core import compilation
from pgd_jax.core.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A command. "early" among its arguments: JAX is imported before the flags are parsed, as some experiments do.
COMMAND = """
import sys
if "early" in sys.argv:
    sys.argv.remove("early")
    import jax
from absl import flags
from pgd_jax.cli import entry

def prepare():
    if "--distributed=auto" in sys.argv:
        flags.DEFINE_string("distributed", "", "which only some commands have")
    def main():
        import jax
        found = []
        jax.monitoring.register_event_listener(lambda event, **_: found.append(event.rpartition("/")[2]))
        y = jax.jit(lambda x: jax.numpy.sin(x) @ x)(jax.numpy.ones((3, 3)))
        print(float(y[0, 0]), found.count("cache_hits"), found.count("cache_misses"))
        print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
    return main

entry.run(prepare, "")
"""


@pytest.fixture
def start(tmp_path):
    """Starts COMMAND where nothing is kept yet: the user's caches are in tmp_path / "caches"."""

    def start(*arguments, **variables):
        own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        own |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "caches")}
        own |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **variables}
        line, pipe = [sys.executable, "-c", COMMAND, *arguments], subprocess.PIPE
        return subprocess.Popen(line, env=own, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)

    return start


def finish(process):
    """(value, programs read, programs compiled), JAX's settings, stderr."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    counts, settings = stdout.splitlines()
    value, hits, misses = counts.split()
    return (float(value), int(hits), int(misses)), settings, stderr


def programs(folder):
    return {path.relative_to(folder) for path in folder.rglob("*-cache")}


def test_what_one_start_compiles_the_next_reads(start, tmp_path):
    """The first two share the folder from the start, at the same time."""
    first = [finish(process) for process in [start(), start()]]
    kept = programs(tmp_path / "caches")
    assert kept and {path.parent for path in kept} == {pathlib.Path("pgd_jax/compiled") / compilation.machine()}
    (value, hits, misses), _, stderr = finish(start())
    assert (hits, misses) == (len(kept), 0) and stderr == ""
    for (other, _, _), _, stderr in first:  # one may find a file that the other has half written: a warning of JAX
        assert other == value and "Traceback" not in stderr
    assert programs(tmp_path / "caches") == kept


def test_none_keeps_nothing_whatever_jax_s_variable_says(start, tmp_path):
    variables = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine")}
    (_, hits, _), _, stderr = finish(start("--compilation_cache=none", **variables))
    assert hits == 0 and stderr == "" and list(tmp_path.iterdir()) == []


def test_one_of_several_processes_keeps_nothing(start, tmp_path):
    (_, hits, _), _, stderr = finish(start("--distributed=auto"))
    assert hits == 0 and stderr == "" and list(tmp_path.iterdir()) == []


def test_jax_s_own_variable_is_left_alone(start, tmp_path):
    _, settings, _ = finish(start(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")))
    assert programs(tmp_path / "mine") and settings == f"{tmp_path / 'mine'} 0.0"
    assert not (tmp_path / "caches").exists()


def test_a_named_folder_comes_before_jax_s_variables_also_where_jax_is_imported(start, tmp_path):
    variables = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine"), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    _, settings, _ = finish(start("early", "--compilation_cache=here", **variables))
    assert settings == f"{tmp_path / 'here' / compilation.machine()} 0.0"
    assert programs(tmp_path / "here") and not (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_written_to_is_one_line(start, tmp_path):
    (tmp_path / "caches").write_text("a file")
    (_, hits, misses), _, stderr = finish(start())
    assert hits == 0 and misses == 0
    assert stderr.startswith("warning: compiled programs are not kept: ") and stderr.count("\n") == 1
    assert str(tmp_path / "caches") in stderr and "--compilation_cache" in stderr


def test_a_folder_without_permission_is_told_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root, as whom tests may run, none is
    before = dict(os.environ)
    compilation.keep(str(tmp_path))
    assert f"{tmp_path / compilation.machine()} cannot be written to" in capsys.readouterr().err
    assert dict(os.environ) == before


def test_an_empty_choice_is_refused():
    with pytest.raises(UserError, match='--compilation_cache is empty: it must be "auto", "none" or a folder'):
        compilation.keep("")


CPU = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx2\ncpu MHz\t\t: 2400.1\n"


@pytest.fixture
def machine_of(tmp_path, monkeypatch):
    def machine_of(cpu_info):
        path = tmp_path / "cpuinfo"
        path.write_text(cpu_info)
        monkeypatch.setattr(compilation, "CPU_INFO", path)
        return compilation.machine()

    return machine_of


def test_each_kind_of_machine_has_its_own_folder(machine_of, monkeypatch):
    own = machine_of(CPU)
    others = [machine_of(CPU.replace("avx2", "avx2 avx512f")), machine_of(CPU.replace("X", "Y"))]
    others.append(machine_of(CPU.replace("flags", "Features").replace("fpu avx2", "asimd sve")))
    assert machine_of(CPU.replace("2400.1", "1800.0") + "\n" + CPU.replace(": 0", ": 1")) == own  # the same one, cooler
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(77)))
    others.append(machine_of(CPU))
    monkeypatch.undo()
    monkeypatch.setattr(compilation.importlib.metadata, "version", lambda name: "0.10.99")
    others.append(machine_of(CPU))
    assert len({own, *others}) == 6 and "0.10.99" in others[-1]


def test_without_a_description_of_the_cpu_each_host_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "CPU_INFO", tmp_path / "missing")
    names = set()
    for node in ("a", "b"):
        monkeypatch.setattr(compilation.platform, "node", lambda node=node: node)
        names.add(compilation.machine())
    assert len(names) == 2


def test_the_programs_that_were_read_last_stay(tmp_path):
    files = []
    for age in range(6):  # of 10 bytes each, in the folders of two machines
        folder = tmp_path / f"machine{age % 2}"
        folder.mkdir(exist_ok=True)
        (folder / compilation.MARK).write_text(compilation.MARK_TEXT)
        files.append(folder / f"jit_f-{age:064x}-cache")
        files[-1].write_bytes(bytes(10))
        os.utime(files[-1], (1_000_000 - age, 1_000))
    other = tmp_path / "machine0" / "notes"
    other.write_bytes(bytes(100))
    compilation.shrink(tmp_path, 60)
    assert all(path.exists() for path in files)
    compilation.shrink(tmp_path, 59)  # half of that is room for two
    assert [path.exists() for path in files] == [True] * 2 + [False] * 4 and other.exists()


def test_programs_that_were_left_half_written_are_made_again(start, tmp_path):
    """By a process that was killed, or found the disk full: JAX alone would warn of them at every start."""
    (value, _, num_programs), _, _ = finish(start())
    folder = tmp_path / "caches" / "pgd_jax" / "compiled" / compilation.machine()
    files = sorted(folder.glob("*-cache"))
    for file in files:
        os.truncate(file, 0 if file is files[0] else 100)
        at = time.time() - compilation.SETTLED_S
        os.utime(file, (at, at))
    os.utime(folder / compilation.MARK, (at - 1.0, at - 1.0))
    assert finish(start())[::2] == ((value, 0, num_programs), "")
    assert finish(start())[::2] == ((value, num_programs, 0), "")


def test_programs_are_looked_through_once_and_not_while_they_may_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "_configure", lambda *_: None)
    compilation.keep(str(tmp_path))
    folder, now = tmp_path / compilation.machine(), time.time()
    contents = [b"cut off", b"cut off", b"cut off", zlib.compress(b"whole"), compilation.ZSTD + b"not looked into"]
    ages_s = [2.0 * compilation.SETTLED_S, 0.0, 1_000.0, *[2.0 * compilation.SETTLED_S] * 2]
    files = [folder / f"jit_f-{number:064x}-cache" for number in range(len(contents))]
    for file, content, age_s in zip(files, contents, ages_s, strict=True):
        file.write_bytes(content)
        os.utime(file, (now - age_s, now - age_s))
    os.utime(folder / compilation.MARK, (now - 500.0, now - 500.0))
    compilation.keep(str(tmp_path))
    assert [file.exists() for file in files] == [False, True, True, True, True]


def test_files_of_others_are_never_pruned(tmp_path, monkeypatch):
    """Below a folder that a user names, and beside the programs themselves; old ones, many times too large."""
    program = f"jit_f-{1:064x}-cache"
    mine = [tmp_path / "videos" / "movie-cache", tmp_path / "other" / program]
    mine += [tmp_path / compilation.machine() / name for name in ("my-cache", "notes", f"{1:064x}-cache.bak")]
    monkeypatch.setattr(compilation, "MAX_BYTES", 1)
    monkeypatch.setattr(compilation, "_configure", lambda *_: None)
    compilation.keep(str(tmp_path))  # makes and marks its own folder
    ours = tmp_path / compilation.machine() / program
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / compilation.MARK).write_text(compilation.MARK_TEXT.replace("pgd_jax", "another program"))
    for file in (*mine, ours):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(100))
        os.utime(file, (1_000, 1_000))
    compilation.keep(str(tmp_path))
    assert all(file.exists() for file in mine) and not ours.exists()


def test_a_folder_that_held_something_is_not_taken_for_our_own(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "_configure", lambda *_: None)
    folder = tmp_path / compilation.machine()
    folder.mkdir()
    (folder / "movie").write_text("")
    compilation.keep(str(tmp_path))
    assert not (folder / compilation.MARK).exists()


def scripts():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    return [line.partition("=")[2].partition(":")[0].strip() for line in filter(None, lines)]


# Started as a console script starts, or by python -m.
HELP = """
import importlib, runpy, sys
module, kind = sys.argv.pop(1), sys.argv.pop(1)
try:
    if kind == "script":
        importlib.import_module(module).run()
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    print("imported:", *sorted({"jax", "flax", "h5py"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "module, kind",
    [
        *((module, "script") for module in scripts()),
        *((module, "-m") for module in ("pgd_jax", "pgd_jax.cli.quickstart", "pgd_jax.launch.local")),
    ],
)
def test_help_shows_the_flags_and_waits_for_jax_only_where_it_must(module, kind):
    line = [sys.executable, "-c", HELP, module, kind, "--help"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert "\n  --" in done.stdout.partition("flags:")[2], done.stderr
    # Which floats there are, the agent and the generator know, which are JAX.
    is_quick = module != "pgd_jax.cli.train_agent"
    assert (done.stdout.splitlines()[-1] == "imported:") == is_quick


@pytest.mark.parametrize("is_late", [False, True])
def test_an_import_that_comes_too_late_for_the_choice_is_told_of(is_late):
    code = "import jax; jax.devices(); import pgd_jax" if is_late else "import jax, pgd_jax; jax.devices()"
    own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    has_choice = compilation.importlib.metadata.version("jaxlib").startswith(compilation.YNN_RELEASES)
    assert ("was imported after JAX had started" in done.stderr) == (is_late and has_choice)


def test_matrices_are_multiplied_by_eigen():
    """This process imported the package before it used its device, like every command and notebook."""
    product = jax.jit(lambda x: jnp.tanh(x @ x) @ x).lower(jnp.ones((256, 256))).compile()
    assert "ynn" not in product.as_text()


@pytest.mark.parametrize(
    ("jaxlib", "before", "after"),
    [
        ("0.10.2", "", f"{compilation.YNN_FLAG}="),
        ("0.11.2", "--other=1", f"--other=1 {compilation.YNN_FLAG}="),
        ("0.10.2", f"{compilation.YNN_FLAG}=dot", f"{compilation.YNN_FLAG}=dot"),
        ("0.12.0.1", "", f"{compilation.YNN_FLAG}="),
        ("0.12.1", "--other=1", "--other=1"),  # an unknown flag would end the process
    ],
)
def test_flags_that_are_set_or_unknown_stay(jaxlib, before, after, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.setattr(compilation.importlib.metadata, "version", lambda name: jaxlib)
    compilation.use_eigen()
    compilation.use_eigen()  # once is enough
    assert os.environ["XLA_FLAGS"] == after


@pytest.mark.parametrize(
    ("before", "chosen", "after"),
    [
        ("--other=1", None, f"--other=1 {compilation.DEVICES_FLAG}=3"),
        (f"{compilation.DEVICES_FLAG}=5", None, f"{compilation.DEVICES_FLAG}=5"),
        ("--other=1", "1", "--other=1"),
    ],
)
def test_a_cpu_passes_for_as_many_devices_as_it_has_cores(before, chosen, after, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    if chosen:
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", chosen)
    monkeypatch.setattr(compilation, "num_cores", lambda: 3)
    compilation.divide_cpu()
    compilation.divide_cpu()
    assert os.environ["XLA_FLAGS"] == after


COUNT_DEVICES = """
import sys
from absl import flags
from pgd_jax.cli import entry
def main():
    import jax
    print(jax.local_device_count())
def prepare():
    flags.DEFINE_string("distributed", "", "")
    return main
entry.run(prepare, "")
"""


@pytest.mark.parametrize("distributed, devices", [("", compilation.num_cores()), ("auto", 1)])
def test_a_command_has_the_cores_as_devices_but_for_several_processes(distributed, devices):
    chosen = {"JAX_NUM_CPU_DEVICES", "XLA_FLAGS"}
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    command = [sys.executable, "-c", COUNT_DEVICES, f"--distributed={distributed}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(devices)]
