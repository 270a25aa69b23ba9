"""The page: a conclusion, tables, and a figure of each task, from whatever is measured so far."""

import pathlib

from experiments.claims import tasks
from experiments.claims.fidelity import conclusion, figures, matched, points, setting as settings, tables
from experiments.claims.fidelity.conclusion import Results
from pgd_jax.core.errors import UserError

TITLE = "# Claims 2 and 3: how on-policy and how true guided windows are"

HOW = """\
Target policies are trained on the real data alone. A point is a set of windows, or of rollouts, for each target policy;
all points of one seed of the models start from the same noise.

- *Log-likelihood*: mean of log π(a|s) of the synthetic actions. TD3+BC has no density: a unit Gaussian round its action
  stands in, as it does in guidance.
- *Dynamics error*: mean squared difference of the generated next observation from one true step of the environment, in
  standard deviations of the data.
- *Ensemble*: rollouts of a one-step world model under the same policy, from real observations. A member is drawn for
  each row and step, and the outcome from its Gaussian, as in MOPO and PETS. Gaussian noise on the actions sets how
  likely they are.
- *At equal likelihood*: each strength of guidance is compared with rollouts of its own likelihood, interpolated between
  the two nearest noises. A ratio is the geometric mean over the strengths above 0 that some rollout is as likely as;
  above 1 the windows are truer.
- *Horizon*: the first k rows of a window against the first k steps of a rollout. **A rollout begins at a real
  observation, a window at a generated one.**
- *Square brackets*: 95 % intervals for new models *and* new policies. Denoisers and world models of several seeds are
  crossed with policies of several seeds, and the spread of both counts (Student's t, `experiments/claims/crossed.py`).
"""
VARIANTS = """\
*Median window*: of the windows' own mean errors, which a single window that begins in a wall does not move. *Reward*:
squared error of the reward. *Without model noise*: rollouts by the mean of the model's Gaussian. *At no less
likelihood*: on each side the least error of all that is at least as likely, noise and strength chosen in hindsight.

"""
EVERYTHING = "Over the whole window; means over models and policies, geometric ones of errors.\n\n"


def read(out: pathlib.Path) -> Results:
    """The curves of every task and kind of policy that has a point. Raises UserError where there is none."""
    found = points.read(points.path(out))
    if not found:
        raise UserError(f"--out={out}: nothing is measured there")
    results = {}
    for task in tasks.TASKS:
        for agent in settings.AGENTS:
            own = [p for p in found if (p.task, p.agent) == (task.name, agent)]
            curves = {name: matched.curve(own, name) for name in settings.GENERATORS}
            if any(curves.values()):
                results[task.name, agent] = {name: curve for name, curve in curves.items() if curve is not None}
    return results


def write(out: pathlib.Path) -> pathlib.Path:
    """Writes <out>/fidelity.md and <out>/fidelity/<task>.png; returns the first."""
    results = read(out)
    names = dict.fromkeys(task for task, _ in results)
    for name in names:
        figures.draw(out / "fidelity" / f"{name}.png", name, {a: c for (task, a), c in results.items() if task == name})
    sections = {
        "Conclusion": conclusion.conclusion(results),
        "What was measured": HOW,
        "Figures": "\n".join(f"![{name}](fidelity/{name}.png)\n" for name in names),
        "Claim 2: likelihood over the strength": tables.likelihoods(results),
        "Claim 3: dynamics error at equal likelihood, ensemble / diffusion, by horizon": tables.over_horizons(results),
        "The same over the whole window, counted otherwise": VARIANTS + tables.variants(results),
        "The same by strength": tables.over_strengths(results),
        "Growth along the window: mean error of its last third over that of its first": tables.growth(results),
        "Every point": EVERYTHING + tables.everything(results),
    }
    page = out / "fidelity.md"
    text = "\n\n".join([TITLE, *(f"## {title}\n\n{text.strip()}" for title, text in sections.items())])
    page.write_text(text + "\n", encoding="utf-8")
    return page
