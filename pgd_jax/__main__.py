"""`pgd`: every command of this package under one name. `pgd sample --run=...` is `pgd-sample --run=...`."""

import importlib
import sys

import pgd_jax
from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest

COMMANDS = {
    "quickstart": "pgd_jax.cli.quickstart",
    "datasets": "pgd_jax.cli.datasets",
    "collect": "pgd_jax.cli.collect",
    "train-denoiser": "pgd_jax.cli.train_denoiser",
    "train-behaviour": "pgd_jax.cli.train_behaviour",
    "train-world-model": "pgd_jax.cli.train_world_model",
    "train-agent": "pgd_jax.cli.train_agent",
    "sample": "pgd_jax.cli.sample",
    "report": "pgd_jax.cli.report",
    "launch": "pgd_jax.launch.command",
    "doctor": "pgd_jax.cli.doctor",
}
FLAGS = {
    "--version": "this package's version",
    "--help": "this page; after a command, what it does and its flags",
}


def run() -> None:
    with entry.plain_errors():
        name = sys.argv[1] if len(sys.argv) > 1 else "--help"
        if name == "--version":
            print(f"pgd_jax {pgd_jax.__version__}")
        elif name in ("--help", "-h"):
            print(page())
        elif name in COMMANDS:
            sys.argv[:] = [f"pgd-{name}", *sys.argv[2:]]
            importlib.import_module(COMMANDS[name]).run()
        else:
            raise UserError(f'unknown command "{name}"{nearest(name, COMMANDS)} (known: {", ".join(COMMANDS)})')


def page() -> str:
    """The commands, each with the first line of its own help."""
    commands = {name: importlib.import_module(module).__doc__ or "" for name, module in COMMANDS.items()}
    lines = ["pgd <command> [flags]: the same as pgd-<command> [flags]", "", "commands:"]
    lines += [f"  {name:<19}{text.splitlines()[0]}" for name, text in commands.items()]
    lines += ["", "flags:", *(f"  {name:<19}{text}" for name, text in FLAGS.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    run()
