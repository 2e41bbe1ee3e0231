"""Pages of run folders made by hand: complete, hostile, half-finished, broken; and as a browser without network."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.callbacks.html_report import Page
from src.commands.dashboard import dashboard
from src.data.label_space import LabelSpace, distinct_colors
from src.errors import UserError
from src.metrics import Scores
from src.reports import pictures
from src.reports.compare_page import write_comparison
from src.reports.page import refresh_page, write_page
from src.reports.run_folder import runs_below
from src.reports.scores_file import write_scores
from src.reports.svg_charts import Curve, chart

HOSTILE = '</script><img src="https://example.org/x.png" onerror="alert(1)">'
NAMES = ["road", 'car "&amp;" <b>', HOSTILE]


def _scores(count: int, seed: int = 0) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randint(0, 40, (count, count), generator=generator) + 300 * torch.eye(count, dtype=torch.int64)
    matrix[:, -1] = matrix[-1] = 0  # the last class is absent
    return Scores(matrix)


def _run(folder: Path, *, names: list[str] = NAMES, epochs: int = 3, seed: int = 0, lr: float = 0.01) -> Path:
    """The files that a short training leaves."""
    space = LabelSpace(names=names, colors=distinct_colors(len(names)))
    folder.mkdir(parents=True)
    rows = ["step,epoch,train/loss,lr/net,train/images_per_second,train/data_wait,val/miou,val/pixel_accuracy"]
    for epoch in range(epochs):
        rows += [f"{10 * epoch + step},{epoch},{2 / (epoch + step)},{lr},12.5,0.25,," for step in range(1, 11)]
        rows.append(f"{10 * epoch + 10},{epoch},,,,,{0.2 + 0.1 * epoch + 0.01 * seed},0.8")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    config = {"model": {"name": "net"}, "data": {"name": HOSTILE}, "optimizer": {"lr": lr}, "seed": seed}
    (folder / "config.yaml").write_text(json.dumps({**config, "run_dir": str(folder)}))
    (folder / "environment.json").write_text(json.dumps({"device": "a < b", "packages": {"torch": "2"}}))
    write_scores(_scores(len(names), seed), space, folder / "scores_test.json", protocol={"data": HOSTILE, "images": 3})
    label = np.tile(np.arange(len(names), dtype=np.uint8), (24, 8))[:, :32]
    row = pictures.panel(np.full((*label.shape, 3), 99, np.uint8), label, label, space, name="a")
    pictures.save_png(folder / "panels/latest.png", row)
    for rank in (2, 1):
        pictures.save_png(folder / f"worst_images/{rank}_miou_{10 * rank}.0_street <i>{rank}.png", row)
    return folder


class _Reader(html.parser.HTMLParser):
    """Text, tags with their attributes, and whether all is closed that was opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.open = "", [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "circle", "polyline", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _read(path: Path) -> _Reader:
    page = _Reader(path.read_text(encoding="utf-8"))
    assert not page.open
    return page


def _loads_nothing(page: _Reader) -> bool:
    addresses = [(tag, value) for tag, given in page.tags for name, value in given.items() if name in ("src", "href")]
    return all(value.startswith("data:") or (tag == "a" and ":" not in value) for tag, value in addresses)


def test_the_page_shows_every_part_of_a_run_and_loads_nothing(tmp_path: Path) -> None:
    page = _read(write_page(_run(tmp_path / "run")))
    assert _loads_nothing(page)
    for part in (*NAMES, "best val mIoU", "40.00 % at step 30", "12.5 images/s", "25.0 % of the time", "Training loss"):
        assert part in page.text
    assert "street <i>1: mean IoU 10.0 %" in page.text and "a < b" in page.text and '"seed": 0' in page.text
    assert page.text.index("street <i>1") < page.text.index("street <i>2")
    assert [tag for tag, _ in page.tags].count("svg") == 4
    assert [given["src"][:15] for tag, given in page.tags if tag == "img"] == ["data:image/jpeg"] * 3
    assert not any(name.startswith("on") for _, given in page.tags for name in given)


def test_classes_come_sorted_with_the_figures_of_the_file(tmp_path: Path) -> None:
    write_page(_run(tmp_path / "run"))
    content = json.loads((tmp_path / "run/scores_test.json").read_text())
    expected = sorted((100 * value for value in content["iou"].values() if value is not None), reverse=True)
    page = (tmp_path / "run/report.html").read_text()
    rows = re.findall(r'<th scope="row"><span class="swatch".*?</th><td class="n" data-value="([^"]*)">', page)
    assert [float(value) for value in rows[:2]] == pytest.approx(expected)
    assert rows[2] == ""  # absent


def test_a_run_that_has_just_begun_and_one_that_was_only_evaluated_have_pages(tmp_path: Path) -> None:
    begun = _run(tmp_path / "begun", epochs=1)
    for name in ("scores_test.json", "environment.json", "config.yaml"):
        (begun / name).unlink()
    shutil.rmtree(begun / "panels")
    (begun / "metrics.csv").write_text("step,epoch,val/miou,val/pixel_accuracy\n4,0,nan,0.5\n")
    assert "pixel accuracy" in _read(write_page(begun)).text
    evaluated = _run(tmp_path / "evaluated")
    (evaluated / "metrics.csv").unlink()
    assert "Curves" not in _read(write_page(evaluated)).text


@pytest.mark.parametrize("count", [1, 19, 150])
def test_few_and_many_classes_fit(tmp_path: Path, count: int) -> None:
    path = write_page(_run(tmp_path / "run", names=[f"class {index}" for index in range(count)]))
    assert path.stat().st_size < 1_000_000
    page = _read(path)
    matrices = [given for tag, given in page.tags if given.get("class") in ("matrix", "cells")]
    assert [given["class"] for given in matrices] == ["cells" if count > 40 else "matrix"]


def test_pictures_stop_where_the_page_is_full(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    for rank in range(3, 9):
        pictures.save_png(run / f"worst_images/{rank}_miou_5.0_noise.png", noise)
    path = write_page(run)
    assert 1_000_000 < path.stat().st_size < 5_000_000
    assert "No room in this file for" in _read(path).text


def test_a_folder_without_results_and_a_broken_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither metrics"):
        write_page(tmp_path)
    run = _run(tmp_path / "run")
    (run / "scores_test.json").write_text("{")
    with pytest.raises(UserError, match=r"scores_test.json: is broken"):
        write_page(run)


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(tmp_path / "run")
    assert refresh_page(run)
    before = (run / "report.html").read_bytes()
    (run / "metrics.csv").write_bytes(b"step,train/loss\n\xff,\xff\n")
    assert not refresh_page(run)
    told = capsys.readouterr().out
    assert told.count("\n") == 1 and "report.html: not written" in told
    assert (run / "report.html").read_bytes() == before


def test_the_callback_never_ends_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from types import SimpleNamespace

    space = LabelSpace(names=["a", "b"], colors=[(0, 0, 0), (9, 9, 9)])
    module = SimpleNamespace(val_scores=_scores(2), label_space=space)
    state = {"state": SimpleNamespace(fn="fit"), "sanity_checking": False, "current_epoch": 1, "global_step": 7}
    page = Page(tmp_path)
    page.on_validation_end(SimpleNamespace(is_global_zero=False, **state), module)
    assert not list(tmp_path.iterdir())
    (tmp_path / "config.yaml").write_text("a: [")
    for _ in range(2):
        page.on_validation_end(SimpleNamespace(is_global_zero=True, **state), module)
    assert capsys.readouterr().out.count("not written") == 1
    assert json.loads((tmp_path / "validation.json").read_text())["protocol"] == {"epoch": 1, "step": 7}
    (tmp_path / "file").touch()
    Page(tmp_path / "file").on_validation_end(SimpleNamespace(is_global_zero=True, **state), module)
    assert capsys.readouterr().out.count("not written") == 1


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0], [1e-5, 3e-5], [-4.0, 9e6], [0.0, 1e-300]])
def test_every_point_of_a_chart_lies_in_it(values: list[float]) -> None:
    drawn = str(chart([Curve("a<b", np.array([np.arange(len(values)), values]))], title="t", unit="u"))
    points = re.findall(r'points="([^"]*)"', drawn)
    alone = re.findall(r'cx="([^"]*)" cy="([^"]*)"', drawn)
    pairs = [pair.split(",") for pair in points[0].split()] if points else alone
    assert len(pairs) == len(values)
    assert all(0 <= float(x) <= 480 and 0 <= float(y) <= 270 for x, y in pairs)
    assert "a&lt;b" in drawn


def test_runs_are_compared_best_first_with_what_differs(tmp_path: Path) -> None:
    first = _run(tmp_path / "runs/first", lr=0.01)
    second = _run(tmp_path / "runs/deep/second", lr=0.02, seed=3)
    write_page(second)
    _run(tmp_path / "runs/third", lr=0.01)
    (tmp_path / "runs/third/scores_test.json").unlink()
    found = runs_below(tmp_path / "runs")
    assert [path.name for path in found] == ["second", "first", "third"]
    page = _read(write_comparison(found, tmp_path / "pages/compare.html"))
    assert _loads_nothing(page)
    assert [given["href"] for tag, given in page.tags if tag == "a"] == ["../runs/deep/second/report.html"]
    order = [*sorted(found[:2], key=lambda run: -_miou(run)), found[2]]  # the third has a validation only
    assert "Sorted by data and split, then mean IoU" in page.text
    places = [page.text.index(run.name) for run in order]
    assert places == sorted(places)
    assert "optimizer.lr" in page.text and "0.02" in page.text and "run_dir" not in page.text
    assert runs_below(first) == [first]
    with pytest.raises(UserError, match="no run with results"):
        runs_below(tmp_path / "pages")


def test_the_page_of_a_run_has_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out=x\.html goes with compare="):
        dashboard(OmegaConf.create({"run": str(_run(tmp_path / "a")), "compare": None, "out": "x.html"}))


def test_a_comparison_replaces_pages_only(tmp_path: Path) -> None:
    runs = [_run(tmp_path / name) for name in "ab"]
    kept = tmp_path / "a/last.ckpt"
    kept.write_bytes(b"weights")
    options = {"run": None, "compare": [*map(str, runs)]}
    with pytest.raises(UserError, match=r"last\.ckpt: must end in \.html"):
        dashboard(OmegaConf.create({**options, "out": str(kept)}))
    assert kept.read_bytes() == b"weights"
    for _ in range(2):
        assert dashboard(OmegaConf.create({**options, "out": str(tmp_path / "both.html")})).is_file()


def test_runs_of_other_data_or_on_parts_of_them_are_not_ranked_with_the_rest(tmp_path: Path) -> None:
    options = {"first": {}, "second": {"data": {"name": "field"}}, "debug": {"trainer": {"limit_test_batches": 1}}}
    for name, given in options.items():
        config = _run(tmp_path / name, lr=0.01) / "config.yaml"
        config.write_text(json.dumps(json.loads(config.read_text()) | given))
        scores = tmp_path / name / "scores_test.json"
        content = json.loads(scores.read_text())
        content["miou"] = {"first": 0.5, "second": 0.6, "debug": 0.9}[name]
        scores.write_text(json.dumps(content))
    page = _read(write_comparison(runs_below(tmp_path), tmp_path / "compare.html"))
    places = [page.text.index(name) for name in ("first", "second", "debug")]  # data by name
    assert places == sorted(places)
    assert "test, in part" in page.text


def _miou(run: Path) -> float:
    return json.loads((run / "scores_test.json").read_text())["miou"]


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0",
    "--virtual-time-budget=2000", "--dump-dom",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")
def test_a_browser_opens_the_pages_without_error_and_sorts_their_tables(tmp_path: Path) -> None:
    """Clicks are made in a copy with a policy that lets a second script in; the page itself refuses it."""
    run, other = _run(tmp_path / "run"), _run(tmp_path / "other", seed=1)
    for path in (write_page(run), write_comparison([run, other], tmp_path / "compare.html")):
        dom, log = _browse(path, tmp_path)
        assert "</html>" in dom and not re.search("CONSOLE|Refused|ERR_", log), log
    text = (run / "report.html").read_text(encoding="utf-8")
    click = '<script>document.querySelector("table.sortable th:nth-child(2) button").click()</script></body>'
    clicked = text.replace("</body>", click)
    (tmp_path / "refused.html").write_text(clicked + "<img src='https://example.org/a.png'>", encoding="utf-8")
    dom, log = _browse(tmp_path / "refused.html", tmp_path)
    assert log.count("CONSOLE") == 2 and ' aria-sort="ascending"' not in dom  # what a violation looks like
    (tmp_path / "clicked.html").write_text(re.sub("script-src '[^']*'", "script-src 'unsafe-inline'", clicked))
    dom, _ = _browse(tmp_path / "clicked.html", tmp_path)
    values = re.findall(r'swatch".*?data-value="([^"]*)"', dom)
    assert ' aria-sort="ascending"' in dom
    assert [*map(float, values[:-1])] == sorted(map(float, values[:-1])) and values[-1] == ""  # absent stays last


def _browse(path: Path, tmp_path: Path) -> tuple[str, str]:
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"file://{path}"],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_the_panel_in_the_page_keeps_the_colours_of_the_palette(tmp_path: Path) -> None:
    import base64

    run = _run(tmp_path / "run")
    page = _read(write_page(run))
    uri = [given["src"] for tag, given in page.tags if tag == "img"][-1]
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    drawn = cv2.imread(str(run / "panels/latest.png"))
    assert shown.shape == drawn.shape
    assert np.median(np.abs(shown.astype(int) - drawn)) <= 3
