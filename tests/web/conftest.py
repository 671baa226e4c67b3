"""A served triage with its own database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from triage import config, web

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Engine


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> config.Settings:
    monkeypatch.chdir(tmp_path)  # no triage.toml here
    return config.Settings(
        azure_devops=config.AzureDevOps(url="https://dev.azure.com/FabrikamFiber"),
        hook=config.Hook(password=SecretStr("open sesame"), header_value=SecretStr("knock knock")),
    )


@pytest.fixture
def client(settings: config.Settings, engine: Engine) -> TestClient:
    return TestClient(web.create_app(settings, engine))
