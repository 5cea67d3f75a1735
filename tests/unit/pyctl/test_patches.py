"""What apply computes, and that the patch leads where it should: checked against the server's own merging."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.kinds.pod import Pod
from apimachinery.shapes import shape_of
from pyctl.patches import three_way

POD = shape_of(Pod)


def pod(*containers: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": metadata, "spec": {"containers": list(containers)}}


def test_nothing_to_do() -> None:
    live = pod({"name": "a", "image": "x", "imagePullPolicy": "Always"}, labels={"k": "v"}, uid="1")
    wanted = pod({"name": "a", "image": "x"}, labels={"k": "v"})
    assert three_way(wanted, wanted, live, POD) == {}


def test_only_what_the_last_file_had_is_deleted() -> None:
    last = {"metadata": {"labels": {"mine": "1", "gone": "1"}}}
    new = {"metadata": {"labels": {"mine": "2"}}}
    live = {"metadata": {"labels": {"mine": "1", "gone": "1", "theirs": "1"}, "uid": "1"}}
    assert three_way(last, new, live, POD) == {"metadata": {"labels": {"mine": "2", "gone": None}}}


def test_containers_are_patched_one_by_one() -> None:
    last = pod({"name": "a", "image": "x"}, {"name": "old", "image": "x"})
    new = pod({"name": "a", "image": "y"}, {"name": "new", "image": "z"})
    live = pod(
        {"name": "a", "image": "x", "imagePullPolicy": "Always"},
        {"name": "old", "image": "x"},
        {"name": "injected", "image": "i"},
    )
    assert three_way(last, new, live, POD) == {
        "spec": {
            "$setElementOrder/containers": [{"name": "a"}, {"name": "new"}],
            "containers": [
                {"image": "y", "name": "a"},
                {"name": "new", "image": "z"},
                {"$patch": "delete", "name": "old"},
            ],
        }
    }


def test_a_new_order_alone() -> None:
    before = pod({"name": "a"}, {"name": "b"})
    after = pod({"name": "b"}, {"name": "a"})
    assert three_way(before, after, before, POD) == {
        "spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}
    }


def test_sets_of_scalars() -> None:
    last, new = {"metadata": {"finalizers": ["a", "b"]}}, {"metadata": {"finalizers": ["b", "c"]}}
    live = {"metadata": {"finalizers": ["a", "b", "theirs"]}}
    assert three_way(last, new, live, POD) == {
        "metadata": {
            "finalizers": ["c"],
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["b", "c"],
        }
    }


def test_lists_without_a_merge_key_are_replaced() -> None:
    before, after = pod({"name": "a", "args": ["1", "2"]}), pod({"name": "a", "args": ["1"]})
    patch = three_way(before, after, before, POD)
    assert patch["spec"]["containers"] == [{"name": "a", "args": ["1"]}]


def test_kinds_that_we_do_not_know_get_a_merge_patch() -> None:
    before = {"spec": {"parts": [{"name": "a"}, {"name": "b"}], "x": 1}}
    after = {"spec": {"parts": [{"name": "a"}]}}
    assert three_way(before, after, before, None) == {"spec": {"parts": [{"name": "a"}], "x": None}}


@pytest.mark.parametrize("wanted, live", [(True, 1), (0, False), ([True], [1])])
def test_a_truth_is_no_number(wanted: object, live: object) -> None:
    assert three_way({}, {"x": wanted}, {"x": live}) == {"x": wanted}


def test_null_in_the_file_means_absent() -> None:
    assert three_way({}, {"x": None, "y": None}, {"x": 1}) == {"x": None}


names = st.sampled_from("abcd")
elements = st.dictionaries(st.sampled_from(["image", "workingDir"]), st.sampled_from("xyz"))
containers = st.dictionaries(names, elements).map(lambda found: [{"name": key, **found[key]} for key in found])
labels = st.dictionaries(names, st.sampled_from("12"))
objects = st.builds(
    lambda items, tags: {"metadata": {"labels": tags}, "spec": {"containers": items}}, containers, labels
)


@given(last=objects, new=objects, extra=objects)
def test_the_patch_leads_to_what_the_file_wants(last: Any, new: Any, extra: Any) -> None:
    """Live is the last file plus what others added. Merged with the patch it has all of the new file, none of what only
    the last had, and all that only others have."""
    from apimachinery.patch import strategic_merge

    live = strategic_merge(extra, last, Pod)
    after = strategic_merge(live, three_way(last, new, live, POD), Pod)
    tags = after["metadata"].get("labels", {})
    assert tags.items() >= new["metadata"]["labels"].items()
    assert not (last["metadata"]["labels"].keys() - new["metadata"]["labels"].keys()) & tags.keys()
    found = {each["name"]: each for each in after["spec"].get("containers", [])}
    wanted = {each["name"]: each for each in new["spec"]["containers"]}
    applied = {each["name"] for each in last["spec"]["containers"]}
    assert set(found) == set(wanted) | ({each["name"] for each in extra["spec"]["containers"]} - applied)
    assert all(found[name].items() >= wanted[name].items() for name in wanted)
    assert [name for name in found if name in wanted] == list(wanted)
    assert three_way(new, new, after, POD) == {}
