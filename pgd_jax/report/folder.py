"""The directory of a report, which may hold files of reports only."""

import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from pgd_jax.core import places
from pgd_jax.core.errors import UserError
from pgd_jax.report import exchange, html_page, stats
from pgd_jax.runs.sinks import base as sink_seam

PAGE, HTML, NUMBERS, RESULTS, POOL = (
    "report.md", "report.html", "report.json", "results.csv", "final_returns",
)  # fmt: skip
SETTINGS = "settings.csv"  # of a report over the jobs of a sweep
SINKS = "sinks"  # what was sent elsewhere, such as TensorBoard's files
FIGURES = (
    "learning_curves.png", "on_policy.png", "dynamics_error.png", "windows.png", "denoiser.png", "bandit.png",
    "profiles.png",
)  # fmt: skip
MADE_BY = "pgd_jax"  # marks report.json as ours: other programs may write files with the same names


def check(out: pathlib.Path) -> None:
    """Raises UserError where `out` holds other things than an older report."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; the report needs a directory of its own")
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    older = _older(out)
    known: set[str] = set()
    if older is not None:
        texts = {PAGE, HTML, NUMBERS, RESULTS, SETTINGS}
        known = {*texts, *(name + places.PARTIAL for name in texts), *FIGURES, POOL, SINKS, *older.get("parts", [])}
    parts = (places.PART.fullmatch(name) for name in names)  # of tables that a killed process was writing
    known |= {part[0] for part in parts if part and part["name"] in (RESULTS, SETTINGS)}
    strangers = sorted(names - known)
    strangers += [f"{POOL}/{path.name}" for path in (out / POOL).glob("*") if not exchange.NAME.fullmatch(path.name)]
    if strangers:
        raise UserError(f"{out} holds other things than a report ({strangers[0]}); name a new or empty directory")


def begin(out: pathlib.Path, parts: Iterable[str] = ()) -> None:
    """Marks `out` as a report and removes the files of an older one. `parts` are the names of reports inside it."""
    out.mkdir(parents=True, exist_ok=True)
    places.replace_text(out / NUMBERS, json.dumps({"made_by": MADE_BY, "parts": list(parts)}) + "\n")
    for path in [out / RESULTS, out / SETTINGS, *(out / name for name in FIGURES), *(out / POOL).glob("*.npz")]:
        path.unlink(missing_ok=True)


def end(out: pathlib.Path, numbers: dict[str, Any], page: str) -> pathlib.Path:
    """Writes report.json, report.md and the same page as report.html. Returns the path of report.md."""
    text = json.dumps(stats.as_json(numbers | {"made_by": MADE_BY}), indent=1, allow_nan=False)
    places.replace_text(out / NUMBERS, text + "\n")
    places.replace_text(out / PAGE, page)
    figures = {path.name: path.read_bytes() for path in (out / name for name in FIGURES) if path.exists()}
    places.replace_text(out / HTML, html_page.render(page, figures))
    return out / PAGE


def show(out: pathlib.Path, figures: Iterable[str], paths: Sequence[str | os.PathLike], sinks: Sequence[str]) -> None:
    """Shows figures of the report in `out`, on the runs in `paths`, in the sinks; their files are in it too."""
    if sinks:
        (out / SINKS).mkdir(exist_ok=True)
        target = sink_seam.Target(out / SINKS, {"kind": "report", "runs": [os.fspath(path) for path in paths]})
        sink_seam.show_figures(sinks, target, {pathlib.PurePath(name).stem: out / name for name in figures})


def _older(out: pathlib.Path) -> dict[str, Any] | None:
    """The numbers of an older report in `out`; None if there is none."""
    try:
        found = json.loads((out / NUMBERS).read_text(encoding="utf-8"))
        return found if found.get("made_by") == MADE_BY else None
    except (OSError, ValueError, AttributeError):
        return None
