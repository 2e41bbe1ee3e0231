"""ONNX files as a stranger may have written them: what is no file of ``src.export`` ends in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.exporting import runner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
UINT8, FLOAT = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
SHAPE = [None, 3, None, None]


def _file(path: Path, *, elsewhere: str | None = None, **ends: tuple[str, int, list[int | None]]) -> Path:
    """A graph that adds one; with ``elsewhere``, what it adds lies in that file, named within a node."""
    one = onnx.numpy_helper.from_array(np.ones(1, np.uint8), "one")
    if elsewhere is not None:
        one.ClearField("raw_data")
        one.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": elsewhere, "length": "1"}.items():
            one.external_data.add(key=key, value=value)
    inputs = onnx.helper.make_tensor_value_info(*ends.get("taken", ("image", UINT8, SHAPE)))
    outputs = onnx.helper.make_tensor_value_info(*ends.get("given", ("label", UINT8, SHAPE)))
    steps = [
        onnx.helper.make_node("Constant", [], ["one"], value=one),
        onnx.helper.make_node("BitwiseOr", [inputs.name, "one"], [outputs.name]),
    ]
    graph = onnx.helper.make_graph(steps, "net", [inputs], [outputs])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_graph_of_images_and_labels_runs(tmp_path: Path) -> None:
    run = runner(_file(tmp_path / "net.onnx"), file_format="onnx")
    assert np.array_equal(run(np.zeros((1, 3, 4, 4), np.uint8))[0], np.ones((1, 3, 4, 4), np.uint8))


def _refused(path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        runner(path, file_format="onnx")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\0" * 1000, b"\x89PNG\r\n" * 99, b"\x80\x04cos\nsystem\n"])
def test_what_is_no_onnx_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    _refused(path, "no ONNX file|cannot be run")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = _file(tmp_path / "net.onnx")
    whole = path.read_bytes()
    for length in range(1, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        _refused(path, "no ONNX file|cannot be run|takes and gives")


@pytest.mark.parametrize("elsewhere", ["../secret.bin", "weights.bin", "/etc/hostname", ""])
def test_weights_in_other_files_are_not_read(elsewhere: str, tmp_path: Path) -> None:
    for name in ("secret.bin", "sub/weights.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x07")
    _refused(_file(tmp_path / "sub/net.onnx", elsewhere=elsewhere), "names other files")


@pytest.mark.parametrize(
    "ends",
    [
        {"taken": ("picture", UINT8, SHAPE)},
        {"taken": ("image", UINT8, [None, 3])},
        {"given": ("mask", UINT8, SHAPE)},
    ],
)
def test_other_inputs_and_outputs_are_named(ends: dict, tmp_path: Path) -> None:
    _refused(_file(tmp_path / "net.onnx", **ends), "takes and gives")


def test_pipes_and_missing_files_are_named(tmp_path: Path) -> None:
    _refused(tmp_path / "net.onnx", "is not there")
    _refused(tmp_path, "is no regular file")
