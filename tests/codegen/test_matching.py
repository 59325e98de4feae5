"""Nodes of a new export are matched with the nodes of the previous one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.reexports import (
    GRAPH,
    renumbered,
    titled,
)
from codegen.workspace import MakeWorkspace
from comfyloom_codegen.exports.matching import Match, match
from ugly import node


def new_ids(matches: Mapping[str, Match]) -> dict[str, str]:
    """Return the new id of each matched node."""
    return {old: found.node for old, found in matches.items()}


@pytest.mark.parametrize(
    "ids",
    [
        {},
        {each: str(int(each) + 100) for each in GRAPH},
        {"6": "7", "7": "6"},
        {"3": "4", "4": "3", "9": "1:2"},
    ],
)
@pytest.mark.parametrize("titles", [{}, {"6": "PROMPT"}, {"9": "END", "4": ""}])
def test_nodes_are_matched_after_changes_of_ids_and_titles(
    ids: dict[str, str], titles: dict[str, str]
) -> None:
    after = renumbered(titled(GRAPH, titles), ids)
    found = match(GRAPH, after)
    assert new_ids(found) == {n: ids.get(n, n) for n in GRAPH}


def test_nodes_without_titles_are_matched_by_their_links() -> None:
    bare = {n: {key: v for key, v in entry.items() if key != "_meta"} for n, entry in GRAPH.items()}
    is_same_json = copy.deepcopy(bare)
    is_same_json["6"]["inputs"]["text"] = is_same_json["7"]["inputs"]["text"] = "same"
    ids = {"6": "7", "7": "6", "3": "30"}
    found = match(is_same_json, renumbered(is_same_json, ids))
    assert new_ids(found) == {n: ids.get(n, n) for n in GRAPH}


def test_ambiguous_nodes_are_left_out() -> None:
    old = {"1": node("A", "x", v=1)}
    assert match(old, {"2": node("A", "y", v=1), "3": node("A", "z", v=1)}) == {}
    assert match(old, {"2": node("B", "x", v=1)}) == {}


@given(
    st.dictionaries(
        st.sampled_from("123456"),
        st.tuples(
            st.sampled_from("AB"), st.sampled_from(["", "t", "u"]), st.sampled_from("123456")
        ),
        min_size=1,
    ),
    st.permutations("123456"),
)
def test_matches_are_one_to_one_and_of_the_same_type(
    shape: dict[str, Any], order: list[str]
) -> None:
    graph = {n: node(cls, title, x=[to, 0]) for n, (cls, title, to) in shape.items()}
    after = renumbered(graph, dict(zip("123456", order, strict=True)))
    found = match(graph, after)
    assert len(set(new_ids(found).values())) == len(found)
    for old, new in found.items():
        assert graph[old]["class_type"] == after[new.node]["class_type"]
    assert new_ids(match(graph, graph)) == {n: n for n in graph}


def test_a_new_node_with_an_old_title_is_not_matched_with_the_old_node(
    make_workspace: MakeWorkspace,
) -> None:
    default = "CLIP Text Encode (Prompt)"
    old = {"6": node("Encode", default, text="a cat"), "9": node("SaveImage", images=["6", 0])}
    new = {**titled(old, {"6": "POSITIVE"}), "20": node("Encode", default, text="more")}
    found = match(old, new)
    assert found["6"].node == "6"


edits = st.lists(
    st.one_of(
        st.tuples(st.just("title"), st.sampled_from("34679"), st.sampled_from("XYZ")),
        st.tuples(st.just("text"), st.sampled_from("67"), st.sampled_from("uv")),
        st.tuples(st.just("node"), st.sampled_from("12"), st.sampled_from("XYZ")),
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(order=st.permutations("3467958"), edits=edits)
def test_nodes_are_matched_whatever_happened_to_ids(order: list[str], edits: Any) -> None:
    after = copy.deepcopy(GRAPH)
    for kind, which, what in edits:
        if kind == "title":
            after[which]["_meta"] = {"title": what}
        elif kind == "text":
            after[which]["inputs"]["text"] = what
        else:
            after[which] = node("Other", what, text="a cat", clip=["4", 1])
    ids = dict(zip("3467912", order, strict=True))
    found = match(GRAPH, renumbered(after, ids))
    for old, new in found.items():
        assert new.node == ids[old], (old, new)
    # A node whose type is unique is always matched.
    assert {"3", "4", "9"} <= set(found)
