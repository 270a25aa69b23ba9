"""Calls a scheduler's own program."""

import subprocess
from collections.abc import Mapping, Sequence

from pgd_jax.core.errors import UserError


def call(
    command: Sequence[str],
    advice: str,
    timeout_s: float,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The output of `command` with standard input `text`. With None, input and environment are those of this process.

    Raises UserError with the program's own message if it fails, and with `advice` if it is missing.
    """
    program = command[0]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=timeout_s, env=environment
        )
    except FileNotFoundError:
        raise UserError(f"{program} is not on this machine; {advice}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{program} could not be run ({error})") from None
    if done.returncode:
        words = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise UserError(f"{program} refused: {words}")
    return done.stdout
