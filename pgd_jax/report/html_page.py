"""A report's Markdown page as one HTML file that can be mailed. Its figures are inside, and it loads no other file.

It has no script. HTML in the text, such as in a run's name, is shown as text. A content security policy makes the
browser refuse everything that is not in the file.
"""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any
from urllib import parse

import markdown_it
from markdown_it.token import Token

from pgd_jax.report import page, plots, seeds

LONG = 40  # characters; cells of tables with more are broken into lines
TAGS = {seeds.TITLE: "details", page.RUNS: "footer"}  # of sections by their title; the others are "section"
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
"""
FOOT = "</main>\n</body>\n</html>\n"


def render(text: str, figures: Mapping[str, bytes]) -> str:
    """The HTML of a Markdown page that begins with its title.

    `figures` are the PNG files of the page, by name. Any other image is replaced by its description.
    """
    parser = _parser()
    before, *sections = _sections(parser.parse(text))
    titles = [_plain(section[1]) for section in sections]
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    parts = [HEAD.format(title=html.escape(_plain(before[1])), style=style), _rendered(parser, before, figures)]
    if len(titles) > 1:
        links = (f'<a href="#section-{i}">{html.escape(title)}</a>' for i, title in enumerate(titles))
        parts.append(f"<nav>{' '.join(links)}</nav>\n")
    for i, (title, tokens) in enumerate(zip(titles, sections, strict=True)):
        tag = TAGS.get(title, "section")
        if tag == "details":
            tokens[0].tag = tokens[2].tag = "summary"  # its heading
        parts.append(f'<{tag} id="section-{i}">\n{_rendered(parser, tokens, figures)}</{tag}>\n')
    return "".join([*parts, FOOT])


def _parser() -> markdown_it.MarkdownIt:
    parser = markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table")
    rules = {
        "table_open": _table_open, "table_close": _table_close, "td_open": _td_open, "image": _image,
        "link_open": _link_open,
    }  # fmt: skip
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


def _sections(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The part before the first heading of level 2, then each such heading with the text below it."""
    section: list[Token] = []
    for token in tokens:
        if token.type == "heading_open" and token.tag == "h2":
            yield section
            section = []
        section.append(token)
    yield section


def _rendered(parser: markdown_it.MarkdownIt, tokens: list[Token], figures: Mapping[str, bytes]) -> str:
    for opening, inline, closing in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if [child.type for child in inline.children or []] == ["image"]:  # a paragraph that is an image
            opening.tag = closing.tag = "figure"
    return parser.renderer.render(tokens, parser.options, {"figures": figures})


def _plain(heading: Token) -> str:
    return "".join(child.content for child in heading.children or [])


# How the parser writes some tokens; the arguments are those of its renderer.


def _table_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<div class="wide" tabindex="0"><table>\n'  # scrolls by itself, with the keyboard too


def _table_close(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return "</table></div>\n"


def _td_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<td class="long">' if len(tokens[index + 1].content) > LONG else "<td>"


def _image(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    figure, about = env["figures"].get(tokens[index].attrs["src"]), html.escape(tokens[index].content)
    if figure is None:
        return about
    width = int.from_bytes(figure[16:20], "big") * 96 // plots.DPI  # its real size: CSS has 96 pixels an inch
    source = f"data:image/png;base64,{base64.b64encode(figure).decode()}"
    shown = f'<img alt="{about}" style="--width: {width}px" src="{source}">'
    return f'<div class="wide" tabindex="0">{shown}</div><figcaption>{about}</figcaption>'


def _link_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Links to the page of another report lead to its HTML page."""
    target = str(tokens[index].attrs["href"])
    if not parse.urlsplit(target).scheme and target.endswith(".md"):
        target = target.removesuffix(".md") + ".html"
    return f'<a href="{html.escape(target)}">'
