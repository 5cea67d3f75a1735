"""Status errors: bodies, messages, and back from a body."""

from apimachinery import errors
from apimachinery.causes import duplicate, forbidden, invalid, not_supported, required
from apimachinery.errors import Cause, Conflict, Invalid, NotFound, from_status


def test_not_found() -> None:
    error = NotFound.of("pods", "x")
    assert error.status == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'pods "x" not found',
        "reason": "NotFound",
        "details": {"name": "x", "kind": "pods"},
        "code": 404,
    }
    assert NotFound.of("deployments", "x", "apps").message == 'deployments.apps "x" not found'


def test_invalid_with_one_and_with_several_causes() -> None:
    image = required("spec.containers[0].image")
    assert Invalid("Pod", "x", [image]).message == 'Pod "x" is invalid: spec.containers[0].image: Required value'
    both = Invalid("Pod", "x", [image, invalid("spec.hostname", "A", "is loud")])
    assert both.message == (
        'Pod "x" is invalid: [spec.containers[0].image: Required value, spec.hostname: Invalid value: "A": is loud]'
    )
    assert both.status["details"]["causes"][0] == {
        "reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers[0].image",
    }  # fmt: skip
    assert both.code == 422


def test_the_words_of_causes() -> None:
    assert not_supported("f", "x", ("B", "A")).message == 'Unsupported value: "x": supported values: "A", "B"'
    assert forbidden("f", "no").message == "Forbidden: no"
    assert duplicate("f", "x").message == 'Duplicate value: "x"'
    assert invalid("f", 5, "w").message == "Invalid value: 5: w"
    assert invalid("f", None, "w").message == "Invalid value: null: w"


def test_back_from_a_body() -> None:
    sent = Conflict.stale("pods", "x")
    received = from_status(sent.status)
    assert isinstance(received, Conflict)
    assert (received.code, received.reason, str(received)) == (409, "Conflict", sent.message)
    assert isinstance(from_status({"code": 410, "reason": "Expired"}), errors.Expired)
    assert isinstance(from_status({"code": 410}), errors.Gone)
    odd = from_status({"code": 418, "message": "teapot"})
    assert (odd.code, odd.message) == (418, "teapot")
    assert from_status(Invalid("Pod", "x", [required("a")]).status).causes == [
        Cause(reason="FieldValueRequired", message="Required value", field="a")
    ]


def test_retry_after_is_a_header_too() -> None:
    assert errors.TooManyRequests("later", retry_after=3).headers == {"Retry-After": "3"}
    assert errors.BadRequest("no").headers == {}


def test_success() -> None:
    status = errors.success(name="a", kind="pods", uid="u")
    assert (status["status"], status["details"]) == ("Success", {"name": "a", "kind": "pods", "uid": "u"})
