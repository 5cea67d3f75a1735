"""hosts.toml: which hosts, in which order, with what; mistakes are named."""

import pytest

from runtime.images.errors import ImageError
from runtime.images.hosts import hosts_for, is_loopback, origin_of


@pytest.fixture
def config(tmp_path):
    def write(registry, text):
        folder = tmp_path / registry
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "registry, base",
    [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("quay.io", "https://quay.io/v2"),
        ("example.com:8443", "https://example.com:8443/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1", "http://127.0.0.1/v2"),
        ("127.8.9.10:5000", "http://127.8.9.10:5000/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("localhost:443", "https://localhost:443/v2"),
        ("localhost.example.com:5000", "https://localhost.example.com:5000/v2"),
    ],
)
def test_without_configuration(registry, base, tmp_path):
    for directory in (None, tmp_path, tmp_path / "missing"):
        (host,) = hosts_for(registry, directory)
        assert (host.base, host.upstream) == (base, True)


def test_mirrors_in_order_then_the_registry(config):
    directory = config(
        "docker.io",
        """
        server = "https://registry-1.docker.io"
        [host."http://mirror-b:5000"]
          capabilities = ["pull", "resolve"]
          skip_verify = true
          dial_timeout = "500ms"
          [host."http://mirror-b:5000".header]
            x-custom = ["one", "two"]
        [host."https://mirror-a/prefix"]
          capabilities = ["pull"]
          ca = "ca.pem"
          client = [["c.pem", "k.pem"]]
        [host."https://mirror-c/exactly/here"]
          override_path = true
        """,
    )
    hosts = hosts_for("docker.io", directory)
    assert [host.base for host in hosts] == [
        "http://mirror-b:5000/v2",
        "https://mirror-a/prefix/v2",
        "https://mirror-c/exactly/here",
        "https://registry-1.docker.io/v2",
    ]
    assert [host.upstream for host in hosts] == [False, False, False, True]
    assert hosts[0].skip_verify and hosts[0].headers == {"x-custom": "one, two"}
    assert hosts[0].dial_timeout_seconds == 0.5
    assert hosts[1].capabilities == {"pull"} and hosts[1].ca == (directory / "docker.io" / "ca.pem",)
    assert hosts[1].client == ((directory / "docker.io" / "c.pem", directory / "docker.io" / "k.pem"),)
    assert hosts[3].capabilities == {"pull", "resolve", "push"}


def test_a_table_for_the_registry_itself_is_the_registry(config):
    directory = config("r.example", 'server = "https://r.example"\n[host."https://r.example"]\nskip_verify = true\n')
    (host,) = hosts_for("r.example", directory)
    assert host.upstream and host.skip_verify


def test_server_may_be_elsewhere_and_plain(config):
    (host,) = hosts_for("r.example", config("r.example", 'server = "http://10.0.0.1:5000"\nca = "x.pem"\n'))
    assert host.base == "http://10.0.0.1:5000/v2" and host.upstream and len(host.ca) == 1


def test_lookup_order(config):
    config("_default", 'server = "http://default"')
    assert hosts_for("a.example", config("_default", 'server = "http://default"'))[0].base == "http://default/v2"
    directory = config("a.example:5000", 'server = "http://colon"')
    assert hosts_for("a.example:5000", directory)[0].base == "http://colon/v2"
    config("a.example_5000_", 'server = "http://underscore"')
    assert hosts_for("a.example:5000", directory)[0].base == "http://underscore/v2"


def test_docker_layout(tmp_path):
    folder = tmp_path / "r.example"
    folder.mkdir()
    for name in ("b.crt", "a.crt", "me.cert", "me.key"):
        (folder / name).touch()
    (host,) = hosts_for("r.example", tmp_path)
    assert host.ca == (folder / "a.crt", folder / "b.crt") and host.client == ((folder / "me.cert", folder / "me.key"),)


MISTAKES = {
    "server = ": "Invalid value",
    "server = 3": "server",
    'server = "ftp://x"': "not a URL",
    'server = "https://user:pass@x"': "not a URL",
    '[host."https://m"]\ncapabilities = ["pull", "pulll"]': "capabilities",
    '[host."https://m"]\nrewrite = "x"': "unknown key 'rewrite'",
    '[host."https://m"]\nskip_verify = "yes"': "true or false",
    '[host."https://m"]\ndial_timeout = "soon"': "dial_timeout",
    '[host."https://m"]\nca = 3': "not a string",
    '[host."https://m"]\nclient = [["a", "b", "c"]]': "client",
    '[host."not a url"]': "not a URL",
    "host = 3": "table",
    'typo = "x"': "unknown key 'typo'",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named(config, text):
    directory = config("r.example", text)
    with pytest.raises(ImageError, match=MISTAKES[text]) as caught:
        hosts_for("r.example", directory)
    assert "hosts.toml" in str(caught.value)


def test_certificates_that_cannot_be_read(config):
    (host,) = hosts_for("r.example", config("r.example", 'ca = "missing.pem"\n'))
    with pytest.raises(ImageError, match=r"r\.example: cannot read its certificates"):
        host.tls()


def test_loopback_and_origins():
    assert is_loopback("localhost:1") and is_loopback("[::1]") and not is_loopback("10.0.0.1") and not is_loopback("")
    assert origin_of("https://h/x") == origin_of("https://H:443/y") != origin_of("http://h/x")
