"""A sweep's run directories -> results.csv, settings.csv and one page over all jobs (grid x lanes).

Runs are read and written one after another. Only the last score of each lane stays in memory. The page names jobs that
are not finished, that failed, or whose files are damaged; the rows that can be read count.
"""

import array
import collections
import csv
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pgd_jax.core import logging, places
from pgd_jax.core.errors import UserError, first_line
from pgd_jax.report import exchange, folder, jobs_page, origins, results, stats, summary
from pgd_jax.runs import agent as agent_runs, metrics, records

# Settings of a grid that the columns dataset, method and seed have already, or that only change the number of seeds.
SAID = {"dataset", "data.dataset", "agent", "seed", "first_seed", "num_seeds", "training.seed"}
COLUMNS = ("dataset", "method", "setting", "measure", "seeds", "update", "mean", "low", "high", "interquartile_mean",
           "jobs", "unfinished_jobs")  # fmt: skip
SAID_EVERY = 1_000  # runs


class Found(NamedTuple):
    """A job of a sweep."""

    run_dir: pathlib.Path
    settings: tuple[str, ...]  # "agent=iql": what the grid chose for it
    state: str  # in a word: "finished", "failed", ...
    about: str  # why, where it failed


class Key(NamedTuple):
    """The settings that lanes share whose seeds are compared."""

    dataset: str
    method: str
    setting: str
    measure: str


class Cell:
    """The last score of each lane of a Key, in 16 bytes per lane."""

    def __init__(self) -> None:
        self.scores, self.updates = array.array("d"), array.array("q")
        self.num_jobs = self.num_unfinished = 0


def write(out: pathlib.Path, jobs: Sequence[Found]) -> pathlib.Path:
    """Writes the report over `jobs` into `out` and returns the page. It replaces an older report in `out`.

    Raises UserError if `out` holds other files, and if no job has a score yet.
    """
    folder.check(out)
    cells: dict[Key, Cell] = {}
    notes: list[str] = []
    rows = _rows(jobs, cells, notes)
    first = next(rows, None)
    if first is None:
        why = f" ({notes[0]})" if notes else ""
        raise UserError(f"no job has a result yet{why}; collect once one has finished its first phase")
    folder.begin(out)
    exchange.write_results(out / folder.RESULTS, _chained(first, rows))
    settings = [_setting(key, cell) for key, cell in cells.items()]
    _write_settings(out / folder.SETTINGS, settings)
    states = dict(collections.Counter(job.state for job in jobs))
    failed = [{"job": job.run_dir.name, "about": job.about} for job in jobs if job.state == "failed"]
    numbers = {"states": states, "failed": failed, "notes": notes, "settings": settings}
    return folder.end(out, numbers, jobs_page.render(numbers))


def _chained(first: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rest


def _rows(jobs: Sequence[Found], cells: dict[Key, Cell], notes: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of results.csv, job by job. A run that cannot be read becomes a note."""
    for number, job in enumerate(jobs):
        if number and number % SAID_EVERY == 0:
            logging.info(f"collect: {number} of {len(jobs)} runs")
        if not (job.run_dir / "metrics.jsonl").exists():
            continue
        try:
            rows = _of_run(job)
        except (UserError, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            notes.append(f"{job.run_dir.name}: {first_line(error)}")
            continue
        _count(rows, cells, job.state == "finished")
        yield from rows


def _of_run(job: Found) -> list[dict[str, Any]]:
    kind = records.load_kind(job.run_dir)
    own = [setting for setting in job.settings if setting.partition("=")[0] not in SAID]
    rows = _of_agents(job.run_dir) if kind == agent_runs.KIND else _of_model(job.run_dir, kind)
    return [row | {"setting": ";".join([*own, *filter(None, [row["setting"]])])} for row in rows]


def _of_agents(path: pathlib.Path) -> list[dict[str, Any]]:
    run = results.read(path, compared=False)
    groups = results.groups([run])
    score = summary.score_key(groups)
    if score is None:
        raise UserError("nothing judged it")
    return results.tidy([run], groups, origins.dataset(run) or "unknown dataset", score)


def _of_model(path: pathlib.Path, kind: str) -> list[dict[str, Any]]:
    """The losses of a denoiser, behaviour policy or world model. Its seed is the training seed."""
    record, rows = records.load_record(path, kind), metrics.read(path / "metrics.jsonl")
    config = record["config"]
    measure = next((name for name in metrics.LOSSES if rows and name in rows[-1]), None)
    if measure is None:
        raise UserError("nothing judged it")
    training: Mapping[str, Any] = config.get("training", config)
    shared = {"dataset": config["data"]["dataset"], "method": kind, "setting": "", "seed": training.get("seed", 0)}
    about = {"measure": measure, "episodes": 0, "commit": results.commit_of(record)}
    return [shared | {"update": row["step"], "score": row[measure]} | about for row in rows if measure in row]


def _count(rows: Sequence[dict[str, Any]], cells: dict[Key, Cell], is_finished: bool) -> None:
    """Adds the last score of each lane. The rows of a lane are in order."""
    last: dict[tuple[Key, int], tuple[int, float]] = {}
    for row in rows:
        key = Key(row["dataset"], row["method"], row["setting"], row["measure"])
        last[key, row["seed"]] = (row["update"], row["score"])
    for (key, _), (update, score) in last.items():
        cell = cells.setdefault(key, Cell())
        cell.scores.append(score)
        cell.updates.append(update)
    for key in {key for key, _ in last}:
        cells[key].num_jobs += 1
        cells[key].num_unfinished += not is_finished


def _setting(key: Key, cell: Cell) -> dict[str, Any]:
    estimate = stats.mean(cell.scores)
    middle = float(stats.interquartile_mean([cell.scores]))
    numbers = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "interquartile_mean": middle}
    counts = {"jobs": cell.num_jobs, "unfinished_jobs": cell.num_unfinished}
    seeds = {"seeds": len(cell.scores), "scores": cell.scores, "update": min(cell.updates)}
    return key._asdict() | seeds | numbers | counts


def _write_settings(path: pathlib.Path, settings: Sequence[Mapping[str, Any]]) -> None:
    with places.replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(settings)
