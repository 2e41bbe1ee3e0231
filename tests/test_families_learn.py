"""Each family learns four real images by heart: heads, auxiliary losses and gradients belong together."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from src.build.from_config import build_net
from src.data.decoding import read_label
from src.inference import Inference
from src.losses import Supervision
from src.losses.cross_entropy import CrossEntropyLoss
from src.metrics import ConfusionMatrix, Scores
from src.ops.resize import resize
from tests.conftest import ROOT

# Images with few poles, which are one or two pixels wide here, shown twice as large to nets with logits at an eighth;
# as they are to those with finer logits, and larger to one whose upsampling is fixed.
IMAGES = ["test/Seq05VD_f01710", "test/Seq05VD_f04320", "train/0001TP_007110", "val/0016E5_08139"]
GOAL, STEPS, PEAK_RATE = 0.9, 180, 0.01
SHOWN = {"fcn8s": 3, "hrnet_ocr": 1, "smp": 1}
SMALL = "model.net.backbone.name=test_resnet"  # timm's smallest ResNet, 0.4 M parameters
AT_8 = [SMALL, "model.net.backbone.output_stride=8"]
SMALL_AUX = "model.net.aux_channels=32"
DEEPLAB = [*AT_8, "model.net.backbone.multi_grid=null", "model.net.aspp_channels=64"]
PLAIN_BLOCKS = ["model.net.backbone.stride_on_1x1=false", "model.net.reduced_labels=false"]
ANY_TRUNK = "{_target_: src.models.backbones.create_backbone, name: test_resnet, output_stride: 32}"
FAMILIES = {
    "fcn8s": ["~model.net.backbone", f"+model.net.backbone={ANY_TRUNK}", "model.net.pad_100=false"],
    "fcn_torchvision": [*AT_8, SMALL_AUX, "model.net.channels=[64]"],
    "deeplab_v1_kazuto": [*AT_8, *PLAIN_BLOCKS],
    "deeplab_v2": [*AT_8, *PLAIN_BLOCKS],
    "deeplab_v3": DEEPLAB,
    "deeplab_v3plus": [*DEEPLAB, "model.net.decoder_channels=[48]"],
    "pspnet": [*AT_8, SMALL_AUX, "model.net.channels=96", "model.net.pool_channels=16"],
    "nonlocal": [*AT_8, SMALL_AUX, "model.net.channels=80"],
    "ann": [
        *AT_8, SMALL_AUX, "model.net.channels=64", "model.net.key_channels=32", "model.net.value_channels=32",
    ],
    "hrnet_ocr": [
        "model.net.backbone.name=hrnet_w18_small", "model.net.mid_channels=64", "model.net.key_channels=32",
    ],
    "hierarchical": [
        "model=deeplab_v3plus", "model/scales=hierarchical", "model.scales.attention_channels=[32]",
        *DEEPLAB, "model.net.decoder_channels=[48]",
    ],
    "bisenetv1": [SMALL, "model.net.channels=64"],
    "smp": ["model.net.encoder=tu-test_resnet"],
}  # fmt: skip


@pytest.fixture(scope="module")
def images(camvid_mini: Path) -> tuple[Tensor, Tensor]:
    """(4,3,180,240) normalised floats, and labels (4,180,240) of 11 classes with 255 = ignore."""
    pictures, labels = [], []
    for name in IMAGES:
        folder, stem = name.split("/")
        pictures.append(cv2.imread(str(camvid_mini / folder / f"{stem}.png"))[..., ::-1].copy())
        labels.append(read_label(camvid_mini / f"{folder}annot" / f"{stem}.png"))
    image = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(255).sub_(0.45).div_(0.27)
    label = torch.from_numpy(np.stack(labels).astype(np.uint8))
    return image, label.where(label < 11, 255)


@pytest.mark.slow
@pytest.mark.parametrize("model", FAMILIES)
def test_four_real_images_are_learnt(model: str, images: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    family = FAMILIES[model] if model == "hierarchical" else [f"model={model}", *FAMILIES[model]]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=["data.num_classes=11", *family])
    net = build_net(cfg).to(memory_format=torch.channels_last)
    label = images[1]
    image = resize(images[0], [SHOWN.get(model, 2) * side for side in label.shape[1:]])
    image = image.contiguous(memory_format=torch.channels_last)
    counts = torch.bincount(label[label < 255].long(), minlength=11)
    supervision = Supervision(
        CrossEntropyLoss(class_weights=(counts.median() / counts).sqrt().tolist()),
        {name: weight for name, weight in (cfg.model.aux_weights or {}).items() if weight is not None},
    )
    optimizer = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=STEPS, pct_start=0.1)
    best = 0.0
    for step in range(1, STEPS + 1):
        outputs = {name: resize(logits, label.shape[1:]) for name, logits in net.train()(image).items()}
        optimizer.zero_grad()
        supervision(outputs, label)[0].backward()
        optimizer.step()
        schedule.step()
        if step >= STEPS // 2 and step % 15 == 0:
            best = max(best, _miou(net, image, label))
        if best >= GOAL:
            break
    assert best >= GOAL


def _miou(net: nn.Module, image: Tensor, label: Tensor) -> float:
    with torch.no_grad():
        scores = resize(Inference(multiple=1)(net.eval(), image), label.shape[1:])
    confusion = ConfusionMatrix(11)
    confusion.update(scores.argmax(1).to(torch.uint8), label)
    return Scores(confusion.compute()).miou
