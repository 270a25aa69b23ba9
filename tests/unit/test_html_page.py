"""The report as one HTML file: nothing outside it is needed, and it can be read at any width."""

import base64
import html.parser
import json
import re
import shutil
import subprocess
import types

import pytest

from pgd_jax.cli import report as command
from pgd_jax.report import html_page, jobs, seeds, several, stats, summary, tables, writer
from tests.runs import FINAL, REAL_LANES, SYNTHETIC_LANES, write_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NAME = "<script>console.error(1)</script>"


class Page(html.parser.HTMLParser):
    """Tags, attributes by name, and the text of an HTML file, without its style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], {}, "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            self.attributes.setdefault(name, []).append(value)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if "style" not in self.open else ""


def read(path):
    return Page((path / "report.html").read_text())


@pytest.fixture
def written(tmp_path):
    """Runs of two datasets, one diverged and not finished. Names hold what is HTML or Markdown."""
    scores = [[value + phase for value in FINAL] for phase in range(3)]
    scores[-1] = [float("nan"), *scores[-1][1:]]
    options = dict(num_seeds=3, dataset=f"ant {NAME}")
    synthetic = write_run(tmp_path / "<b>|![x](http://x.org/x.png)", scores, SYNTHETIC_LANES, finished=False, **options)
    real = write_run(tmp_path / "real", [[0.0, 2.0, 4.0]] * 3, REAL_LANES, synthetic_per_batch=0, **options)
    other = write_run(tmp_path / "other", [[1.0, 2.0, 3.0]] * 3, REAL_LANES, num_seeds=3, synthetic_per_batch=0)
    return [synthetic, real, other]


def test_the_page_stands_alone_and_shows_names_as_text(written, tmp_path):
    out = tmp_path / "report"
    page = writer.write(out, written[:2])
    found = read(out)
    assert set(found.tags) == {
        "html", "head", "meta", "title", "style", "body", "main", "nav", "section", "details", "summary", "footer",
        "h1", "h2", "p", "ul", "li", "strong", "code", "pre", "a", "div", "table", "thead", "tbody", "tr", "th", "td",
        "figure", "img", "figcaption",
    }  # fmt: skip
    (source,) = found.attributes["src"]
    head, data = source.split(",")
    assert head == "data:image/png;base64" and base64.b64decode(data) == (out / "learning_curves.png").read_bytes()
    assert "url(" not in (out / "report.html").read_text() and "@import" not in (out / "report.html").read_text()
    for link in found.attributes["href"]:
        assert link.removeprefix("#") in found.attributes["id"] if link[0] == "#" else (out / link).is_file()
    assert found.text.count(f"td3_bc on ant {NAME}") == 3  # the title, the heading, the first sentence
    assert "<b>|![x](http:/x.org/x.png) is not finished" in found.text
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    assert found.tags.count("tr") == len(rows)


def test_every_seed_has_a_row(written, tmp_path):
    page = writer.write(tmp_path / "report", written[:2]).read_text()
    assert "| unguided | 1 | 4.0 | 3.0 |" in page and "| unguided | 0 | nan | nan |" in page  # 2, 3, 4 and 1, 2, nan
    found = (tmp_path / "report" / "report.html").read_text()
    (table,) = re.findall(r"<details.*?</details>", found, re.DOTALL)
    assert table.count("<tr>") == 1 + 9 and "<summary>Each seed</summary>" in table
    values = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")]
    assert ["guided λ=3", "2", "18.0", "17.0"] in values


def test_seeds_of_the_controlled_comparison_have_rows():
    none = {key: {} for key in summary.MEASURES}
    groups = {"guided λ=3": {"seeds": [4, 7], "by_seed": {"last": none, "late": none}}}
    found = {key: stats.mean(values) for key, values in
             (("real_actions", [1.0, 2.0]), ("unguided", [3.0, 4.0]), ("guided", [5.0, 6.0]))}  # fmt: skip
    numbers = {"groups": groups, "score": None, "controlled": {"guided λ=3": {"log_likelihood": found}}}
    table = seeds.section(numbers)[-1]
    assert table.splitlines()[2:] == [
        "| guided λ=3 | 4 | 1.00 | 3.00 | 5.00 |",
        "| guided λ=3 | 7 | 2.00 | 4.00 | 6.00 |",
    ]
    assert seeds.section(numbers | {"controlled": {}}) == []


def test_reports_over_datasets_lead_to_each_other_s_html(written, tmp_path):
    out = tmp_path / "report"
    several.write(out, written)
    links = [link for link in read(out).attributes["href"] if link.endswith("html")]
    assert len(links) == 2 and all((out / link).is_file() for link in links)
    assert len(read(out).attributes["src"]) == 1  # the profiles


def test_jobs_have_their_page_and_seeds(written, tmp_path):
    jobs.write(tmp_path / "report", [jobs.Found(written[1], (), "finished", "")])
    found = read(tmp_path / "report")
    assert "0.0 2.0 4.0" in found.text and "img" not in found.tags
    (setting,) = json.loads((tmp_path / "report" / "report.json").read_text())["settings"]
    assert setting["scores"] == [0.0, 2.0, 4.0] and "script" not in found.tags


def test_an_older_page_is_replaced(written, tmp_path):
    writer.write(tmp_path / "report", written[:2])
    writer.write(tmp_path / "report", written[2:])
    assert "some-dataset" in read(tmp_path / "report").text and NAME not in read(tmp_path / "report").text


def test_the_command_says_where_both_pages_are(written, tmp_path, capsys, monkeypatch):
    out = tmp_path / "report"
    values = {"runs": [str(written[2])], "sinks": [], "num_pool_episodes": 0, "out": str(out)}
    for place, name in (
        (command.flags, "DEFINE_list"),
        (command.flags, "DEFINE_integer"),
        (command.entry, "define_path"),
    ):
        monkeypatch.setattr(place, name, lambda flag, *_, **__: types.SimpleNamespace(value=values[flag]))
    command._prepare()()
    assert capsys.readouterr().out.splitlines() == [str(out / "report.md"), str(out / "report.html")]
    assert "return of an episode" in read(out).text


def test_markdown_that_loads_or_runs_something_is_text():
    text = "# a\n\n![b](https://x.org/b.png) [c](javascript:d) <img src=e> <https://x.org>\n\n<iframe>\n"
    page = Page(html_page.render(text, {}))
    assert "src" not in page.attributes and page.attributes["href"] == ["https://x.org"]
    assert "b [c](javascript:d) <img src=e>" in page.text and "<iframe>" in page.text and "nav" not in page.tags


def test_a_bar_in_a_name_ends_no_cell():
    text = tables.table(["group", "mean"], [["real (a|b)", "1"]])
    assert "<td>real (a|b)</td>\n<td>1</td>" in html_page.render(f"# a\n\n{text}\n", {})


SAY = """<script>
document.querySelectorAll("details").forEach(part => part.open = true);
const page = document.documentElement, shown = [...document.images].filter(image => image.naturalWidth > 0);
parent.postMessage([innerWidth, page.scrollWidth, shown.length].join(" "), "*");
</script>"""
FRAME = """<p id="said"></p>
<script>onmessage = event => document.getElementById("said").textContent = event.data</script>
<iframe src="copy.html" style="border: 0; width: {width}px; height: 900px"></iframe>"""


def browse(path, profile):
    """(what is in the document once `path` is loaded, messages of its console)"""
    line = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1600,1000"]
    line += [f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--enable-logging=stderr", "--dump-dom"]
    line += [path.as_uri()]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [message for message in done.stderr.splitlines() if ":CONSOLE:" in message]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium")
def test_a_browser_loads_it_without_errors_and_it_never_scrolls_sideways(written, tmp_path):
    out = tmp_path / "report"
    writer.write(out, written[:2])
    document, messages = browse(out / "report.html", tmp_path / "profile")
    assert "Each seed" in document and messages == []
    text = (out / "report.html").read_text()
    (tmp_path / "bad.html").write_text(text.replace("</main>", '<img src="http://localhost/x.png">'))
    assert "Content Security Policy" in browse(tmp_path / "bad.html", tmp_path / "profile")[1][0]
    # A window cannot be as narrow as a phone's, a frame can. The copy may run a script: what it says is of the page.
    (tmp_path / "copy.html").write_text(text.replace("default-src", "script-src 'unsafe-inline'; default-src") + SAY)
    for width in (1280, 390):
        (tmp_path / "frame.html").write_text(FRAME.format(width=width))
        document, messages = browse(tmp_path / "frame.html", tmp_path / "profile")
        assert f'<p id="said">{width} {width} 1</p>' in document and messages == []
