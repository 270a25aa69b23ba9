"""The files of launch/ at the repository's root, as far as they can be checked without docker or a cloud."""

import configparser
import importlib.util
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_dockerfile_copies_what_is_there_and_knows_the_extras():
    text = (ROOT / "launch" / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()]
    assert len(copied) == 6 and all((ROOT / name).exists() for name in copied)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert re.search(r"\n\s+cuda\|tpu\)", text) and {"cuda", "tpu"} <= set(setup["options.extras_require"])


def test_the_skypilot_file_calls_what_is_there():
    found = yaml.safe_load((ROOT / "launch" / "skypilot.yaml").read_text())
    assert set(found) == {"name", "envs", "resources", "workdir", "file_mounts", "setup", "run"}
    assert found["envs"] == {"LINE": "0"} and found["file_mounts"]["/runs"]["mode"] == "MOUNT_CACHED"
    module = re.search(r"python -m (\S+) /runs/study", found["run"])[1]
    assert importlib.util.find_spec(module) is not None
