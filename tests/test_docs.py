"""The pages: their commands compose, those of the tutorials run as they are written, and the site builds strictly."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from tests.conftest import NET, ROOT, call, save_untrained

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
QUICK = ["trainer=cpu", "logger=none", "data.num_workers=0", "data.batch_size=16", "trainer.max_epochs=1"]
QUICK += ["worst_images=0"] + [f"callbacks.{name}=null" for name in ("charts", "panels", "page")]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules[name] = script
    spec.loader.exec_module(script)
    return script


def _blocks(page: Path, heading: str = "") -> list[str]:
    """The fenced blocks of a page, or of one of its sections."""
    text = page.read_text()
    if heading:
        text = re.split(r"^## ", text.split(f"## {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def _commands(text: str) -> list[list[str]]:
    """The command lines of ``python -m src.<name>`` in a block, as words from the name on."""
    text = re.sub(r"\\\n\s*", "", text)
    text = re.sub(r"=<[^<>\n]+>", lambda found: found[0].replace(" ", "_"), text)
    found = re.findall(r"^(?:\$ )?(?:\w+=\w+ )*python -m src\.(\w+.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


def _run(words: list[str], *more: str) -> None:
    call(words[0], *words[1:], *more)


# --- every page -------------------------------------------------------------------------------------------------------

CHOICES = {"experiment": "binary", "model": "bisenetv2", "data": "folder", "sweep": "toy_search"}


def _lines(page: Path) -> Iterator[list[str]]:
    """Every command line of a page with its options, placeholders filled in."""
    inline = "\n".join(" ".join(each.split()) for each in re.findall(r"`(python -m src\.[^`]+)`", page.read_text()))
    for words in _commands("\n".join([*_blocks(page), inline])):
        options = [word for word in words[1:] if word != "..."]
        if not options or any(re.match(r"-|resume=|report=", word) for word in options):
            continue  # --help, and what needs a run of its own
        yield [words[0], *map(_filled, options)]


def _filled(option: str) -> str:
    name, _, value = option.partition("=")
    return f"{name}={CHOICES[name]}" if re.fullmatch(r"<\w+>|NAME|\.\.\.", value) and name in CHOICES else option


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_of_a_page_composes(
    page: Path, untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, *options in _lines(page):
        composed = []
        given = [
            f"ckpt={untrained}" if word.startswith("ckpt=") and (name != "convert" or "://" in word) else word
            for word in options
        ]
        call(name, *given, task=composed.append)
        assert composed, [name, *options]


def test_pages_have_command_lines() -> None:
    assert sum(len(list(_lines(page))) for page in PAGES) > 40


# --- tutorials --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_your_own_data_in_five_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, lines = _blocks(ROOT / "README.md", "Your own data in five minutes")
    assert re.findall(r"^  (\w[\w.]*)", folder, re.MULTILINE) == ["images", "masks", "classes.txt"]
    random = np.random.default_rng(0)
    for place in ("mine/images", "mine/masks", "photos"):
        (tmp_path / place).mkdir(parents=True)
    for number in range(20):
        pixels = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"mine/images/{number}.jpg")
        Image.fromarray(np.where(pixels[..., 0] > 127, 1, 0).astype(np.uint8)).save(
            tmp_path / f"mine/masks/{number}.png"
        )
    shutil.copy(tmp_path / "mine/images/0.jpg", tmp_path / "photos/new.jpg")
    (tmp_path / "mine/classes.txt").write_text("soil\ncrop\n")

    doctor, train, predict = _commands(lines)
    _run(doctor, "measure=false")
    train.remove("budget=20m")  # which test_budget.py has
    _run(train, *QUICK, *NET, "transforms.crop_size=[64,96]")
    (run,) = (tmp_path / "runs/train").iterdir()
    _run([word.replace("<run>", run.name) for word in predict])
    assert list((tmp_path / "runs/predict").rglob("index/new.png"))


@pytest.mark.slow
def test_your_own_images_from_a_folder_to_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs/own_data.md"
    subprocess.run([sys.executable, ROOT / "scripts/make_cells.py", "mine"], check=True)
    refused, doctor, train, evaluate, predict = _commands("".join(_blocks(page)).replace("\npython", "\n# python"))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        _run(refused)
    said = " ".join(capsys.readouterr().err.split())
    assert said in " ".join(page.read_text().split())
    _run(doctor, "measure=false")
    said = capsys.readouterr().out
    for line in _blocks(page)[2].splitlines()[3:22]:
        assert line == "..." or line in said
    _run(train, *QUICK, *NET, "transforms.crop_size=[64,64]")
    _run(evaluate, "trainer=cpu")
    _run(predict, "device=cpu")
    assert capsys.readouterr().out.splitlines()[-1].endswith("4 of 4 images segmented: found")
    areas = (tmp_path / "found/areas.csv").read_text().splitlines()
    assert areas[0] == "image,class,pixels,share" and len(areas) == 1 + 4 * 2


@pytest.mark.slow
def test_export_and_what_opens_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs/export.md"
    monkeypatch.chdir(tmp_path)
    small = ["data.length={train: 2, val: 2, test: 2}", "data.size=[64,96]"]
    (tmp_path / "runs/train/a/checkpoints").mkdir(parents=True)
    save_untrained(tmp_path / "runs/train/a/checkpoints/best.ckpt", *NET, *small)
    lines = [[word.replace("<run>", "a") for word in words] for words in _commands(_blocks(page)[0])]
    onnx, pt2 = lines[:2]
    _run(onnx, "check_images=1")
    _run(pt2, "check_images=1", "size=[64,128]")
    Image.fromarray(np.full((64, 96, 3), 90, np.uint8)).save(tmp_path / "street.png")
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    by_onnx, by_torch = (next(each for each in snippets if word in each) for word in ("onnxruntime", "torch.export"))
    exec(by_onnx, {"onnxruntime": onnxruntime})
    assert Image.open(tmp_path / "classes.png").size == (96, 64)
    names = {"torch": torch}
    exec(by_torch.replace("512, 1024", "64, 128"), names)
    assert tuple(names["label"].shape) == (1, 64, 128)
    assert "road" in names["about"]["class_names"]


# --- the site ---------------------------------------------------------------------------------------------------------


def test_every_message_says_what_to_do() -> None:
    messages = _script("error_index").messages()
    assert len(messages) > 400
    assert [each for each in messages if not each.helps] == []


def test_a_message_without_a_remedy_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "def f(path):\n"
        "    raise UserError(f'{path}: is empty; restore it')\n"
        "    raise UserError(f'{path.name}: is quite broken' if path else path.why)\n"
    )
    first, *others = _script("error_index").messages(tmp_path)
    assert first == ("PATH: is empty", "restore it", "a.py: f")
    assert [(each.cause, each.helps) for each in others] == [("NAME: is quite broken", False)]


def test_the_drawing_of_the_architecture_is_what_the_script_draws() -> None:
    assert (ROOT / "docs/architecture.svg").read_text() == _script("architecture_drawing").drawing()


def _built(site: Path, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    built = _built(tmp_path, ROOT)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*", text), page
        assert "mermaid" not in re.findall(r'class="([^"]*)"', text), f"{page}: Mermaid is fetched; draw it as SVG"
    errors = (tmp_path / "errors.html").read_text()
    assert 'id="file-not-found"' in errors and "Restore it or remove it from the list" in errors


@pytest.mark.slow
def test_a_broken_link_an_odd_anchor_and_an_undocumented_name_fail(tmp_path: Path) -> None:
    for name in ("docs", "scripts", "src", "mkdocs.yml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs/data.md").open("a") as page:
        page.write("\n[one](nowhere.md) [two](training.md#nowhere) [three](../src/data/source.py)\n")
    losses = tmp_path / "src/losses/__init__.py"
    losses.write_text(
        losses.read_text().replace('    "BCELoss",\n', '    "BCELoss",\n    "SECRET",\n') + "\nSECRET = 1\n"
    )
    built = _built(tmp_path / "site", tmp_path)
    assert built.returncode != 0
    assert sorted(re.findall(r"'(nowhere.md|training.md#nowhere|\.\./src\S+)'|(src\.losses\.\w+):", built.stderr)) == [
        ("", "src.losses.SECRET"),
        ("nowhere.md", ""),
        ("training.md#nowhere", ""),
    ]


@pytest.mark.slow
def test_public_methods_have_docstrings() -> None:
    """``undocumented`` sees names alone; a method may be described by what it overrides."""
    site = _script("site_pages")
    for name in [each for module in site.described(ROOT / "docs/reference") for each in site.public(module)]:
        module, _, attribute = name.rpartition(".")
        described = getattr(importlib.import_module(module), attribute)
        if not inspect.isclass(described):
            continue
        for member, value in vars(described).items():
            if callable(value) and not member.startswith("_"):
                assert inspect.getdoc(getattr(described, member)), f"{name}.{member} has no docstring"
