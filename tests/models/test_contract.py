"""What every public net must do; a new net is one line in ``ARGUMENTS``."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from src import models
from src.errors import UserError
from src.ops import resize

NUM_CLASSES = 5
ARGUMENTS: dict[str, dict[str, object]] = {
    "BiSeNetV2": {"num_classes": NUM_CLASSES},
}
each_net = pytest.mark.parametrize("name", models.__all__)
odd_sizes = pytest.mark.parametrize("size", [(33, 47), (64, 96), (97, 130)], ids=str)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(models, name)(**ARGUMENTS[name])


@odd_sizes
@each_net
def test_training_outputs_are_finite_and_of_the_images_size(name: str, size: tuple[int, int]) -> None:
    outputs = build(name).train()(torch.randn(2, 3, *size))
    assert "logits" in outputs
    for key, logits in outputs.items():
        assert key == "logits" or key.startswith("aux_")
        assert logits.shape == (2, NUM_CLASSES, *size)
        assert logits.isfinite().all()


@odd_sizes
@each_net
def test_evaluation_gives_logits_alone_and_the_same_twice(name: str, size: tuple[int, int]) -> None:
    net = build(name).eval()
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        first, second = net(image), net(image)
    assert [key for key in first if key.startswith("aux_")] == []
    assert first["logits"].shape == (1, NUM_CLASSES, *size)
    assert torch.equal(first["logits"], second["logits"])


@each_net
def test_forward_is_decode_and_resize(name: str) -> None:
    net = build(name).eval()
    image = torch.randn(1, 3, 97, 130)
    with torch.no_grad():
        decoded, full = net.decode(image), net(image)
    assert decoded.keys() == full.keys()
    assert all(torch.equal(resize(decoded[key], (97, 130)), full[key]) for key in full)


@each_net
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    net = build(name).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        together = net(images)["logits"]
        alone = torch.cat([net(image[None])["logits"] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@each_net
def test_gradients_reach_every_parameter(name: str) -> None:
    net = build(name).train()
    outputs = net(torch.randn(2, 3, 64, 96))
    sum(logits.square().mean() for logits in outputs.values()).backward()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@each_net
def test_state_dict_survives_saving(name: str) -> None:
    net = build(name).eval()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = getattr(models, name)(**ARGUMENTS[name]).eval()
    image = torch.randn(1, 3, 64, 64)
    assert not torch.equal(net(image)["logits"], other(image)["logits"])
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(net(image)["logits"], other(image)["logits"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@each_net
def test_autocast_trains(name: str, dtype: torch.dtype) -> None:
    net = build(name).train()
    with torch.autocast("cpu", dtype):
        outputs = net(torch.randn(2, 3, 64, 64))
    assert all(logits.isfinite().all() for logits in outputs.values())
    sum(logits.float().mean() for logits in outputs.values()).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@each_net
def test_export_keeps_batch_and_size_free(name: str) -> None:
    net = build(name).eval()
    # from 33 pixels on: at 32 the coarsest map is 1x1, which the exporter treats as a case of its own
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=33), 3: torch.export.Dim("width", min=33)}
    program = torch.export.export(net, (torch.randn(2, 3, 96, 128),), dynamic_shapes={"image": free}).module()
    for shape in ((1, 3, 33, 47), (3, 3, 64, 130)):
        image = torch.randn(shape)
        torch.testing.assert_close(program(image)["logits"], net(image)["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(3, 64, 64), "3 dimensions"),
        (torch.zeros(1, 4, 64, 64), "4 channels"),
        (torch.zeros(0, 3, 64, 64), "empty batch"),
        (torch.zeros(1, 3, 31, 64), "31x64"),
        (torch.zeros(1, 3, 64, 31), "64x31"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "torch.uint8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@each_net
def test_wrong_images_are_refused_in_one_sentence(name: str, image: torch.Tensor, words: str) -> None:
    for call in (build(name).eval(), build(name).eval().decode):
        with pytest.raises(UserError) as caught:
            call(image)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
