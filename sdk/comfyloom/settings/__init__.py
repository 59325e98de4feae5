"""Settings, from arguments, environment variables, pyproject.toml or a credentials file."""

from comfyloom.settings.comfyui import ComfyUISettings
from comfyloom.settings.declaration import (
    LONGEST_DURATION_S,
    Auth,
    ClientCert,
    Headers,
    Plan,
    Prices,
    ServerTypes,
    Verify,
    are_words,
    is_http_url,
    is_word,
    to_seconds,
    to_server_types,
)
from comfyloom.settings.given import Given
from comfyloom.settings.model import (
    DEFAULT_BASE_URL,
    DEFAULT_SERVER_TYPE,
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
    "ServerTypes",
    "Settings",
    "SettingsLoader",
    "Verify",
    "are_words",
    "is_http_url",
    "is_word",
    "load_comfyui_settings",
    "project_folder",
    "to_seconds",
    "to_server_types",
]
