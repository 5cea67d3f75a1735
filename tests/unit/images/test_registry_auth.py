"""Who may see credentials, and how a token is asked for."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from runtime.images.auth import Credentials, credentials, parse_challenges, token_of, token_request
from runtime.images.errors import ImageError, Unauthorized
from runtime.images.hosts import Host
from runtime.images.reference import parse

UPSTREAM = Host("https://r.example/v2", upstream=True)
MIRROR = Host("https://mirror/v2", upstream=False)
REFERENCE = parse("r.example/team/app:v1")
USER = Credentials("user", "secret")


def test_from_the_cri():
    assert credentials(username="u", password="p") == Credentials("u", "p")
    assert credentials(auth=base64.b64encode(b"u:p:q").decode()) == Credentials("u", "p:q")
    assert not credentials() and credentials(identity_token="t") and credentials(registry_token="t")
    for bad in ("!!!", base64.b64encode(b"nocolon").decode()):
        with pytest.raises(ImageError, match="base64"):
            credentials(auth=bad)


def test_secrets_are_not_printed():
    assert "secret" not in repr(USER)


@pytest.mark.parametrize(
    "server, host, usable",
    [
        ("", UPSTREAM, True),
        ("r.example", UPSTREAM, True),
        ("https://r.example/v1/", UPSTREAM, True),
        ("other.example", UPSTREAM, False),
        ("", MIRROR, False),
        ("mirror", MIRROR, False),
        ("", Host("http://r.example/v2", upstream=True), False),
        ("", Host("http://127.0.0.1:5000/v2", upstream=True), True),
    ],
)
def test_who_may_see_them(server, host, usable):
    assert Credentials("user", "secret", server=server).usable_at(host, REFERENCE) is usable
    assert not Credentials(server=server).usable_at(host, REFERENCE)


def test_dockers_own_name():
    docker = Host("https://registry-1.docker.io/v2", upstream=True)
    assert Credentials("u", "p", server="https://index.docker.io/v1/").usable_at(docker, parse("app"))


def test_challenges():
    bearer, basic = parse_challenges(
        ['Bearer realm="https://auth/token",service="r",scope="repository:a:pull,push", Basic realm="x"']
    )
    assert bearer.scheme == "bearer" and bearer.parameters["scope"] == "repository:a:pull,push"
    assert bearer.parameters["realm"] == "https://auth/token"
    assert basic.scheme == "basic" and basic.parameters == {"realm": "x"}
    assert parse_challenges(["Negotiate", ""]) == []
    (odd,) = parse_challenges([r'BEARER realm="a\"b" , service=plain'])
    assert odd.parameters == {"realm": 'a"b', "service": "plain"}


def challenge(realm="https://auth/token?x=1", **more):
    text = ",".join(f'{name}="{value}"' for name, value in ({"realm": realm} | more).items())
    return parse_challenges([f"Bearer {text}"])[0]


def test_anonymous_token():
    request = token_request(challenge(service="s"), UPSTREAM, "team/app", None)
    query = parse_qs(urlsplit(request.url).query)
    assert query == {"x": ["1"], "service": ["s"], "scope": ["repository:team/app:pull"]}
    assert request.headers == {} and request.form is None


def test_token_for_a_user():
    request = token_request(challenge(), UPSTREAM, "team/app", USER)
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"user:secret").decode()
    assert "account=user" in request.url and "secret" not in request.url


def test_token_by_refresh_token():
    request = token_request(challenge(service="s"), UPSTREAM, "app", Credentials(identity_token="long"))
    assert request.form["refresh_token"] == "long" and request.form["grant_type"] == "refresh_token"
    assert "long" not in request.url and request.headers == {}


@pytest.mark.parametrize("realm", ["", "ftp://x", "token", "//x"])
def test_unusable_realm(realm):
    with pytest.raises(Unauthorized, match="no usable token server"):
        token_request(challenge(realm), UPSTREAM, "app", None)


def test_credentials_never_go_over_an_open_line():
    with pytest.raises(Unauthorized, match="open line"):
        token_request(challenge("http://auth/token"), UPSTREAM, "app", USER)
    with pytest.raises(Unauthorized, match="open line"):
        token_request(challenge("http://127.0.0.1/token"), UPSTREAM, "app", USER)
    assert token_request(challenge("http://auth/token"), UPSTREAM, "app", None).headers == {}
    local = Host("http://127.0.0.1:5000/v2", upstream=True)
    assert token_request(challenge("http://127.0.0.1:5001/token"), local, "app", USER).headers


def test_answers():
    assert token_of(b'{"token": "a"}') == "a" == token_of(b'{"access_token": "a"}')
    for bad in (b"", b"[]", b"{}", b'{"token": 3}', b'{"token": ""}', b'{"token": "a\\r\\nX: y"}'):
        with pytest.raises(Unauthorized):
            token_of(bad)
