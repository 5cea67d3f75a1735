"""What names, label keys and label values may look like. Each function returns the faults in Kubernetes' words: an
empty tuple means that the text is fine."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, wraps

Faults = tuple[str, ...]

_LONGEST_KEPT = 256

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_PATTERN = re.compile(_LABEL, re.ASCII)
_SUBDOMAIN_PATTERN = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_LABEL_1035_PATTERN = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_PATTERN = re.compile(_QUALIFIED, re.ASCII)
_LABEL_VALUE_PATTERN = re.compile(rf"({_QUALIFIED})?", re.ASCII)
_CONFIG_KEY_PATTERN = re.compile(r"[-._a-zA-Z0-9]+", re.ASCII)
_PORT_NAME_PATTERN = re.compile(r"[a-z0-9-]+", re.ASCII)

_LABEL_FAULT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end"
    " with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_FAULT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_1035_FAULT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation "
    "is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_FAULT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_FAULT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start"
    " and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_ENV_NAME_FAULT = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_CONFIG_KEY_FAULT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
    "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


def _remembered(check: Callable[[str], Faults]) -> Callable[[str], Faults]:
    """The same few names come again and again. Long texts are not kept: they would fill the memory."""
    kept = lru_cache(maxsize=16384)(check)

    @wraps(check)
    def faults(text: str) -> Faults:
        return kept(text) if len(text) <= _LONGEST_KEPT else check(text)

    return faults


def _faults(text: str, pattern: re.Pattern[str], fault: str, longest: int) -> Faults:
    found: Faults = () if len(text) <= longest else (f"must be no more than {longest} characters",)
    return found if pattern.fullmatch(text) is not None else (*found, fault)


@_remembered
def dns_label_faults(text: str) -> Faults:
    """RFC 1123 label: namespaces, containers, volumes, hostnames."""
    return _faults(text, _LABEL_PATTERN, _LABEL_FAULT, 63)


@_remembered
def dns_subdomain_faults(text: str) -> Faults:
    """RFC 1123 subdomain: most object names."""
    return _faults(text, _SUBDOMAIN_PATTERN, _SUBDOMAIN_FAULT, 253)


@_remembered
def dns_1035_faults(text: str) -> Faults:
    """RFC 1035 label: services."""
    return _faults(text, _LABEL_1035_PATTERN, _LABEL_1035_FAULT, 63)


@_remembered
def label_value_faults(text: str) -> Faults:
    """Value of a label; may be empty."""
    return _faults(text, _LABEL_VALUE_PATTERN, _LABEL_VALUE_FAULT, 63)


@_remembered
def label_key_faults(text: str) -> Faults:
    """Qualified name: an optional DNS prefix and a slash, then a name of at most 63 characters."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return (f"a qualified name {_QUALIFIED_FAULT} with an optional DNS subdomain prefix and '/'",)
    found: list[str] = []
    if slash:
        if not prefix:
            found.append("prefix part must be non-empty")
        else:
            found += [f"prefix part {fault}" for fault in dns_subdomain_faults(prefix)]
    if not name:
        found.append("name part must be non-empty")
    elif len(name) > 63:
        found.append("name part must be no more than 63 characters")
    if _QUALIFIED_PATTERN.fullmatch(name) is None:
        found.append(f"name part {_QUALIFIED_FAULT}")
    return tuple(found)


@_remembered
def env_name_faults(text: str) -> Faults:
    """Name of an environment variable. Kubernetes 1.33 takes every printable ASCII character but '='."""
    if text and all(" " <= character <= "~" and character != "=" for character in text):
        return ()
    return (_ENV_NAME_FAULT,)


@_remembered
def config_key_faults(text: str) -> Faults:
    """Key of a ConfigMap or Secret: also a file name, hence neither . nor .. nor anything above."""
    found = _faults(text, _CONFIG_KEY_PATTERN, _CONFIG_KEY_FAULT, 253)
    if text in (".", ".."):
        return (*found, f"must not be '{text}'")
    return (*found, "must not start with '..'") if text.startswith("..") else found


@_remembered
def port_name_faults(text: str) -> Faults:
    """IANA service name: at most 15 characters, with a letter, without leading, trailing or double hyphens."""
    found: list[str] = []
    if len(text) > 15:
        found.append("must be no more than 15 characters")
    if _PORT_NAME_PATTERN.fullmatch(text) is None:
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= character <= "z" for character in text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text and (text[0] == "-" or text[-1] == "-"):
        found.append("must not begin or end with a hyphen")
    return tuple(found)


@_remembered
def path_segment_faults(text: str) -> Faults:
    """Names that are only a segment of a URL path (RBAC)."""
    if text in (".", ".."):
        return (f"may not be '{text}'",)
    return tuple(f"may not contain '{mark}'" for mark in ("/", "%") if mark in text)
