"""Settings, from arguments, environment variables, pyproject.toml or a credentials file."""

from comfyloom.settings.declaration import (
    LONGEST_DURATION_S,
    Plan,
    Prices,
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
)
from comfyloom.settings.sources import project_folder

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_SERVER_TYPE",
    "Given",
    "LONGEST_DURATION_S",
    "Plan",
    "Prices",
    "Settings",
    "SettingsLoader",
    "is_http_url",
    "is_word",
    "project_folder",
    "to_seconds",
]
