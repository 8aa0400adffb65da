"""Asked for, torch is deterministic inside and as before afterwards."""

from __future__ import annotations

import logging
import os

import pytest
import torch

from sft_research.determinism import _price, asked_for


def test_it_holds_inside_and_not_after(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLASH_ATTENTION_DETERMINISTIC", "0")  # somebody's own wish
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with caplog.at_level(logging.INFO), asked_for(True):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert not torch.backends.cudnn.benchmark
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
            assert os.environ["FLASH_ATTENTION_DETERMINISTIC"] == "0"
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
    with asked_for(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert os.environ["FLASH_ATTENTION_DETERMINISTIC"] == "0"
    assert caplog.messages == [_price(torch.cuda.is_available())]


def test_not_asked_for_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), asked_for(False):
        assert not torch.are_deterministic_algorithms_enabled()
    assert caplog.messages == []


def test_the_price_is_said_of_the_device() -> None:
    assert _price(False).endswith("at no cost.")
    assert "costs speed; compare train/tokens_per_second with deterministic=false" in _price(True)
