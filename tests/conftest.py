"""Shared fixtures: threads, the sample folder, a tracker that is off unless a test asks for it."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch):
    monkeypatch.setenv("FVQT_TRACK", "0")


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The sample media and asset mirror; tests that need it skip with a reason where it is absent."""
    folder = Path(os.environ.get("FVQT_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no sample folder at {folder} (set FVQT_SHARED)")
    return folder
