"""`pgd`: all commands under one name."""

import configparser
import pathlib
import subprocess
import sys

import pytest

import pgd_jax
from pgd_jax import __main__ as front

ROOT = pathlib.Path(__file__).resolve().parents[2]


def call(*line, cwd):
    environment = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *line]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_command_has_a_script_of_its_own():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    scripts = dict(line.split(" = ") for line in lines)
    own = {f"pgd-{name}": f"{module}:run" for name, module in front.COMMANDS.items()}
    assert scripts == {"pgd": "pgd_jax.__main__:run"} | own


def test_alone_it_lists_the_commands_in_a_line_each(tmp_path):
    done = call("pgd_jax", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = done.stdout.partition("commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(front.COMMANDS)
    assert all(len(line.split()) > 5 and line.endswith(".") for line in listed)


def test_a_command_is_the_one_with_a_name_of_its_own(tmp_path):
    """Its flags, its mistakes, its exit status."""
    through, itself = (
        call(*line, "--mach=x", cwd=tmp_path) for line in (("pgd_jax", "datasets"), ("pgd_jax.cli.datasets",))
    )
    assert through.stderr == itself.stderr and "'mach'" in itself.stderr
    assert through.returncode == itself.returncode == 2


def test_what_help_shows_is_the_command_s(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pgd", "datasets", "--match=hopper"])
    monkeypatch.setattr("pgd_jax.cli.datasets.run", lambda: print(sys.argv))
    front.run()
    assert capsys.readouterr().out == "['pgd-datasets', '--match=hopper']\n"


def test_the_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pgd", "--version"])
    front.run()
    assert capsys.readouterr().out == f"pgd_jax {pgd_jax.__version__}\n"


def test_an_unknown_command_is_answered_with_the_nearest(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pgd", "smaple"])
    with pytest.raises(SystemExit) as end:
        front.run()
    assert end.value.code == 2
    assert 'unknown command "smaple"; did you mean "sample"?' in capsys.readouterr().err
