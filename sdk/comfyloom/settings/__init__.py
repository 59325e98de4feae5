"""Settings, from arguments, environment variables, pyproject.toml or a credentials file."""

from comfyloom.settings.comfyui import ComfyUISettings
from comfyloom.settings.declaration import (
    LONGEST_DURATION_S,
    Auth,
    ClientCert,
    Headers,
    Plan,
    Prices,
    Verify,
    is_http_url,
    is_word,
    to_seconds,
)
from comfyloom.settings.model import (
    DEFAULT_BASE_URL,
    DEFAULT_SERVER_TYPE,
    Given,
    Settings,
    SettingsLoader,
    load_comfyui_settings,
)
from comfyloom.settings.sources import project_folder

__all__ = [
    "Auth",
    "ClientCert",
    "ComfyUISettings",
    "DEFAULT_BASE_URL",
    "DEFAULT_SERVER_TYPE",
    "Given",
    "Headers",
    "LONGEST_DURATION_S",
    "Plan",
    "Prices",
    "Settings",
    "SettingsLoader",
    "Verify",
    "is_http_url",
    "is_word",
    "load_comfyui_settings",
    "project_folder",
    "to_seconds",
]
