"""Weights & Biases: one W&B run for the run's directory, online or offline as W&B's own settings say.

`WANDB_MODE=offline` needs no network, and `wandb sync` uploads later what lies in `wandb/` of the run's directory, a
part for each time that the run went on. WANDB_PROJECT, WANDB_ENTITY, WANDB_NAME, WANDB_RUN_GROUP and so on mean what
they do elsewhere.

What a W&B run has been given stays. So `wandb.json` keeps which one it is, and the last step that it has: rows that are
computed again after a crash are left out.
"""

import json
import os
import pathlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from pgd_jax.core import logging, places
from pgd_jax.core.errors import UserError
from pgd_jax.runs.metrics import Row
from pgd_jax.runs.sinks import scalars
from pgd_jax.runs.sinks.base import SINKS, SinkFamily, Target

FILE, PROJECT = "wandb.json", "pgd_jax"
SETTINGS: dict[str, Any] = {
    "init_timeout": 30.0, "finish_timeout": 60.0, "finish_timeout_raises": True,  # seconds
    "console": "off",  # what the run says is not W&B's to keep, nor to write anew
}  # fmt: skip


class Uploaded:
    """The W&B run begins with the first rows that are new to it: where there are none, nothing asks the network."""

    def __init__(self, target: Target):
        self._target, self._file = target, target.path / FILE
        self._run: Any = None
        self._kept: dict[str, Any] = {"id": secrets.token_hex(4), "last_step": -1}
        if self._file.exists():
            self._kept = json.loads(self._file.read_text(encoding="utf-8"))
        self.write(target.rows)

    def write(self, rows: Sequence[Row]) -> None:
        new = [row for row in rows if scalars.step_of(row) > self._kept["last_step"]]
        steps: dict[int, dict[str, float]] = {}
        for point in scalars.points(new):
            values = {f"{tag}/{point.curve}".rstrip("/"): value for tag, value in point.values.items()}
            steps.setdefault(point.step, {}).update(values)
        if not steps:
            return
        run = self._begun()
        run.config.update({"lanes": scalars.lanes(new)}, allow_val_change=True)
        self._keep(last_step=max(steps))  # before: what is given twice shows twice
        for step, values in sorted(steps.items()):
            run.log(values, step=step, commit=True)

    def show(self, figures: Mapping[str, pathlib.Path]) -> None:
        import wandb

        self._begun().log({name: wandb.Image(str(path)) for name, path in figures.items()})

    def close(self) -> None:
        if self._run is not None:
            try:
                self._run.finish()
            except TimeoutError:
                where = self._run.settings.sync_dir
                raise TimeoutError(f"not all is uploaded; `wandb sync {where}` uploads the rest") from None

    def _begun(self) -> Any:
        """The W&B run."""
        import wandb

        if self._run is None:
            is_online = wandb.setup().settings.mode == "online"
            # Without a key wandb.init would ask for one, and wait.
            if is_online and wandb.run is None and not wandb.login(prompt=False, verify=False):
                raise UserError("no API key; call `wandb login` first, or set WANDB_MODE=offline")
            settings = SETTINGS | ({"silent": True} if logging.is_quiet() else {})
            path, given = self._target.path.resolve(), os.environ
            name, project = given.get("WANDB_NAME", "/".join(path.parts[-2:])), given.get("WANDB_PROJECT", PROJECT)
            self._run = wandb.init(
                project=project, name=name, id=self._kept["id"], resume="allow", reinit="create_new", dir=path,
                settings=settings,
            )  # fmt: skip
            self._run.config.update(dict(self._target.record), allow_val_change=True)
            self._keep()
        return self._run

    def _keep(self, **changes: Any) -> None:
        self._kept |= changes
        places.replace_text(self._file, json.dumps(self._kept) + "\n")


def show_figures(target: Target, figures: Mapping[str, pathlib.Path]) -> None:
    sink = Uploaded(target)
    sink.show(figures)
    sink.close()


SINKS.add("wandb", SinkFamily(Uploaded, show_figures, needs="wandb"))
