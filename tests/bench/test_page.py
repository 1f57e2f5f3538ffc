"""The report's page: opened in a browser, its claims traced to numbers, hostile names harmless."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from synthetic import of_probes, of_rows, of_trainings

from bench.report.format import TIMES, digits, exact, times
from bench.report.part import PICTURE
from bench.report.plot import NARROW_WIDTH, WIDTH
from bench.report.write import write
from bench.results import Probe, Results
from bench.task.workload import WIDTHS

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
needs_browser = pytest.mark.skipif(
    not BROWSER, reason="no Chromium on the PATH; install it with `apt install chromium`"
)
SOURCE = "https://example.org/files/"
HOSTILE = (
    """"'><script>document.title='owned'</script><img src=x onerror="document.title='owned'">"""
)


class Parsed(HTMLParser):
    """Elements of a page: the tag, the attributes, the text inside (of all that it contains)."""

    VOID = ("meta", "link", "img", "br", "source", "input")

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in self.VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data):
        for i in self.open:
            self.elements[i][2].append(data)

    def all(self, *tags: str) -> list[tuple[str, dict[str, str], str]]:
        return [(t, attrs, "".join(text)) for t, attrs, text in self.elements if t in tags]


@pytest.fixture(scope="module")
def results() -> Results:
    """Of a run with probes, and with an error."""
    found = of_rows(workloads=("d16",), wrong={"avx2"})
    probed = of_probes(workloads=("d16",))
    found.probes = probed.probes
    found.run |= probed.run
    for key, value in probed.workloads.items():
        found.workloads[key]["vocab_size"] = value["vocab_size"]
    next(p for p in found.probes if p.name == "shapes").status = "skipped"
    return found


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write(results, out, SOURCE)
    return out


@pytest.fixture(scope="module")
def parsed(folder) -> Parsed:
    return Parsed((folder / "index.html").read_text(encoding="utf-8"))


def dump(page: Path) -> str:
    """The page's HTML after a browser has loaded it."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               f"--user-data-dir={page.parent / 'profile'}", page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


# What is on the page


def test_the_page_asks_for_nothing_outside_of_itself(parsed, results):
    files = {SOURCE + variant["source"] for variant in results.variants.values()}
    for tag, attrs, _ in parsed.all(*{tag for tag, *_ in parsed.elements}):
        for name in ("src", "srcset", "href"):
            if name in attrs:
                if tag == "a" and attrs[name] in files:
                    continue  # a link to a file of the repository, which is not loaded
                assert attrs[name].startswith(("data:", "#")), f"{tag} {name}={attrs[name][:60]}"
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
    (style,) = parsed.all("style")
    assert "url(" not in style[2]
    assert "import" not in style[2]


def test_every_figure_and_table_is_there_and_accessible(parsed, folder):
    assert parsed.all("html")[0][1]["lang"] == "en"
    assert len(parsed.all("h1")) == 1
    levels = [int(tag[1]) for tag, *_ in parsed.all("h1", "h2", "h3")]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    images = parsed.all("img")
    for layout in ("wide", "narrow"):
        shown = [attrs for _, attrs, _ in images if attrs["class"] == layout]
        assert len(shown) == len(set(folder.glob("*.png")) - {folder / PICTURE})
    assert all(len(attrs["alt"]) > 20 for _, attrs, _ in images)
    ids = [attrs["id"] for _, attrs, _ in parsed.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    links = [attrs["href"][1:] for _, attrs, _ in parsed.all("a") if attrs["href"][0] == "#"]
    labels = [attrs["aria-labelledby"] for _, attrs, _ in parsed.all("section")]
    assert links
    assert set(links + labels) <= set(ids)
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert all("scope" in attrs for _, attrs, _ in parsed.all("th"))


def test_every_row_leads_to_what_it_is_and_to_its_source(parsed, results):
    measured = {row.label for row in results.rows if row.status in ("ok", "error")}
    ids = {attrs["id"]: text for _, attrs, text in parsed.all("dt")}
    assert set(ids.values()) == measured
    links = {text: attrs["href"] for _, attrs, text in parsed.all("a") if text in measured}
    assert {label: ids[href[1:]] for label, href in links.items()} == {m: m for m in measured}
    words = "".join(text for _, _, text in parsed.all("dd"))
    hrefs = {attrs["href"] for _, attrs, _ in parsed.all("a")}
    for variant in results.variants.values():
        if variant["label"] in measured:
            assert variant["about"] in words
            assert SOURCE + variant["source"] in hrefs


def test_the_picture_for_links_is_of_the_size_that_they_show(parsed, folder):
    from PIL import Image

    (meta,) = (a for _, a, _ in parsed.all("meta") if a.get("property") == "og:image")
    assert Image.open(folder / meta["content"]).size == (1200, 630)


def test_the_page_holds_the_result_file_and_every_round(parsed, folder, results):
    import base64
    import gzip

    (link,) = (attrs for _, attrs, _ in parsed.all("a") if "download" in attrs)
    content = base64.b64decode(link["href"].partition(",")[2])
    assert gzip.decompress(content) == (folder / "results.json").read_bytes()
    (details,) = parsed.all("details")
    for row in results.rows:
        if row.ok:
            times = "  ".join(digits(1e6 * value) for value in row.values)
            assert f"{row.workload}, {row.title}" in details[2]
            assert times in details[2]


def test_every_number_of_the_headline_is_computed_from_the_result_file(parsed, folder, results):
    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    values = {}
    for benchmark in data["benchmarks"]:
        name = benchmark["metadata"]["name"]
        values[name] = [run["values"][0] for run in benchmark["runs"]]
    ours = data["pymicrogpt"]

    def expected(what: str, name: str) -> float:
        workload = name.split("/")[0]
        time = median(values[name])
        ratios = [
            a / b for a, b in zip(values[f"{workload}/b1/cpython"], values[name], strict=True)
        ]
        rate = ours["workloads"][workload]["flops_per_sample"] / time * 1e-9
        return {
            "microseconds": 1e6 * time,
            "microseconds-low": 1e6 * min(values[name]),  # three rounds: their range
            "microseconds-high": 1e6 * max(values[name]),
            "speedup": median(ratios),
            "speedup-low": min(ratios),
            "speedup-high": max(ratios),
            "gflops": rate,
            "share": rate / ours["run"]["peak_gflops"],
        }[what]

    claims = parsed.all("data")
    kinds = set()
    for _, attrs, text in claims:
        ((what, name),) = ((k.removeprefix("data-"), v) for k, v in attrs.items() if k != "value")
        value = float(attrs["value"])
        kinds.add(what)
        assert value == pytest.approx(expected(what, name))
        digits = float(re.sub(rf"[,{TIMES}%]", "", text))
        if "%" in text:
            assert digits == pytest.approx(100 * value, abs=0.51)
        else:
            assert digits == pytest.approx(value, rel=0.006)
    assert len(kinds) == 8
    # Nothing else in the headline is a number, but for the names of rows and intervals.
    text = (folder / "index.html").read_text(encoding="utf-8")
    header = text.partition("<h1>")[2].partition("</h1>")[0]
    header += text.partition('<ul class="cards">')[2].partition("</ul>")[0]
    header = re.sub(r"<[^>]*>", "", re.sub(r"<data.*?</data>", "", header))
    names = r"AVX-512(,| at) batch 16?|CPython at batch 1|d16|75 %|3 rounds"
    header = re.sub(names, "", header)
    assert "per sample" in header
    assert not re.search(r"\d", header), header


def test_a_report_does_not_grow_the_repository(tmp_path):
    """One as of a default run: rows at five widths, probes and trainings at two."""
    found, probed = of_rows(workloads=WIDTHS), of_probes()
    found.rows = [
        row for row in found.rows
        if row.workload in ("d16", "d64") or not (row.variation_of or row.group == "pure Python")
    ]  # fmt: skip
    found.probes += probed.probes
    found.probes += [probe for probe in of_trainings().probes if probe.name != "pareto"]
    found.run |= probed.run
    for name, facts in probed.workloads.items():
        found.workloads[name] |= facts
    for row in found.rows:
        row.values, row.rounds = (row.values * 3)[:7], (row.rounds * 3)[:7]
    write(found, tmp_path)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sum(name.endswith(".png") for name in sizes) == 15
    assert sizes["index.html"] < 1_000_000
    assert sum(sizes.values()) < 1_500_000


def test_titles_of_figures_are_findings_of_this_run(parsed, results):
    alts = " ".join(attrs["alt"] for _, attrs, _ in parsed.all("img"))
    row = results.find("d16", "avx512", 16)
    assert f"d16: AVX-512 at batch 16 is {times(results.speedup(row).value)}" in alts


def test_a_broken_row_is_an_error_row(parsed, results):
    broken = [text for _, attrs, text in parsed.all("tr") if attrs.get("class") == "error"]
    rows = [row for row in results.rows if row.status == "error"]
    assert len(broken) == len(rows) > 0
    for text, row in zip(broken, rows, strict=True):
        assert text.strip() == f"{row.label}{row.batch}error: {row.reason}".strip()
    warnings = next(text for _, attrs, text in parsed.all("section")
                    if attrs.get("class") == "warnings")  # fmt: skip
    assert f"Error: d16, {rows[0].title}" in warnings


def test_what_was_not_measured_says_so(parsed):
    text = parsed.all("main")[0][2]
    assert "Not measured: skipped" in text
    assert "this CPU has none; buy another one" in text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """The page of a run whose every text tries to be markup."""
    found = of_rows(workloads=("d16",), wrong={"avx2"})
    found.run |= {"cpu_model_name": HOSTILE, "corpus": HOSTILE, HOSTILE: HOSTILE}
    found.published_source = HOSTILE
    found.published = {"d16": {HOSTILE: 1.0}}
    for row in found.rows:
        row.label += HOSTILE
        row.reason = row.reason and HOSTILE
        row.info = {}
    found.probes = [Probe("phases", "d16", "avx512", HOSTILE, "error", HOSTILE)]
    out = tmp_path_factory.mktemp("hostile")
    write(found, out)
    return out


def test_hostile_names_stay_text(hostile):
    text = (hostile / "index.html").read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert len(parsed.all("script")) == 1
    assert len(parsed.all("img")) == 2 * (len(list(hostile.glob("*.png"))) - 1)
    for _, attrs, _ in parsed.elements:
        assert "onerror" not in attrs
    assert HOSTILE in parsed.all("h1")[0][2]
    assert HOSTILE in parsed.all("table")[0][2]
    assert "<script" not in (hostile / "README.md").read_text(encoding="utf-8")


def test_a_value_of_a_figure_is_told_where_it_is(parsed, results):
    """Without the script too: the browser shows a title."""
    told = [(attrs, text) for _, attrs, text in parsed.all("rect") if text]
    for layout in ("wide", "narrow"):
        assert any(a["class"] == f"spots {layout}" for _, a, _ in parsed.all("svg"))
    sizes = [tuple(map(int, a["viewbox"].split()[2:])) for _, a, _ in parsed.all("svg")]
    most = max(max(size) for size in sizes)
    places = [attrs for _, attrs, _ in parsed.all("rect")]
    assert len(places) == 2 * len(told)  # the texts once, for the page and for a phone
    for row in results.of("d16"):
        if row.ok:
            found = [attrs for attrs, text in told
                     if text.startswith(f"{row.title}: ") and exact(row.estimate) in text
                     and exact(results.speedup(row)) in text]  # fmt: skip
            assert len(found) == 1, row.name
            for attrs in found:
                x, y, width, height = (int(attrs[k]) for k in ("x", "y", "width", "height"))
                assert 0 <= x < x + width <= most and 0 <= y < y + height <= most


# In a browser


@needs_browser
def test_keys_tell_values_and_switches_hide_rows(folder, tmp_path):
    page = (folder / "index.html").read_text(encoding="utf-8")
    act = """<script>onload = () => {
      const frame = document.querySelector("iframe").contentWindow, inside = frame.document;
      const figure = inside.querySelector(".spots"), tip = inside.querySelector(".tip");
      const press = key => {
        figure.dispatchEvent(new frame.KeyboardEvent("keydown", {key}));
        return [tip.hidden, tip.textContent];
      };
      const told = [press("ArrowDown"), press("ArrowDown"), press("Escape")];
      const box = inside.querySelector("details input");
      const shown = inside.querySelector(".rows label");
      box.click();
      const hidden = inside.querySelectorAll("tr.off").length;
      const veiled = inside.querySelectorAll("rect.off").length;
      box.click();
      document.title = JSON.stringify([...told, shown.textContent.trim(), hidden, veiled,
        inside.querySelectorAll(".off").length]);
    }</script>"""
    file = tmp_path / "frame.html"
    frame = f'<iframe width="1280" height="900" srcdoc="{escape(page)}"></iframe>'
    file.write_text(frame + act, encoding="utf-8")
    found = json.loads(unescape(re.search("<title>(.*?)</title>", dump(file))[1]))
    first, second, gone, name, hidden, _, left = found
    assert not first[0] and " (" in first[1] and not second[0] and second[1] != first[1]
    assert gone[0]  # Escape
    assert name.startswith("CPython") and hidden > 1 and left == 0


@needs_browser
def test_a_browser_runs_the_script_of_the_page_and_nothing_hostile(hostile):
    parsed = Parsed(dump(hostile / "index.html"))
    assert parsed.all("title")[0][2].endswith("as fast as CPython at batch 1")
    assert len(parsed.all("script")) == 1
    heads = [attrs for _, attrs, _ in parsed.all("th") if attrs["scope"] == "col"]
    assert len(parsed.all("button")) == len(heads) > 0  # they sort the tables


@needs_browser
def test_the_page_fits_a_phone_and_a_desk(folder, tmp_path):
    page = (folder / "index.html").read_text(encoding="utf-8")
    page = page.replace("<details>", "<details open>")
    frames = "".join(
        f'<iframe width="{width}" height="900" srcdoc="{escape(page)}"></iframe>'
        for width in (390, 1280)
    )
    measure = """<script>onload = () => {
      document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(element => {
        const frame = element.contentWindow;
        const page = frame.document.documentElement;
        const images = [...frame.document.images].filter(image => image.offsetWidth);
        const boxes = [...frame.document.querySelectorAll(".box")];
        return [frame.innerWidth, page.scrollWidth, Math.min(...images.map(i => i.naturalWidth)),
          Math.max(...images.map(i => i.naturalWidth)), Math.max(...images.map(i => i.width)),
          boxes.some(box => box.scrollWidth > box.clientWidth)];
      }));
    }</script>"""
    file = tmp_path / "frames.html"
    file.write_text(f"<style>iframe {{border: 0}}</style>{frames}{measure}", encoding="utf-8")
    title = re.search("<title>(.*?)</title>", dump(file))
    layouts = (NARROW_WIDTH, WIDTH)
    for width, inches, found in zip((390, 1280), layouts, json.loads(title[1]), strict=True):
        inner, scroll, least, most, image, scrolling = found
        assert inner == width
        assert scroll <= width  # nothing is wider than the window,
        assert scrolling or width > 390  # since tables scroll inside of their boxes
        # every figure is loaded, in the layout for the width; of a drawing an inch is 96 pixels
        assert least == most == round(inches * 96)
        assert image <= width
