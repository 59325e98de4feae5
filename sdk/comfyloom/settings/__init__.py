"""Settings: arguments before environment before pyproject.toml before a credentials file."""

from comfyloom.settings.fields import Plan, is_http_url, is_word, to_seconds
from comfyloom.settings.model import DEFAULT_BASE_URL, DEFAULT_SERVER_TYPE, Settings, SettingsLoader
from comfyloom.settings.sources import project_folder

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_SERVER_TYPE",
    "Plan",
    "Settings",
    "SettingsLoader",
    "is_http_url",
    "is_word",
    "project_folder",
    "to_seconds",
]
