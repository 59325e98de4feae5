"""The options of one run, beside the values of its workflow."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypedDict, cast, get_args

import attrs

from comfyloom._core.json import mapping
from comfyloom._core.redact import register_secret
from comfyloom._core.suggestions import did_you_mean
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.ui_form import ui_form
from comfyloom.errors import ConfigError

PreviewMethod: TypeAlias = Literal["default", "none", "auto", "latent2rgb", "taesd"]

API_KEY: Final = "api_key_comfy_org"
_SECRETS: Final = (API_KEY, "auth_token_comfy_org")
_LAST: Final = 1e9
"""The number of a prompt that shall wait for all others; the server counts from 0."""
_LARGE: Final = 1 << 18
"""The length of a graph above which it is not sent a second time, with its values."""


class RunOptions(TypedDict, total=False):
    """Options of `run`, `submit` and `map`; all may be left out.

    Attributes:
        outputs: The names of the results that are wanted; only what they need runs, and the other
            fields of the result are None. By default all.
        keep_all: Whether nodes that no wanted result needs run as well; by default the setting.
        fresh: Whether the run may work a second time, and cost a second time, when the server has
            deleted a file that it still has in its cache.
        upload_name: The name under which the server gets an input file, where a node looks at it;
            with several file inputs, a name for each field. By default one of its content.
        front: Whether the run goes before all that wait.
        priority: Runs with a higher one go first; 0 is that of other programs.
        preview_method: How the server previews samplers, if it is new enough.
        targets: The ids of output nodes, the only ones to run; with `keep_all`, for example.
        extra_data: Further data for the nodes, such as `{"api_key_comfy_org": …}`.
    """

    outputs: Sequence[str] | None
    keep_all: bool | None
    fresh: bool
    upload_name: str | Mapping[str, str] | None
    front: bool
    priority: float
    preview_method: PreviewMethod | None
    targets: Sequence[str] | None
    extra_data: Mapping[str, Any] | None


def listed(value: object) -> Any:
    """Return what a value iterates over, so that it can be read twice; a string stays one."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return value
    return tuple(cast("Iterable[object]", value))


def is_list_of_names(value: object) -> bool:
    """Return whether a value is None or a list of strings."""
    if not isinstance(value, tuple):
        return value is None
    return all(isinstance(each, str) for each in cast("tuple[object, ...]", value))


@attrs.frozen(kw_only=True)
class PromptFields:
    """What a prompt is posted with, beside its graph and ids.

    Raises:
        ConfigError: A value is invalid; it lists all that are.
    """

    front: bool = False
    priority: float = 0.0
    preview_method: PreviewMethod | None = None
    targets: Sequence[str] | None = attrs.field(default=None, converter=listed)
    extra_data: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    api_key: str | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if problems := [*self._problems()]:
            raise ConfigError(problems=problems)
        for name in _SECRETS:
            register_secret(str(mapping(self.extra_data).get(name) or ""))

    def _problems(self) -> list[str]:
        found: list[str] = []
        methods = get_args(PreviewMethod)
        if self.preview_method not in (None, *methods):
            hint = did_you_mean(str(self.preview_method), methods)
            found.append(f"preview_method must be one of {', '.join(methods)}{hint}")
        given: dict[str, object] = {"front": self.front, "priority": self.priority}
        if not isinstance(given["front"], bool):
            found.append(f"front must be True or False, got {self.front!r}")
        if type(given["priority"]) not in (int, float) or not abs(self.priority) < _LAST:
            found.append(f"priority must be a number, got {self.priority!r}")
        elif self.front and self.priority:
            found.append("front and priority exclude each other")
        if not is_list_of_names(self.targets):
            found.append(f"targets must be a list of node ids, got {self.targets!r}")
        try:
            is_object = isinstance(json.loads(json.dumps(self.extra_data or {})), dict)
        except (TypeError, ValueError):
            is_object = False
        if not is_object:  # the value may contain a secret, so it is not shown
            found.append("extra_data must be a mapping that can be written as JSON")
        return found

    def check_targets(self, nodes: Collection[str]) -> None:
        """Refuse a target that does not run.

        Raises:
            ConfigError: A target is not one of the nodes.
        """
        for node in self.targets or ():
            if node not in nodes:
                hint = did_you_mean(str(node), tuple(nodes))
                raise ConfigError(f"targets: no node {node} runs{hint}")

    def body(self, view: GraphView) -> dict[str, Any]:
        """Return the fields for a graph."""
        body: dict[str, Any] = {"extra_data": self._extra_data(view)}
        if self.front:
            body["front"] = True
        if self.priority:
            body["number"] = -self.priority if self.priority > 0 else _LAST - self.priority
        if self.targets is not None:
            body["partial_execution_targets"] = list(self.targets)
        return body

    def _extra_data(self, view: GraphView) -> dict[str, Any]:
        given = dict(self.extra_data or {})
        extra: dict[str, Any] = {}
        if self.preview_method is not None:
            extra["preview_method"] = self.preview_method
        if self.api_key and _may_need_a_key(view):
            extra[API_KEY] = self.api_key
        values = (each for node in view.graph.values() for each in node["inputs"].values())
        length = sum(len(each) for each in values if isinstance(each, str))
        page = {"workflow": ui_form(view.graph, view.schemas, with_values=length <= _LARGE)}
        extra["extra_pnginfo"] = {**page, **mapping(given.pop("extra_pnginfo", None))}
        return {**extra, **given}


def _may_need_a_key(view: GraphView) -> bool:
    """Return whether a node may call a partner's service: others must not see the key in vain."""
    schemas = (view.schema_of(node) for node in view.graph)
    return any(schema is None or schema.is_partner for schema in schemas)
