"""Every message of a UserError is found by words of docs/troubleshooting.md, and all words there are of messages."""

import ast
import functools
import re

from tests import pages

PAGE = pages.ROOT / "docs" / "troubleshooting.md"
HOLE = "…"  # what differs from case to case, on the page and here


def key_words():
    """What stands as code in the first cell of the page's tables, by itself: a pattern of it."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    found = [words for row in rows for words in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(set(found)) == len(found) > 200, "words that stand there twice, or another form of the tables"
    return {words: re.compile(".*".join(map(re.escape, words.split(HOLE)))) for words in found}


def text_of(node):
    """The text of an expression, with a hole for each part that is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("`", "").replace("\n", " ")
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    return text_of(node.left) + text_of(node.right) if isinstance(node, ast.BinOp) else HOLE


@functools.cache
def package():
    """(file, node) of all that the package's modules are made of."""
    files = sorted((pages.ROOT / "pgd_jax").rglob("*.py"))
    return [(file.relative_to(pages.ROOT), node) for file in files for node in ast.walk(ast.parse(file.read_text()))]


def test_every_error_is_found_on_the_page():
    """A message of which the code there holds less than three words is made, for the most part, elsewhere."""
    known, missing = key_words().values(), []
    for file, node in package():
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "UserError":
            text = text_of(node.args[0])
            if len(re.findall(r"[a-z]{2,}", text)) > 2 and not any(words.search(text) for words in known):
                missing.append(f"{file}:{node.lineno}: {text}")
    assert not missing, f"{PAGE.name} has no words of these messages:\n" + "\n".join(missing)


def test_what_the_page_looks_for_is_a_message():
    texts = {text_of(node) for _, node in package() if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp))}
    unknown = [words for words, pattern in key_words().items() if not any(map(pattern.search, texts))]
    assert not unknown, f"nothing in the package says {unknown}"
