"""Any net of segmentation_models_pytorch (github.com/qubvel-org/segmentation_models.pytorch) behind this project's
contract. The package is optional; its nets stay as they are, and so do the names of their tensors.

Deviations: images are padded with zeros at the right and at the bottom to a size that the net can take, and outputs are
cropped. A head of the package ends with its last upsampling, so ``logits`` have the image's size in ``decode`` already.
Parameters that no output depends on (stages of the encoder behind the last that is read) are not trained.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError, nearest
from ..files.project import pip_install
from ..hub.network import hub_without_retries
from ..schema.faults import checked
from ..schema.types import Channels, Count
from .checks import check_choice, check_pooled
from .net import Net

__all__ = ["SMP"]

POOLED = ("deeplabv3", "deeplabv3plus", "pan", "upernet")  # decoders that norm a map pooled to one pixel
OWN = ("activation", "aux_params", "classes", "encoder_name", "encoder_weights", "in_channels")  # no options
TRIAL = 128  # pixels a side


class SMP(Net):
    """A net of segmentation_models_pytorch.

    Args:
        num_classes: K, see ``Net``.
        arch: name of the net in lower case, such as ``unet``, ``fpn``, ``deeplabv3plus``, ``segformer``; ``dpt`` takes
            timm's vision transformers.
        encoder: name of its trunk: one of the package's, or ``tu-`` and one of timm's.
        encoder_weights: weights that the package knows for the encoder, such as ``imagenet``; ``True`` for timm's
            encoders; ``None`` for none.
        in_channels: channels of the image.
        options: other arguments of the net's constructor in the package, which documents them.

    Raises:
        UserError: if the package is missing, for unknown names and options, for weights that cannot be loaded, and for
            parts that do not run together.
    """

    encoder: Any  # the package's parts
    decoder: Any
    segmentation_head: Any

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        arch: str = "unet",
        encoder: str = "resnet34",
        encoder_weights: str | bool | None = None,
        in_channels: Channels = 3,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        common = {"encoder_weights": encoder_weights or None, "in_channels": in_channels, "classes": num_classes}
        net = _create(arch, encoder, common, dict(options or {}))
        self.arch, self.multiple = arch, net.encoder.output_stride
        if arch == "dpt":  # resizes the transformer's grid to strides 4 to 32
            self.multiple = math.lcm(self.multiple, 32)
        self.least = 128 if arch == "pan" else 0  # pools three times at stride 16
        self.encoder, self.decoder, self.segmentation_head = net.encoder, net.decoder, net.segmentation_head
        try:
            self._learn_from_a_trial()
        except Exception as error:
            raise UserError(
                f"smp cannot run {arch} with encoder {encoder} ({_line(error)}); choose another encoder or other"
                " options"
            ) from error

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """See ``Net``; ``features`` are what the segmentation head reads.

        Raises:
            UserError: for a wrong image, and in training on one image if the decoder norms a map of one pixel.
        """
        self.check(image)
        if self.training and self.arch in POOLED:
            for norm in (part for part in self.decoder.modules() if isinstance(part, nn.BatchNorm2d)):
                check_pooled(norm, image)
        height, width = image.shape[-2:]
        features, logits = self._run(image)
        rows, columns = ((side - 1) // self.feature_stride + 1 for side in (height, width))
        return {"features": _crop(features, rows, columns), "logits": _crop(logits, height, width)}

    def _run(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of the padded image."""
        height, width = image.shape[-2:]
        bottom, right = (max(side, self.least) if self.least else side for side in (height, width))
        bottom, right = (((side - 1) // self.multiple + 1) * self.multiple for side in (bottom, right))
        stages = self.encoder(F.pad(image, (0, right - width, 0, bottom - height)))
        features = self.decoder(*stages) if self.arch == "dpt" else self.decoder(stages)  # dpt: and prefix tokens
        return features, self.segmentation_head(features)

    @torch.enable_grad()
    def _learn_from_a_trial(self) -> None:
        """What cannot be asked for: the features' width and stride, and which parameters the logits depend on."""
        parameters = list(self.parameters())
        image = torch.zeros(1, self.in_channels, TRIAL, TRIAL, device=parameters[0].device)
        features, logits = self.eval()._run(image)
        self.train()
        self.feature_channels, self.feature_stride = features.shape[1], logits.shape[-1] // features.shape[-1]
        gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)


def _crop(x: Tensor, height: int, width: int) -> Tensor:
    if torch.compiler.is_exporting():  # the exporter cannot prove that a slice ends inside the padded map
        return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))
    return x[..., :height, :width]


def _create(arch: str, encoder: str, common: Mapping[str, Any], options: dict[str, Any]) -> Any:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise UserError(
            "smp nets need an optional package; install it with:"
            f" {pip_install('smp', 'segmentation-models-pytorch==0.6.0')}"
        ) from error
    check_choice("arch", arch, list(smp.MODEL_ARCHITECTURES_MAPPING))
    _check_encoder(encoder, smp.encoders.get_encoder_names())
    _check_options(options, smp.MODEL_ARCHITECTURES_MAPPING[arch], timm=encoder.startswith("tu-"))
    if arch == "dpt":
        options.setdefault("dynamic_img_size", True)
    weights = common["encoder_weights"]
    try:
        with warnings.catch_warnings(), hub_without_retries():
            warnings.simplefilter("ignore")  # deprecated names
            net: Any = smp.create_model(arch, encoder, **common, **options)
            if weights is not None and not encoder.startswith("tu-"):
                net.encoder.pretrained_cfg = smp.encoders.get_preprocessing_params(encoder, weights)  # as timm's have
    except Exception as error:
        remedy = "" if weights is None else ", or start without weights with model.net.encoder_weights=null"
        raise UserError(
            f"smp cannot make {arch} with encoder {encoder} ({_line(error)}); choose another encoder or other"
            f" options{remedy}"
        ) from error
    return net


def _check_encoder(encoder: str, names: list[str]) -> None:
    import timm

    if not (timm.is_model(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else encoder in names):
        known = [*names, *(f"tu-{name}" for name in timm.list_models())]
        raise UserError(
            f"encoder '{encoder}' is unknown; use one of segmentation_models_pytorch, or tu-<name> for one of timm."
            f"{nearest(encoder, known)}"
        )


def _check_options(options: Mapping[str, Any], net: type[nn.Module], *, timm: bool) -> None:
    """Options that the package would drop in silence are refused; encoders of timm check their own."""
    known = [name for name in inspect.signature(net.__init__).parameters if name not in (*OWN, "self", "kwargs")]
    for name in options:
        if name in OWN or (name not in known and not timm):
            raise UserError(
                f"options of smp contain '{name}'; {net.__name__} has {', '.join(known)}.{nearest(name, known)}"
            )


def _line(error: Exception) -> str:
    lines = str(error.args[0] if error.args else "").strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
