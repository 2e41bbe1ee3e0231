"""Files of every source project become checkpoints that are scored and used with no further option."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import save_file

from src.build import from_checkpoint
from src.build.config_values import with_values
from src.checkpoints.identify import identify, renamed, source_named, translate
from src.checkpoints.io import METADATA_KEY
from src.checkpoints.projects.catalogue import SOURCES
from src.cli.prepare import convert as prepare_convert
from src.cli.prepare import evaluate as prepare_evaluate
from src.cli.prepare import predict as prepare_predict
from src.commands import convert, evaluate, predict
from src.data.sets.cityscapes import TRAIN_ID_TO_RAW_ID
from src.errors import UserError
from src.models.normalize import Normalize
from tests.conftest import ROOT
from tests.models.parity import GOLDEN, LIMIT, Reference, deviation
from tests.models.test_parity import BY_NAME, REFERENCES
from tests.models.test_parity_scales import SCALES
from tests.reference_fill import fill, load_keys, make_input

Convert = Callable[..., Path]
SIZE = (64, 96)
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # red, green, blue, of 255
EXPECTED = {  # source -> what is done to a picture (H,W,3) of red, green, blue, 0..255
    "coincheung": lambda rgb: (rgb / 255 - (0.3257, 0.369, 0.3223)) / (0.2112, 0.2148, 0.2115),
    "ann": lambda rgb: rgb[..., ::-1] - (102.9801, 115.9465, 122.7717),
    "deeplab_pytorch": lambda rgb: rgb[..., ::-1] - (104.008, 116.669, 122.675),
    **dict.fromkeys(
        ("mmseg", "nvidia", "hrnet", "torchvision", "vainf", "smp"), lambda rgb: (rgb - IMAGENET[0]) / IMAGENET[1]
    ),
}


@pytest.fixture(autouse=True)
def _composer() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


@pytest.fixture
def run(tmp_path: Path) -> Convert:
    """Calls ``src.convert`` as from the command line; returns the checkpoint."""

    def call(ckpt: Path, *overrides: str) -> Path:
        given = [f"ckpt={ckpt}", f"out={tmp_path / 'ours.ckpt'}", *overrides]
        root, prepared = prepare_convert(given)
        return convert.convert(compose(root, overrides=prepared))

    return call


def _theirs(name: str, path: Path, *, key: str | None = "state_dict") -> Path:
    state = load_keys(GOLDEN / "keys" / f"{name}.json")
    fill(state)
    torch.save({key: dict(state), "epoch": 3} if key else dict(state), path)
    return path


@pytest.fixture(scope="module")
def bisenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _theirs("bisenetv1_coincheung", tmp_path_factory.mktemp("theirs") / "theirs.pth", key=None)


def _picture() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


DEEPLABS = (("torchvision", "resnet50"), ("vainf", "resnet101"), ("mmseg", "r101d8"))


def test_only_converted_checkpoints_are_replaced(run: Convert, bisenet: Path, tmp_path: Path) -> None:
    given = ["model=bisenetv1", "data=cityscapes"]
    ours = run(bisenet, *given)
    assert run(bisenet, *given) == ours
    for out, words in ((bisenet, r"must end in \.ckpt"), (bisenet.with_suffix(".ckpt"), "is an input")):
        out.exists() or out.symlink_to(bisenet)
        with pytest.raises(UserError, match=words):
            run(bisenet, *given, f"out={out}")
    content = torch.load(ours, weights_only=True)
    del content[METADATA_KEY]["config"]["converted"]  # as src.train leaves it
    torch.save(content, tmp_path / "best.ckpt")
    before = (tmp_path / "best.ckpt").read_bytes()
    with pytest.raises(UserError, match=r"best\.ckpt: is a checkpoint that src\.convert did not write"):
        run(bisenet, *given, f"out={tmp_path / 'best.ckpt'}")
    assert (tmp_path / "best.ckpt").read_bytes() == before


# --- every project ----------------------------------------------------------------------------------------------------

LARGE = pytest.mark.slow
CASES = [
    pytest.param("coincheung", BY_NAME["bisenetv1_coincheung"], None, "cityscapes"),
    pytest.param("vainf", BY_NAME["vainf_deeplabv3plus_mobilenet"], "model_state", "cityscapes", marks=LARGE),
    pytest.param("mmseg", BY_NAME["mmseg_bisenetv2"], "state_dict", "cityscapes", marks=LARGE),
    pytest.param("torchvision", BY_NAME["torchvision_fcn_resnet50"], None, "voc", marks=LARGE),
    pytest.param("smp", BY_NAME["smp_fpn_resnet34"], None, "cityscapes", marks=LARGE),
    pytest.param("deeplab_pytorch", BY_NAME["kazuto_deeplabv2_r101_msc"], None, "voc", marks=LARGE),
    pytest.param("ann", BY_NAME["ann_r101_mendelxu"], "state_dict", "cityscapes", marks=LARGE),
    pytest.param("hrnet", BY_NAME["hrnet_w48"], None, "cityscapes", marks=LARGE),
    pytest.param("nvidia", SCALES[2], "state_dict", "cityscapes", marks=LARGE),
]


@pytest.mark.parametrize(("source", "reference", "key", "data"), CASES)
def test_convert_evaluate_predict(
    source: str,
    reference: Reference,
    key: str | None,
    data: str,
    tmp_path: Path,
    run: Convert,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = _theirs(reference.keys or reference.name, tmp_path / "theirs.pth", key=key)
    own = [each for each in reference.overrides if not each.startswith("model.scales")]  # the protocol sets these
    ours = run(theirs, f"model={reference.config}", *own, f"source={source}")
    theirs.unlink()
    picture, label = WRITE[data](tmp_path / "data")
    loaded, load = [], from_checkpoint.load_module
    monkeypatch.setattr(
        from_checkpoint, "load_module", lambda *args, **named: loaded.append(load(*args, **named)) or loaded[-1]
    )
    labels = _predict(ours, tmp_path)
    assert labels.shape == SIZE
    assert _evaluate(ours, tmp_path) == pytest.approx(_miou(label, labels), abs=1e-6)
    ours.unlink()

    module = loaded[0]
    arrays = np.load(GOLDEN / "logits" / f"{reference.name}.npz")
    image = make_input(int(arrays["height"]), int(arrays["width"]), int(arrays["seed"]))
    with torch.no_grad():
        outputs = module.net(image) if reference.full_size else module.net.decode(image)
    assert deviation(reference, outputs, "logits") < LIMIT

    batch = torch.from_numpy(picture).permute(2, 0, 1)[None]
    seen = module.normalize(batch)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(seen, EXPECTED[source](picture.astype(np.float64)), rtol=1e-5, atol=2e-4)
    np.testing.assert_array_equal(labels, module.predict_label(batch)[0])


def _cityscapes(root: Path) -> tuple[np.ndarray, np.ndarray]:
    label = np.random.default_rng(6).integers(0, 19, SIZE, dtype=np.uint8)
    for folder, ending, array in (
        ("leftImg8bit", "leftImg8bit", _picture()[..., ::-1]),
        ("gtFine", "gtFine_labelIds", np.array(TRAIN_ID_TO_RAW_ID, np.uint8)[label]),
    ):
        (root / folder / "val/ulm").mkdir(parents=True)
        cv2.imwrite(str(root / folder / f"val/ulm/ulm_0_0_{ending}.png"), array)
    return _picture(), label


def _voc(root: Path) -> tuple[np.ndarray, np.ndarray]:
    kit = root / "VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (kit / folder).mkdir(parents=True)
    (kit / "ImageSets/Segmentation/val.txt").write_text("a\n")
    cv2.imwrite(str(kit / "JPEGImages/a.jpg"), _picture()[..., ::-1])
    label = np.random.default_rng(6).integers(0, 21, SIZE, dtype=np.uint8)
    Image.fromarray(label, "L").save(kit / "SegmentationClass/a.png")
    return cv2.imread(str(kit / "JPEGImages/a.jpg"))[..., ::-1].copy(), label


WRITE = {"cityscapes": _cityscapes, "voc": _voc}


def _evaluate(ckpt: Path, folder: Path) -> float:
    options = [f"run_dir={folder / 'scores'}", "trainer=cpu", "boundary=false", "bootstrap=0", "data.num_workers=0"]
    root, given = prepare_evaluate([f"ckpt={ckpt}", f"data.root={folder / 'data'}", *options])
    return evaluate.evaluate(compose(root, overrides=given))


def _predict(ckpt: Path, folder: Path) -> np.ndarray:
    out, images = folder / "predicted", folder / "data"
    images = images / ("leftImg8bit" if (images / "leftImg8bit").is_dir() else "VOCdevkit/VOC2012/JPEGImages")
    root, given = prepare_predict([f"ckpt={ckpt}", f"source={images}", f"out={out}", "save=[index]", "device=cpu"])
    assert predict.predict(compose(root, overrides=given)) == 1
    return np.array(Image.open(next(out.rglob("*.png"))))


def _miou(label: np.ndarray, predicted: np.ndarray) -> float:
    both = [
        ((label == k) & (predicted == k)).sum() / either
        for k in range(21)
        if (either := ((label == k) | (predicted == k)).sum())
    ]
    return float(np.mean(both))


@pytest.mark.parametrize("source", SOURCES)
def test_images_reach_the_net_as_the_project_prepared_them(source: str) -> None:
    statistics = SOURCES[source].statistics_for("cityscapes")
    normalize = Normalize(statistics.mean, statistics.std, channel_order=statistics.channel_order)
    seen = normalize(torch.from_numpy(_picture()).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(seen, EXPECTED[source](_picture().astype(np.float64)), rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_channels_are_turned_in_either_layout(memory_format: torch.memory_format) -> None:
    image = torch.arange(6, dtype=torch.uint8).view(1, 3, 1, 2)
    seen = Normalize([0.0] * 3, [1 / 255] * 3, channel_order="bgr", memory_format=memory_format)(image)
    assert seen.flatten().tolist() == pytest.approx([4, 5, 2, 3, 0, 1])
    assert image.flatten().tolist() == list(range(6))


def test_an_unknown_channel_order() -> None:
    with pytest.raises(UserError, match=r"data\.channel_order=brg is unknown; use rgb or bgr"):
        Normalize([0.5] * 3, [0.5] * 3, channel_order="brg")


def _source_of(reference: Reference) -> str:
    """The project, as ``SOURCES`` names it, whose rules a reference has."""
    rules = importlib.import_module(f"src.checkpoints.projects.{reference.rules}").RULES
    return next(name for name, source in SOURCES.items() if source.rules is rules)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("BiSeNetV2", name) for name in ("bisenetv2_coincheung", "mmseg_bisenetv2")),
        *(("DilatedFCN", name) for name in ("torchvision_fcn_resnet50", "mmseg_fcn_r101d8", "hrnet_w48")),
        *(("ANN", name) for name in ("ann_r101_mendelxu", "mmseg_ann_r50d8")),
        *(("DeepLabV3", f"{project}_deeplabv3_{rest}") for project, rest in DEEPLABS),
        *(("DeepLabV3Plus", f"vainf_deeplabv3plus_{trunk}") for trunk in ("mobilenet", "xception")),
        ("DeepLabV3Plus", "mmseg_deeplabv3plus_r101d8"),
        *(("OCRNet", name) for name in ("nvidia_hrnet_ocrnet", "hrnet_w48_ocr", "mmseg_ocrnet_hr48")),
    ],
)
def test_names_alone_tell_projects_with_the_same_net_apart(kind: str, name: str) -> None:
    reference = BY_NAME[name]
    state = load_keys(GOLDEN / f"keys/{name}.json")
    source = _source_of(reference)
    ours = list(renamed(state, SOURCES[source].rules[kind]))
    assert identify(state, kind, ours, named=None, model=reference.config, where="x") == source


def test_a_source_with_the_same_trunk_is_told_apart() -> None:
    state = load_keys(GOLDEN / "keys/torchvision_deeplabv3_resnet50.json")
    ours = list(renamed(state, SOURCES["torchvision"].rules["DeepLabV3"]))
    with pytest.raises(UserError, match=r"x: is not of source=vainf, .* source=torchvision; set that"):
        identify(state, "DeepLabV3", ours, named="vainf", model="deeplab_v3_vainf", where="x")


def test_every_net_that_was_compared_is_a_model_of_its_source() -> None:
    compared = {(_source_of(each), " ".join([each.config, *each.overrides])) for each in REFERENCES}
    compared |= {(_source_of(SCALES[0]), SCALES[0].config)}
    assert compared == {(key, model) for key, source in SOURCES.items() for model in source.models}


def test_the_page_lists_every_source_and_model() -> None:
    page = (ROOT / "docs/published_weights.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    listed = [[each.strip("`") for each in row] for row in rows if len(row) == 4 and not row[0].startswith("`source=")]
    models = [(source, model) for source, model, *_ in listed if model != "rgb" and model != "bgr"]
    assert sorted(models) == sorted((key, model) for key, source in SOURCES.items() for model in source.models)
    data = {each for _, model, _, names in listed if model not in ("rgb", "bgr") for each in names.split(", ")}
    assert data - {"any"} <= {path.stem for path in (ROOT / "conf/data").glob("*.yaml")}


@pytest.mark.parametrize("name", ["deeplab-pytorch", "kazuto1011", "Kazuto1011/DeepLab-PyTorch", "deeplab_pytorch"])
def test_a_project_has_several_names(name: str) -> None:
    assert source_named(name) == "deeplab_pytorch"


# --- classes ----------------------------------------------------------------------------------------------------------


def test_outputs_that_stand_for_no_class_are_left_out(run: Convert, tmp_path: Path) -> None:
    """182 outputs, one for each value of a label file; value 11 is none of the 171 classes."""
    state = load_keys(GOLDEN / "keys/bisenetv1_coincheung.json")
    heads = [name for name in state if "conv_out.weight" in name and state[name].shape[0] == 19]
    assert len(heads) == 3
    for name in heads:
        for part in (name, name.replace("weight", "bias")):
            state[part] = (
                torch.arange(182.0).view(-1, *[1] * (state[part].ndim - 1)).expand(182, *state[part].shape[1:])
            )
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "theirs.pth")
    module = from_checkpoint.load_module(run(tmp_path / "theirs.pth", "model=bisenetv1"))
    assert module.label_space.num_classes == 171
    for head in (module.net.head, *module.net.aux_heads.values()):
        kept = head.classifier.bias.tolist()
        assert len(kept) == 171
        assert kept[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
        assert head.classifier.weight.flatten(1)[:, 0].tolist() == kept
    assert from_checkpoint.saved_config(tmp_path / "ours.ckpt").data.mean[0] == 0.46962251


def test_own_classes_own_statistics_own_protocol(run: Convert, bisenet: Path) -> None:
    names = [f"kind{i}" for i in range(19)]
    ours = run(bisenet, "model=bisenetv1", "data=folder", f"data.classes=[{','.join(names)}]", "statistics=given",
               "data.channel_order=bgr", "inference.flip=true")  # fmt: skip
    module = from_checkpoint.load_module(ours)
    assert list(module.label_space.names) == names
    assert module.normalize.channel_order == "bgr"
    assert module.normalize.mean.flatten().tolist() == pytest.approx([103.53, 116.28, 123.675])
    assert module.inference.flip


@pytest.mark.parametrize(
    ("data", "sides"),
    [("cityscapes", (None, None)), ("ade20k", (512, 2048)), ("voc_aug", (512, 2048)), ("pascal_context", (None, 520))],
)
def test_images_are_seen_at_the_size_of_the_projects_figure(data: str, sides: tuple[int | None, int | None]) -> None:
    cfg = compose("convert", overrides=[f"data={data}", "model=fcn_mmseg", "ckpt=x", "out=y"])
    cfg = with_values(cfg, convert._protocol(cfg, SOURCES["mmseg"]))
    assert (cfg.inference.short_side, cfg.inference.long_side) == sides


def test_counters_and_loss_tables_are_all_that_may_differ() -> None:
    state = load_keys(GOLDEN / "keys/bisenetv1_coincheung.json")
    rules = SOURCES["coincheung"].rules["BiSeNetV1"]
    shapes = {name: tensor.shape for name, tensor in renamed(state, rules).items()}
    bare = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(bare) < len(state)
    given = translate({**bare, "loss.criterion.weight": torch.ones(19)}, rules, shapes)
    assert {name: tensor.shape for name, tensor in given.items()} == shapes
    with pytest.raises(UserError, match="1 unexpected: extra"):
        translate({**state, "extra": torch.ones(1)}, rules, shapes)
    with pytest.raises(UserError, match=r"1 missing: head\.classifier\.bias"):
        translate({name: t for name, t in state.items() if name != "conv_out.conv_out.bias"}, rules, shapes)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], r"model is not set; give it as model=NAME"),
        (["model=bisenetv1", "source=coincheng"], "source=coincheng is unknown; use coincheung, mmseg"),
        (["model=bisenetv1", "source=torchvision"], "source=torchvision has no net like model=bisenetv1; its models"),
        (["model=bisenetv2_coincheung", "source=mmseg"], "is no file of source=mmseg for model=bisenetv2_coincheung"),
        (["model=fcn_torchvision"], "is no file of any known project for model=fcn_torchvision"),
        (["model=bisenetv1", "data=voc"], "its net has 19 classes, but data=voc has 21; .* such as data=cityscapes"),
        (["model=bisenetv1", "data=mapillary"], "such as data=cityscapes"),
        (["model=bisenetv1", "data=folder", "data.classes=[a,b]"], "its net has 19 classes, but data=folder has 2"),
        (["model=bisenetv1", "data=folder", "data.root=nowhere"], "nowhere: holds no classes.txt; .*data.classes="),
        (["model=bisenetv1", "model.net.backbone.name=resnet34"], "CoinCheung/BiSeNet's: .* missing: backbone"),
    ],
)  # fmt: skip
def test_a_misfit_ends_in_one_line(overrides: list[str], words: str, run: Convert, bisenet: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        run(bisenet, *overrides)
    assert "\n" not in str(caught.value)


def test_another_projects_names_are_recognised(run: Convert, tmp_path: Path) -> None:
    theirs = _theirs("bisenetv2_coincheung", tmp_path / "theirs.pth")
    with pytest.raises(UserError, match=r"is not of source=mmseg, .* names of source=coincheung; set that"):
        run(theirs, "model=bisenetv2_mmseg", "source=mmseg")


class _Harmless:
    """Something that weights only do not know."""


class _Harmful:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("harmed",)


def _broken_files(folder: Path) -> dict[str, bytes]:
    torch.save({"a": torch.zeros(1000)}, folder / "new.pth")
    torch.save({"a": torch.zeros(1000)}, folder / "old.pth", _use_new_zipfile_serialization=False)
    new, old = (folder / "new.pth").read_bytes(), (folder / "old.pth").read_bytes()
    files = {"half": new[: len(new) // 2], "half of old": old[: len(old) // 2], "nearly nothing": old[:40]}
    return files | {
        "page": b"\n<!DOCTYPE html><html>Virus scan warning</html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        "empty": b"",
        "noise": b"weights" * 9,
        "list": pickle.dumps([1, 2]),
        "folder.safetensors": b"nothing",
    }


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("half", "ends too early, after .* bytes; copy or download it again"),
        ("half of old", "cut short or of another format, so copy or download it again"),
        ("nearly nothing", "cut short or of another format"),
        ("page", "is a web page"),
        ("pointer", "git lfs pull"),
        ("empty", "ends too early, after 0 bytes"),
        ("noise", "of another format"),
        ("list", "another format|not a checkpoint"),
        ("folder.safetensors", "cannot be read as safetensors"),
    ],
)
def test_what_is_no_checkpoint_ends_in_one_line(kind: str, words: str, run: Convert, tmp_path: Path) -> None:
    path = tmp_path / kind
    path.write_bytes(_broken_files(tmp_path)[kind])
    with pytest.raises(UserError, match=words) as caught:
        run(path, "model=bisenetv1")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_in_a_file_does_not_run(run: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "meta": _Harmful()}, "theirs.pth")
    with pytest.raises(UserError, match=r"Python objects beside weights \(posix\.mkdir\).* unsafe_pickle=true"):
        run(Path("theirs.pth"), "model=bisenetv1")
    assert not Path("harmed").exists()


def test_objects_are_read_on_demand_only(run: Convert, bisenet: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": torch.load(bisenet), "meta": _Harmless()}, tmp_path / "theirs.pth")
    with pytest.raises(UserError, match=r"test_convert\._Harmless"):
        run(tmp_path / "theirs.pth", "model=bisenetv1")
    assert run(tmp_path / "theirs.pth", "model=bisenetv1", "unsafe_pickle=true").is_file()


def test_scores_beside_weights_and_prefixes_and_old_formats_are_fine(
    run: Convert, bisenet: Path, tmp_path: Path
) -> None:
    state = {f"module.{name}": tensor for name, tensor in torch.load(bisenet).items()}
    content = {"model_state": state, "best_score": np.float64(0.7), "epoch": np.int64(3)}
    torch.save(content, tmp_path / "theirs.pth", _use_new_zipfile_serialization=False)
    ours = run(tmp_path / "theirs.pth", "model=bisenetv1")
    with pytest.raises(UserError, match="is a checkpoint of this project already"):
        run(ours, "model=bisenetv1")
    with pytest.raises(UserError, match=r"theirs\.pth: is not a checkpoint of this project .* src\.convert"):
        from_checkpoint.saved_config(tmp_path / "theirs.pth")


def test_a_folder_of_a_model_hub(run: Convert, bisenet: Path, tmp_path: Path) -> None:
    save_file(torch.load(bisenet), tmp_path / "model.safetensors")
    config = from_checkpoint.saved_config(run(tmp_path, "model=bisenetv1"))
    assert config.converted.project == "CoinCheung/BiSeNet"
    assert OmegaConf.select(config, "data.channel_order") == "rgb"
