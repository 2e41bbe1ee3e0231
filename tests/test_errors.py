"""Errors that say that memory was full, and text that can be printed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch._utils import ExceptionWrapper

from src.errors import UserError, memory_full, out_of_memory, printable

TOO_MUCH = 2**46  # bytes; no machine has them


def _raised(make) -> BaseException:
    with pytest.raises(Exception) as caught:
        make()
    return caught.value


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.empty(TOO_MUCH, np.uint8),
        lambda: torch.empty(TOO_MUCH, dtype=torch.uint8),
        lambda: bytearray(TOO_MUCH),
    ],
)
def test_memory_that_cannot_be_had_is_told_apart_in_this_process_and_from_a_loading_one(make) -> None:
    error = _raised(make)
    assert out_of_memory(error)
    assert memory_full(error).startswith("main memory is full")
    try:
        make()
    except Exception:
        handed = ExceptionWrapper(where="in DataLoader worker process 0")
    again = _raised(handed.reraise)
    assert out_of_memory(again)
    assert "\n" not in memory_full(again) and "Traceback" not in memory_full(again)
    assert "data.batch_size" in memory_full(again) and "huge.pixels" in memory_full(again)


def test_what_was_asked_for_is_said() -> None:
    error = _raised(lambda: torch.empty(TOO_MUCH, dtype=torch.uint8))
    assert "another 70,368,744.2 MB could not be allocated" in memory_full(error)
    assert memory_full(MemoryError("a.png: no room for 7000x7000 pixels")).startswith(
        "main memory is full: a.png: no room for 7000x7000 pixels; "
    )


def test_openvcs_insufficient_memory_counts_and_its_other_errors_do_not() -> None:
    full = cv2.error("OpenCV(5) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 147000000 bytes")
    assert out_of_memory(full)
    assert "another 147.0 MB" in memory_full(full)
    assert not out_of_memory(_raised(lambda: cv2.imdecode(np.empty(0, np.uint8), 1)))


@pytest.mark.parametrize(
    "error",
    [
        UserError("Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
        ValueError("no"),
        OSError(28, "full"),
    ],
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not out_of_memory(error)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\udcffb.png", r"a\xffb.png"),
        ("a\nb\t", r"a\nb\t"),
        ("Straße 北京.png", "Straße 北京.png"),
        ("\x1b[31m", r"\x1b[31m"),
    ],
)
def test_any_name_can_be_printed_on_one_line(name: str, shown: str) -> None:
    assert printable(name) == shown
