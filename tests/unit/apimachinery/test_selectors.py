"""Label and field selectors."""

import pytest

from apimachinery import fields, labels
from apimachinery.meta import LabelSelector, LabelSelectorRequirement

LABELS = {"app": "web", "tier": "front", "n": "5", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=db", False),
        ("app!=db", True),
        ("missing!=x", True),
        ("missing notin (x,y)", True),
        ("app in (web, db)", True),
        ("app notin (web)", False),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("missing", False),
        ("app=web,tier=front", True),
        ("app=web,tier=back", False),
        ("app=web,", True),
        ("empty=", True),
        ("app=", False),
        ("n>4", True),
        ("n<4", False),
        ("app>4", False),
        ("tier in (),app", False),
        ("x.io/y notin (a),app in (web),!z", True),
    ],
)
def test_label_selectors(text: str, matches: bool) -> None:
    assert labels.parse(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    "text",
    ["a=b=c", "a in b", "a in (b", "(a)", "a b", "=b", "a=b c", "-a=b", "a=-b", "a in", "a>x", "!", ",a", "a=(b)"],
)
def test_malformed_label_selectors(text: str) -> None:
    with pytest.raises(ValueError):
        labels.parse(text)


@pytest.mark.parametrize("text", ["a=b", "a!=b", "a in (b,c)", "a notin (b,c)", "a", "!a", "a>3", "a=b,c,!d"])
def test_a_label_selector_writes_itself(text: str) -> None:
    assert str(labels.parse(text)) == text
    assert labels.parse(str(labels.parse(text))) == labels.parse(text)


def test_label_selector_structs() -> None:
    assert not labels.from_label_selector(None).matches(LABELS)
    assert labels.from_label_selector(LabelSelector()).matches(LABELS)
    selector = LabelSelector(
        matchLabels={"app": "web"},
        matchExpressions=[
            LabelSelectorRequirement(key="tier", operator="In", values=["front", "mid"]),
            LabelSelectorRequirement(key="gone", operator="DoesNotExist"),
        ],
    )
    assert labels.from_label_selector(selector).matches(LABELS)
    assert not labels.from_label_selector(selector).matches({"app": "web", "tier": "back"})
    with pytest.raises(ValueError, match="Like"):
        labels.from_label_selector(LabelSelector(matchExpressions=[LabelSelectorRequirement(key="a", operator="Like")]))
    assert labels.from_mapping({"app": "web"}).matches(LABELS)


VALUES = {"metadata.name": "a", "spec.nodeName": "", "status.phase": "Running"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name==a,status.phase!=Failed", True),
        ("status.phase!=Running", False),
        ("spec.nodeName=", True),
        ("spec.nodeName!=", False),
        ("metadata.name=a,", True),
    ],
)
def test_field_selectors(text: str, matches: bool) -> None:
    assert fields.parse(text).matches(VALUES) is matches


def test_field_selectors_escape() -> None:
    selector = fields.parse(r"a=x\,y,b=p\=q\\")
    assert [(term.key, term.value) for term in selector.terms] == [("a", "x,y"), ("b", "p=q\\")]
    assert fields.parse(str(selector)) == selector


def test_field_selectors_tell_what_the_server_asks() -> None:
    selector = fields.parse("metadata.name=a,spec.x!=b")
    assert selector.exact("metadata.name") == "a"
    assert selector.exact("spec.x") is None
    assert selector.unknown(VALUES) == ["spec.x"]


@pytest.mark.parametrize("text", ["a", "a=b=c", "a=\\x", "a=b,c"])
def test_malformed_field_selectors(text: str) -> None:
    with pytest.raises(ValueError):
        fields.parse(text)
