"""Cityscapes beyond the fine labels: coarse ones, those of a net, other divisions of the cities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from src.build import from_config
from src.data.sets.cityscapes import cityscapes
from src.data.sets.cityscapes_extra import cityscapes_autolabelled, cityscapes_coarse
from src.errors import UserError
from tests.conftest import ROOT

EXTRA = "wurzburg_000000_000019"
CITIES = {
    "train": "aachen bochum bremen cologne darmstadt dusseldorf erfurt hamburg hanover jena krefeld monchengladbach"
    " strasbourg stuttgart tubingen ulm weimar zurich",
    "val": "frankfurt lindau munster",
}


def write(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def write_image(root: Path, part: str, name: str, shape: tuple[int, int] = (2, 4)) -> None:
    city = name.split("_")[0]
    write(root / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png", np.full((*shape, 3), 90))


def write_label(root: Path, kind: str, part: str, name: str, label: Any) -> None:
    write(root / kind / part / name.split("_")[0] / f"{name}_{kind}_labelIds.png", label)


def write_auto(folder: Path, name: str, label: Any, confidence: Any = None) -> None:
    """Label and confidence as the archive has them: under the name of the image."""
    path = folder / name.split("_")[0] / f"{name}_leftImg8bit.png"
    write(path, label)
    if confidence is not None:
        write(path.with_name(f"{path.stem}_prob.png"), confidence)


def write_fine(root: Path, parts: dict[str, str] = CITIES) -> None:
    for part, cities in parts.items():
        for city in cities.split():
            name = f"{city}_000000_000019"
            write_image(root, part, name)
            write_label(root, "gtFine", part, name, np.full((2, 4), 7))


def names(source: Any) -> list[str]:
    return [source.name(index) for index in range(len(source))]


def cities(source: Any) -> set[str]:
    return {name.split("_")[0] for name in names(source)}


def test_divisions_of_the_cities(tmp_path: Path) -> None:
    """Three cities each are val; with train they are all 21, and no image is in both."""
    write_fine(tmp_path)
    everywhere = {*CITIES["train"].split(), *CITIES["val"].split()}
    seen = cities(cityscapes(root=tmp_path, split="val"))
    for number, expected in (("1", {"darmstadt", "dusseldorf", "erfurt"}), ("2", {"monchengladbach", "strasbourg"})):
        val = cities(cityscapes(root=tmp_path, split=f"val_cv{number}"))
        assert len(val) == 3
        assert expected <= val
        assert cities(cityscapes(root=tmp_path, split=f"train_cv{number}")) == everywhere - val
        assert not seen & val
        seen |= val


def test_a_division_without_its_cities_says_so(tmp_path: Path) -> None:
    write_fine(tmp_path, {"train": "aachen", "val": "lindau"})
    with pytest.raises(UserError, match=r"no image of split 'val_cv2', .*stuttgart; unpack leftImg8bit_trainvaltest"):
        cityscapes(root=tmp_path, split="val_cv2")


def test_coarse_labels_of_each_part(tmp_path: Path) -> None:
    write_fine(tmp_path, {"train": "ulm", "val": "lindau"})
    write_image(tmp_path, "train_extra", EXTRA)
    write_label(tmp_path, "gtCoarse", "train_extra", EXTRA, [[0, 26, 26, 0]] * 2)
    write_label(tmp_path, "gtCoarse", "train", "ulm_000000_000019", [[0, 0, 8, 0]] * 2)
    write_label(tmp_path, "gtCoarse", "val", "lindau_000000_000019", [[0, 0, 33, 0]] * 2)
    expected = {"train": [0, 0, 0, 0], "val": [0, 0, 0, 0], "train_extra": [255, 13, 13, 255]}
    expected |= {"train_coarse": [255, 255, 1, 255], "val_coarse": [255, 255, 18, 255]}
    for split, label in expected.items():
        assert cityscapes_coarse(root=tmp_path, split=split).read(0)[1][0].tolist() == label
    with pytest.raises(UserError, match=r"no split 'train-extra'; use .*Did you mean 'train_extra'\?"):
        cityscapes_coarse(root=tmp_path, split="train-extra")


def test_each_archive_may_have_its_own_folder(tmp_path: Path) -> None:
    write_fine(tmp_path, {"train": "ulm"})
    (tmp_path / "leftImg8bit_trainvaltest").mkdir()
    (tmp_path / "leftImg8bit").rename(tmp_path / "leftImg8bit_trainvaltest" / "leftImg8bit")
    (tmp_path / "gtFine_trainvaltest").mkdir()
    (tmp_path / "gtFine").rename(tmp_path / "gtFine_trainvaltest" / "gtFine")
    write_image(tmp_path / "leftImg8bit_trainextra", "train_extra", EXTRA)
    write_label(tmp_path / "gtCoarse", "gtCoarse", "train_extra", EXTRA, np.full((2, 4), 8))
    write_auto(tmp_path / "refinement_final_v0/refinement_final_v0/train_extra", EXTRA, np.full((2, 4), 11))
    assert names(cityscapes(root=tmp_path, split="train")) == ["ulm_000000_000019"]
    assert cityscapes_coarse(root=tmp_path, split="train_extra").read(0)[1].tolist() == [[1] * 4] * 2
    assert cityscapes_autolabelled(root=tmp_path, split="train_extra").read(0)[1].tolist() == [[2] * 4] * 2


@pytest.fixture
def auto(tmp_path: Path) -> Path:
    """One image labelled by a net, the stray folder of the archive, and the coarse label by hand."""
    write_image(tmp_path, "train_extra", EXTRA)
    folder = tmp_path / "refinement_final_v0" / "train_extra"
    write_auto(folder, EXTRA, [[7, 26, 27, 0], [7, 26, 27, 28]], [[255, 229, 230, 255], [0, 127, 128, 255]])
    write(folder / "tmp" / f"{EXTRA}_leftImg8bit.png", [[33] * 4] * 2)
    write_label(tmp_path, "gtCoarse", "train_extra", EXTRA, [[28, 28, 0, 26], [0, 0, 0, 0]])
    return tmp_path


def label(root: Path, **options: Any) -> list[list[int]]:
    source = cityscapes_autolabelled(root=root, split="train_extra", **options)
    assert names(source) == [EXTRA]  # the stray copy is no sample
    read = source.read(0)[1]
    assert np.array_equal(read, source.read_label(0))  # what finds classes sees the label that is trained on
    return read.tolist()


def test_labels_of_a_net_and_their_threshold(auto: Path) -> None:
    assert label(auto) == [[0, 13, 14, 255], [0, 13, 14, 15]]
    assert label(auto, min_confidence=0.9) == [[0, 255, 14, 255], [255, 255, 255, 15]]
    assert label(auto, min_confidence=0.5) == [[0, 13, 14, 255], [255, 255, 14, 15]]


def test_window_and_classes_from_the_coarse_label(auto: Path) -> None:
    """A bus by hand counts however unsure the net is; a car by hand does not, as it is not asked for."""
    assert label(auto, coarse_classes=["truck", "bus"], min_confidence=0.9)[0] == [15, 15, 14, 255]
    assert label(auto, coarse_classes=["car"])[0] == [0, 13, 14, 13]
    assert label(auto, label_window=[0, 0, 1, 2]) == [[255, 13, 14, 255], [255] * 4]
    assert label(auto, label_window=[1, 839, 0, 2029])[1] == [0, 13, 14, 15]
    assert label(auto, label_window=[1, 1, 0, 3], coarse_classes=["bus"])[0] == [255] * 4


def test_own_labels_may_lie_anywhere(auto: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("own")
    write_auto(elsewhere, EXTRA, [[33] * 4] * 2)
    assert label(auto, label_dir=elsewhere) == [[18] * 4] * 2
    (auto / "refinement_final_v0").rename(auto / "autolabelled")
    assert label(auto)[0][0] == 0
    assert label(auto, label_dir="autolabelled")[0][0] == 0


def test_mistakes_around_labels_of_a_net(auto: Path) -> None:
    def complaint(**options: Any) -> str:
        with pytest.raises(UserError) as error:
            label(auto, **options)
        return str(error.value)

    assert "data.label_dir=leftImg8bit is the folder of the images" in complaint(label_dir="leftImg8bit")
    assert "unpack refinement_final_v0.zip" in complaint(label_dir="nowhere")
    assert "'lorry', which is not a class of Cityscapes" in complaint(coarse_classes=["lorry"])
    assert complaint(coarse_classes="buss").endswith("Did you mean 'bus'?")
    for window in ([15, 839], [839, 15, 0, 1], [0, 1, -1, 2], [0, 0.5, 0, 1]):
        assert f"data.label_window={window} must be [first row" in complaint(label_window=window)
    assert "data.min_confidence=1.5 must be a number above 0, at most 1" in complaint(min_confidence=1.5)
    write_label(auto, "gtCoarse", "train_extra", EXTRA, [[0]])
    assert "coarse label is 1x1 but its image is 4x2" in complaint(coarse_classes=["bus"])
    next(auto.glob("refinement*/train_extra/wurzburg/*_prob.png")).unlink()
    assert "map of confidence not found (1 of 1" in complaint(min_confidence=0.5)
    assert label(auto)
    next(auto.glob("refinement*/train_extra/wurzburg/*.png")).unlink()
    assert "unpack refinement_final_v0.zip completely, or set data.label_dir" in complaint()
    next(auto.glob("gtCoarse/*/*/*.png")).unlink()
    with pytest.raises(UserError, match=r"gtCoarse_labelIds\.png: label not found \(1 of 1 .*gtCoarse\.zip"):
        cityscapes_coarse(root=auto, split="train_extra")
    with pytest.raises(UserError, match=r"leftImg8bit/train: .*leftImg8bit_trainvaltest\.zip"):
        cityscapes_autolabelled(root=auto, split="train")


def test_options_reach_the_labels_and_two_pools_mix(auto: Path) -> None:
    """As from the command line: fine images are one pool, those labelled by a net another."""
    write_fine(auto, {"train": "ulm", "val": "lindau"})
    changes = ["min_confidence=0.5", "label_window=[0,0,0,3]", "coarse_classes=[bus]", f"root={auto}"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["data=cityscapes_autolabelled", *(f"data.{item}" for item in changes), "run_dir=x"])
    source = from_config.build_datamodule(cfg).train_dataset.source
    assert names(source) == ["ulm_000000_000019", EXTRA]
    assert source.read(0)[1].tolist() == [[0] * 4] * 2
    assert source.read(1)[1].tolist() == [[15, 15, 14, 255], [255] * 4]
