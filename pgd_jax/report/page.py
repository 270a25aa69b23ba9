"""A report's numbers as one Markdown page.

Pure text: every number shown is in the dictionary that becomes report.json."""

from typing import Any

from pgd_jax.report import seeds, summary
from pgd_jax.report.stats import Interval
from pgd_jax.report.tables import BOOTSTRAPS, DIGITS, INTERVALS, LABELS, bullets, show, show_interval, table

RUNS = "Runs"  # a title
ERRORS = {
    "all rows": "dynamics_error",
    "reachable states": "dynamics_error_reachable",
    "median window": "dynamics_error_median_window",
}
SHOWN_PULLS = (1, 8, 20, 50, 100, 200)
BANDIT = (
    "Unifloral's bandit (arXiv 2504.11453): some of a method's policies (all settings and seeds of its lanes) are "
    "tried online for as many episodes as the column says, by UCB; shown is the true score of the one then chosen. "
    "Square brackets: 95 % bootstrap interval of the mean over trials with these policies. They are kept in "
    "`final_returns/`, as Unifloral's loader reads them."
)
CSV = " Every evaluation's score is in [results.csv](results.csv), a row for each seed."
NOT_EVALUATED = "No scores: nothing judges this task, or evaluation was switched off."
CONTROLLED = (
    "The controlled comparison: each lane's final policy generates windows twice, from the same noise, with "
    "coefficient 0 and with guidance (an unguided lane's policy with the run's largest coefficient)"
)
TD3_BC_POLICY = ", a unit Gaussian round TD3+BC's action (at most −0.92 per action dimension)"
DYNAMICS = (
    "Squared error of the next observation against one step of the environment, in units of the dataset's standard "
    "deviation, mean over dimensions; same windows as above. Rows in states that the environment can never be in (deep "
    "in a wall) are answered by a violent push, and a few of them can make most of the mean: beside it stand the mean "
    "over reachable states and the median window. The ratio is a geometric mean over seeds, and should not exceed "
    f"{summary.ERROR_RATIO_LIMIT:g}. The dataset's own transitions score "
)
CURVES = "Learning curves: mean over seeds; bands are 95 % intervals, thin lines single seeds"


def render(numbers: dict[str, Any]) -> str:
    """The whole page."""
    sections = [_head, _score, _online, _on_policy, _dynamics, _pictures, _time, _denoiser, seeds.section, _runs]
    return "\n\n".join(part for section in sections for part in section(numbers) if part) + "\n"


def sentence(difference: dict[str, Any], key: str) -> str:
    """One comparison in words; "beats" only where the interval excludes 0."""
    a, b, verdict, digits = difference["a"], difference["b"], difference["verdict"], "+" + DIGITS[key]
    how = "paired by seed" if difference["paired"] else "unpaired"
    amount = f"{show(difference['last'], digits)}, {how}"
    late = f"Over the last three evaluations: {show(difference['late'], digits)}."
    if verdict == "too few seeds":
        return f"**{a}** − **{b}**: {amount}; too few seeds to say which is better. {late}"
    if verdict == "no clear difference":
        return f"**No clear difference** between **{a}** and **{b}**: {amount}. {late}"
    return f"**{a}** {verdict} **{b}**: {amount}. {late}"


def _head(numbers: dict[str, Any]) -> list[str]:
    task, key, groups = numbers["task"], numbers["score"], numbers["groups"]
    fewest, most = (pick(len(group["seeds"]) for group in groups.values()) for pick in (min, max))
    about = (
        f"`{task['agent']}` on `{task['dataset']}` after {numbers['updates']:,} updates (the last phase, never the "
        f"best), {fewest if fewest == most else f'{fewest}–{most}'} seeds a group, on {', '.join(task['hardware'])}."
    )
    parts = [f"# {task['agent']} on {task['dataset']}", about]
    if key is None:
        parts.append(NOT_EVALUATED)
    else:
        where = f" in `{task['environment']}`" if task["environment"] else ""
        num_episodes = task["num_host_episodes" if key.startswith("host_") else "num_episodes"]
        judged = f"{LABELS[key].capitalize()}{where}, {num_episodes} episodes a seed: "
        means = (f"{name} {show(group['last'][key], DIGITS[key])}" for name, group in groups.items())
        parts += [judged + "; ".join(means) + ".", bullets(sentence(d, key) for d in numbers["differences"])]
        if task["num_host_episodes"]:
            parts.append(
                f"On the host: {task['num_host_episodes']} episodes a seed after the last phase of each chunk, with "
                f"{' / '.join(task['host_versions'])}."
            )
    if len(numbers["differences"]) > 1:
        parts.append("Each interval stands alone: none is corrected for the number of comparisons.")
    parts.append(INTERVALS)
    return [*parts, "**Read with care**", bullets(numbers["notes"])] if numbers["notes"] else parts


def _score(numbers: dict[str, Any]) -> list[str]:
    keys = [key for key in summary.MEASURES if any(group["last"][key] for group in numbers["groups"].values())]
    score = numbers["score"]
    late = [f"{LABELS[score]}, mean of the last three evaluations"] if score else []
    rows = [
        [name, str(len(group["seeds"])), *(show(group["last"][key], DIGITS[key]) for key in keys)]
        + ([show(group["late"][score], DIGITS[score])] if score else [])
        for name, group in numbers["groups"].items()
    ]
    parts = ["## Last phase", table(["group", "seeds", *(LABELS[key] for key in keys), *late], rows)]
    if score:
        parts += [_each_seed(numbers["groups"], score), BOOTSTRAPS]
    if numbers["differences"]:
        head = ["a − b", "last phase", "", "last three evaluations", ""]
        digits = "+" + DIGITS[score]
        lines = [
            [f"{d['a']} − {d['b']}", show(d["last"], digits), d["verdict"], show(d["late"], digits), d["late_verdict"]]
            for d in numbers["differences"]
        ]
        parts.append(table(head, lines))
    return [*parts, *_figure(numbers, "learning_curves.png", CURVES)]


def _each_seed(groups: dict[str, Any], score: str) -> str:
    digits, rows = DIGITS[score], []
    for name, group in groups.items():
        if group["last"][score]:
            each = " ".join(f"{value:{digits}}" for value in group["last"][score].values)
            rows.append([name, show_interval(group["interquartile"][score], digits), each])
    return table(["group", f"{LABELS[score]}, interquartile mean", "each seed"], rows)


def _online(numbers: dict[str, Any]) -> list[str]:
    curves = numbers["bandit"]
    if not curves:
        return []
    pulls = [n for n in SHOWN_PULLS if n <= min(len(curve.pulls) for curve in curves.values())]
    rows = []
    for name, curve in curves.items():
        found = [Interval(curve.mean[n - 1], curve.low[n - 1], curve.high[n - 1]) for n in pulls]
        rows.append(
            [name, str(curve.num_policies), str(curve.num_arms), *(show_interval(each, ".1f") for each in found)]
        )
    header = ["pool", "policies", "tried", *(f"{n} episodes" if n > 1 else "1 episode" for n in pulls)]
    return ["## Policies tried online", BANDIT, table(header, rows), *_figure(numbers, "bandit.png", "Tuning curves")]


def _on_policy(numbers: dict[str, Any]) -> list[str]:
    if not numbers["controlled"]:
        return []
    rows = []
    for name, group in numbers["controlled"].items():
        found = group["log_likelihood"]
        texts = [show(found[key], ".2f") for key in ("real_actions", "unguided", "guided")]
        rows.append([name, f"{group['guidance_coefficient']:g}", *texts, show(found["difference"], "+.2f")])
    first = next(iter(numbers["controlled"].values()))
    policy = TD3_BC_POLICY if numbers["task"]["agent"] == "td3_bc" else ""
    text = (
        f"{CONTROLLED}; {first['num_windows']} windows each. Log-likelihood per action under that policy{policy}; real "
        "actions are the dataset's."
    )
    header = ["policies of", "coefficient", "real actions", "unguided", "guided", "guided − unguided"]
    figure = _figure(numbers, "on_policy.png", "Log-likelihood of synthetic actions")
    return ["## On-policy-ness", text, table(header, rows), *figure]


def _dynamics(numbers: dict[str, Any]) -> list[str]:
    found = {name: group for name, group in numbers["controlled"].items() if "dynamics_error" in group}
    if not found:
        missing = "Not measured: no in-graph environment that an observation puts into its state."
        return ["## Dynamics error", missing] if numbers["controlled"] else []
    columns = {"unguided": ".2g", "guided": ".2g", "difference": "+.2g", "ratio": ".2f"}
    rows = []
    for name, group in found.items():
        for of, key in ERRORS.items():
            error = group[key]
            texts = [show(error[column], digits) for column, digits in columns.items()]
            rows.append([name, f"{group['guidance_coefficient']:g}", of, *texts, error["within_limit"]])
    limit = f"≤ {summary.ERROR_RATIO_LIMIT:g}"
    header = ["policies of", "coefficient", "of", "unguided", "guided", "guided − unguided", "guided / unguided", limit]
    text = f"{DYNAMICS}{numbers['real_dynamics_error']:.1g}."
    shares = "; ".join(
        f"{show(group['reachable_share']['unguided'], '.2%')} unguided, "
        f"{show(group['reachable_share']['guided'], '.2%')} guided (policies of {name})"
        for name, group in found.items()
    )
    parts = [text, table(header, rows), f"Share of generated rows in reachable states: {shares}."]
    return ["## Dynamics error", *parts, *_figure(numbers, "dynamics_error.png", "Dynamics error")]


def _pictures(numbers: dict[str, Any]) -> list[str]:
    picture = numbers["picture"]
    if not picture:
        return []
    text = (
        f"{picture['num_windows']} windows each. Unguided and guided ones start from the same noise, with the final "
        f"policy of “{picture['group']}”, seed {picture['seed']}, coefficient {picture['guidance_coefficient']:g}."
    )
    return ["## Trajectories", text, *_figure(numbers, "windows.png", "Real, unguided and guided windows")]


def _time(numbers: dict[str, Any]) -> list[str]:
    if not numbers["timing"]:
        return []
    rows = []
    for timing in numbers["timing"]:
        for part in timing["parts"]:
            share = part["measured_share"]
            measured = "whole" if share == 1.0 else f"{100 * share:.3g} %, scaled"
            rate = f"{part['rate']:,.0f} {part['unit']}/s"
            seconds = [f"{part['seconds']:.3g}", f"{100 * part['share']:.0f} %"]
            rows.append([timing["run"], part["name"], *seconds, rate, measured])
        recorded = f"in the run itself: {timing['recorded_s']:.3g} s (median)"
        rows.append([timing["run"], "sum", f"{timing['total_s']:.3g}", "100 %", recorded, ""])
    text = (
        "One phase of all lanes, each part compiled and timed alone on the machine that made this report "
        f"({numbers['timing'][0]['machine']}); compilation, and for short parts a first run, are not counted."
    )
    return ["## Time of a phase", text, table(["run", "part", "seconds", "share", "rate", "measured"], rows)]


def _denoiser(numbers: dict[str, Any]) -> list[str]:
    if not numbers["denoiser"]:
        return []
    last = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in numbers["denoiser"]["last"].items())
    text = f"`{numbers['denoiser']['path']}` after {numbers['denoiser']['step']:,} steps: {last}."
    return ["## The diffusion model", text, *_figure(numbers, "denoiser.png", "Losses of the diffusion model")]


def _runs(numbers: dict[str, Any]) -> list[str]:
    parts = [f"## {RUNS}"]
    for run in numbers["runs"]:
        state = "finished" if run["is_finished"] else f"{run['phases_done']} of {run['num_phases']} phases"
        commit = (run["git_commit"] or "unknown (installed package)") + (" with changes" if run["git_modified"] else "")
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        begun = f"begun {run['created']} on {run['hardware']}"
        parts.append(f"`{run['path']}` ({state}), {begun}; commit {commit}; {versions}.")
        parts.append(f"```\n{run['command']}\n```")
    return [*parts, "Every number of this page is in [report.json](report.json)." + CSV * bool(numbers["score"])]


def _figure(numbers: dict[str, Any], name: str, text: str) -> list[str]:
    return [f"![{text}]({name})"] if name in numbers["figures"] else []
