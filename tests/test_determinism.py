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
    for name in ("CUBLAS_WORKSPACE_CONFIG", "FLASH_ATTENTION_DETERMINISTIC"):
        monkeypatch.delenv(name, raising=False)
    with caplog.at_level(logging.INFO), asked_for(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert caplog.messages == [_price(torch.cuda.is_available())]


def test_not_asked_for_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), asked_for(False):
        assert not torch.are_deterministic_algorithms_enabled()
    assert caplog.messages == []


def test_the_price_is_said_of_the_device() -> None:
    assert _price(False).endswith("at no cost.")
    assert "costs speed; compare train/tokens_per_second with deterministic=false" in _price(True)
