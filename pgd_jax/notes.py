"""What a run tells its user: lines on stderr that leave the progress bar whole. Warnings of damage go to absl's log."""

import sys

import tqdm


def say(text: str) -> None:
    tqdm.tqdm.write(text, file=sys.stderr)
