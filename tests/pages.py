"""What stands in README and docs: blocks of Python, and command lines.

A block that begins with a line such as `# my_sampler.py` is a file of that name, which the page's other blocks import
and its command lines name. All other blocks of a page, in their order, are one program.
"""

import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[1]
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
COMMAND = re.compile(r"^(?:    |)((?:pgd(?:-[a-z-]+)?|python -m experiments[.\w]*) .*)$")


def pages() -> list[pathlib.Path]:
    folders = (ROOT, ROOT / "docs")
    found = [path for folder in folders for path in sorted(folder.glob("*.md"))]
    found += [
        path for path in sorted((ROOT / "docs").glob("*/*.md")) if path.parent.name not in ("_build", "notebooks")
    ]
    return found


def name(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: pathlib.Path) -> list[str]:
    return [match.group(2) for match in BLOCK.finditer(path.read_text(encoding="utf-8"))]


def python(path: pathlib.Path) -> str:
    """The program of a page."""
    return "\n\n".join(block for block in blocks(path) if not FILE.match(block))


def files(path: pathlib.Path) -> dict[str, str]:
    """The files of a page, by name."""
    return {match.group(1): block for block in blocks(path) if (match := FILE.match(block))}


def commands(path: pathlib.Path) -> list[list[str]]:
    """The command lines of indented blocks and of blocks marked `bash`, without what stands after a `#`."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL).splitlines():
        if match := COMMAND.match(line):
            found.append(shlex.split(match.group(1), comments=True))
    return found
