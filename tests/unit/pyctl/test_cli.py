"""The command line in front of a server that is a dictionary: what it asks, what it prints, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from componentbase.http import Headers, Request
from kubeclient.blocking import BlockingResponse
from pyctl.main import SECTIONS, cli, run
from pyctl.patches import LAST_APPLIED
from tests.unit.pyctl.server import Server, answer, refused

PODS = "/api/v1/namespaces/default/pods"
HOUSE = Path(__file__).parents[3]


def every_verb() -> list[str]:
    return [verb for verbs in SECTIONS.values() for verb in verbs]


# -- the command line itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", every_verb())
def test_the_help_of_each_verb_agrees_with_the_list(verb: str, pyctl: Callable) -> None:
    import click

    command = cli.get_command(click.Context(cli), verb)
    assert command is not None and command.short_help == next(each[verb] for each in SECTIONS.values() if verb in each)
    outcome = pyctl(verb, "--help")
    assert outcome.code == 0 and "--data-dir" in outcome.out and outcome.err == ""


def test_help_lists_all_verbs_without_loading_one() -> None:
    program = (
        "import sys; from pyctl.main import run; run(['--help']); print([m for m in sys.modules if 'verbs.' in m])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=HOUSE, check=True)
    assert all(verb in done.stdout for verb in every_verb())
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    "line, complaint",
    [
        (["nonsense"], "no such command 'nonsense'"),
        (["get", "--nonsense"], "no such option"),
        (["get"], "which type?"),
        (["get", "pods", "-o", "xml"], "invalid value for '-o'"),
        (["apply"], "missing option '-f'"),
        (["exec", "web"], "which command?"),
        (["wait", "pod/x", "--for", "luck"], "--for 'luck'"),
        (["logs", "web", "--since", "yesterday"], "duration 'yesterday'"),
        (["delete", "pods"], "delete what?"),
        (["delete", "-f", "x.yaml", "pod", "web"], "-f does not go together"),
        (["delete", "-f", "x.yaml", "-l", "a=b"], "-f does not go together"),
        (["delete", "-R", "pod", "web"], "-R is of use with -f only"),
        (["delete", "pod", "web", "--now", "--grace-period", "5"], "--now does not go together"),
        (["delete", "pod", "web", "--force", "--grace-period", "5"], "--force leaves no time"),
        (["logs", "web", "c", "-c", "c"], "name it once"),
        (["logs", "web", "--tail", "-2"], "must not be negative"),
        (["describe", "pod", "web", "-l", "a=b"], "a name does not go together"),
        (["get", "pod/a", "b"], "'b': where one word is TYPE/NAME"),
    ],
)
def test_wrong_usage_is_one_line_and_two(line: list[str], complaint: str, server: Server, pyctl: Callable) -> None:
    server.put(f"{PODS}/web", spec={"containers": [{"name": "c"}]})
    outcome = pyctl(*line)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ") and complaint in outcome.err.splitlines()[0]


def test_an_api_server_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kubeconfig").write_text(
        "current-context: x\ncontexts: [{name: x, context: {cluster: x}}]\n"
        "clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]\n"
    )
    assert run(["--data-dir", str(tmp_path), "get", "pods"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "error: the API server at http://127.0.0.1:1 does not answer: Connection refused\n"
        "  is it up? `pyctl up` starts it\n"
    )


def test_no_cluster(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--data-dir", str(tmp_path), "get", "pods"]) == 1
    assert "kubeconfig does not exist\n  start one with `pyctl up`" in capfd.readouterr().err


def test_which_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pyctl.settings import Settings

    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("PYCTL_DATA_DIR", raising=False)
    assert str(Settings().kubeconfig_path) == "/var/lib/pyctl/kubeconfig"
    monkeypatch.setenv("KUBECONFIG", "/first:/second")
    assert str(Settings().kubeconfig_path) == "/first"
    monkeypatch.setenv("PYCTL_DATA_DIR", str(tmp_path))
    assert Settings().kubeconfig_path == tmp_path / "kubeconfig"
    assert str(Settings(kubeconfig="/mine").kubeconfig_path) == "/mine"
    assert Settings(data_dir=str(tmp_path / "d"), kubeconfig="/mine").kubeconfig_path == tmp_path / "d" / "kubeconfig"


def test_global_options_stand_before_or_behind_the_verb(server: Server, pyctl: Callable) -> None:
    pyctl("-n", "a", "get", "pods")
    pyctl("get", "pods", "-n", "b")
    asked = [request.path for request in server.sent if request.path.endswith("/pods")]
    assert asked == ["/api/v1/namespaces/a/pods", "/api/v1/namespaces/b/pods"]


# -- get ---------------------------------------------------------------------------------------------------------------


def test_get_prints_the_servers_table(server: Server, pyctl: Callable) -> None:
    server.put(f"{PODS}/web", status={"phase": "Running"})
    server.put(f"{PODS}/a-longer-name", status={"phase": "Pending"})
    assert pyctl("get", "po").out == "NAME            STATUS\na-longer-name   Pending\nweb             Running\n"
    assert pyctl("get", "pods", "-o", "wide").out.startswith("NAME            STATUS    NODE\n")
    assert pyctl("get", "pod", "web", "--no-headers").out == "web   Running\n"
    assert pyctl("get", "pods", "-A").out.startswith("NAMESPACE   NAME            STATUS\ndefault     a-longer-name")
    assert pyctl("get", "pods", "-o", "name").out == "pod/a-longer-name\npod/web\n"


def test_get_of_several_types(server: Server, pyctl: Callable) -> None:
    server.put(f"{PODS}/web", status={"phase": "Running"})
    server.put("/api/v1/nodes/n1")
    assert pyctl("get", "pods,nodes").out == "NAME      STATUS\npod/web   Running\n\nNAME      STATUS\nnode/n1\n"


def test_get_as_yaml_and_json(server: Server, pyctl: Callable) -> None:
    server.put(f"{PODS}/web", kind="Pod", spec={"script": "a\nb\n"}, metadata={"managedFields": [1]})
    text = pyctl("get", "pod/web", "-o", "yaml").out
    assert "script: |\n" in text and "managedFields" not in text
    assert yaml.safe_load(text)["metadata"]["name"] == "web"
    listing = json.loads(pyctl("get", "pods", "-o", "json").out)
    assert listing["kind"] == "List" and listing["items"][0]["apiVersion"] == "v1"


def test_selectors_go_to_the_server(server: Server, pyctl: Callable) -> None:
    pyctl("get", "pods", "-l", "app=web", "--field-selector", "status.phase=Running")
    query = server.sent[-1].query
    assert (query.first("labelSelector"), query.first("fieldSelector")) == ("app=web", "status.phase=Running")


def test_nothing_found_is_said_on_stderr(server: Server, pyctl: Callable) -> None:
    outcome = pyctl("get", "pods")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "no resources found in namespace default\n")
    outcome = pyctl("get", "pod", "nobody")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", 'error: pods "nobody" not found\n')
    assert pyctl("get", "pod", "nobody", "--ignore-not-found").code == 0
    outcome = pyctl("get", "unicorns")
    assert outcome.code == 1 and 'no resource type "unicorns"' in outcome.err


def test_types_by_all_their_names(server: Server, pyctl: Callable) -> None:
    server.put("/apis/example.org/v1/namespaces/default/widgets/w")
    for name in ("widget", "widgets", "Widget", "widgets.example.org", "widget.v1.example.org"):
        assert pyctl("get", name, "-o", "name").out == "widget.example.org/w\n", name


def test_get_loads_little(tmp_path: Path) -> None:
    """What a one-shot verb loads is what its user waits for."""
    (tmp_path / "kubeconfig").write_text(
        "current-context: x\ncontexts: [{name: x, context: {cluster: x}}]\n"
        "clusters: [{name: x, cluster: {server: 'https://127.0.0.1:1'}}]\n"
    )
    program = (
        "import sys; from pyctl.main import run; code = run(['--data-dir', sys.argv[1], 'get', 'pods']);"
        "print(code, *sorted({name.split('.')[0] for name in sys.modules} | set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=HOUSE, check=True
    )
    code, *loaded = done.stdout.split()
    assert code == "1" and "does not answer" in done.stderr, "it went as far as the socket"
    heavy = {"aiohttp", "asyncio", "numpy", "grpc", "rich", "cryptography", "pyroute2", "msgspec", "apimachinery.kinds"}
    assert heavy & set(loaded) == set()


def test_a_list_of_many_pages(server: Server, pyctl: Callable) -> None:
    def page(request: Request) -> BlockingResponse:
        last = request.query.first("continue") == "more"
        names = ["c"] if last else ["a", "b"]
        rows = [{"cells": [name], "object": {"metadata": {"name": name}}} for name in names]
        metadata = {} if last else {"continue": "more"}
        columns = [{"name": "Name", "format": "name"}]
        return answer({"kind": "Table", "columnDefinitions": columns, "rows": rows, "metadata": metadata})

    server.answers["GET", PODS] = page
    assert pyctl("get", "pods").out == "NAME\na\nb\nc\n"


def test_warnings_of_the_server(server: Server, pyctl: Callable) -> None:
    text = '299 - "nothing acts on \\"this\\" yet"'
    server.answers["GET", f"{PODS}/web"] = lambda _: answer({"kind": "Pod", "metadata": {"name": "web"}}, Warning=text)
    assert pyctl("get", "pod", "web", "-o", "name").err == 'Warning: nothing acts on "this" yet\n'


def test_watch_prints_rows_as_they_come(server: Server, pyctl: Callable) -> None:
    def watch(request: Request) -> BlockingResponse:
        if not request.query.has("watch"):
            return answer({"kind": "Table", "columnDefinitions": [{"name": "Name"}], "rows": [], "metadata": {}})
        if request.query.first("resourceVersion") == "7":
            return refused(403, "Forbidden", "enough")
        row = {"cells": ["web"], "object": {"metadata": {"resourceVersion": "7"}}}
        event = {"type": "ADDED", "object": {"kind": "Table", "columnDefinitions": [{"name": "Name"}], "rows": [row]}}
        return BlockingResponse(
            200, Headers(), iter([json.dumps(event).encode()[:9], json.dumps(event).encode()[9:] + b"\n"])
        )

    server.answers["GET", PODS] = watch
    outcome = pyctl("get", "pods", "-w")
    assert (outcome.out, outcome.err) == ("NAME\nweb\n", "error: enough\n")


# -- apply -------------------------------------------------------------------------------------------------------------


def manifest(tmp_path: Path, text: str) -> str:
    path = tmp_path / "it.yaml"
    path.write_text(text)
    return str(path)


POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: '1'}}\nspec: {containers: [{name: c, image: x}]}\n"


def test_apply_creates_and_remembers(server: Server, pyctl: Callable, tmp_path: Path) -> None:
    outcome = pyctl("apply", "-f", manifest(tmp_path, POD))
    assert (outcome.code, outcome.out, outcome.err) == (0, "pod/web created\n", "")
    posted = server.sent[-1]
    assert posted.query.first("fieldValidation") == "Strict"
    annotation = server.objects[f"{PODS}/web"]["metadata"]["annotations"][LAST_APPLIED]
    assert json.loads(annotation)["spec"]["containers"][0]["image"] == "x"
    assert annotation.startswith('{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{},"labels"')
    assert pyctl("apply", "-f", manifest(tmp_path, POD)).out == "pod/web unchanged\n"


def test_apply_patches_what_differs(server: Server, pyctl: Callable, tmp_path: Path) -> None:
    pyctl("apply", "-f", manifest(tmp_path, POD))
    server.answers["PATCH", f"{PODS}/web"] = lambda _: answer({"metadata": {"resourceVersion": "99"}})
    assert pyctl("apply", "-f", manifest(tmp_path, POD.replace("a: '1'", "b: '1'"))).out == "pod/web configured\n"
    patch = json.loads(server.sent[-1].body)
    assert server.sent[-1].headers["content-type"] == "application/strategic-merge-patch+json"
    assert patch["metadata"]["labels"] == {"b": "1", "a": None}


def test_apply_tries_again_when_somebody_was_faster(server: Server, pyctl: Callable, tmp_path: Path) -> None:
    pyctl("apply", "-f", manifest(tmp_path, POD))
    outcomes = [refused(409, "Conflict", "changed"), answer({"metadata": {"resourceVersion": "99"}})]
    server.answers["PATCH", f"{PODS}/web"] = lambda _: outcomes.pop(0)
    assert pyctl("apply", "-f", manifest(tmp_path, POD.replace("'1'", "'2'"))).out == "pod/web configured\n"


def test_apply_says_where_the_refused_object_stands(server: Server, pyctl: Callable, tmp_path: Path) -> None:
    server.answers["POST", PODS] = lambda _: refused(400, "BadRequest", 'strict decoding error: unknown field "spec.x"')
    path = manifest(tmp_path, "# a comment\n---\n" + POD)
    outcome = pyctl("apply", "-f", path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f'error: {path}: line 3: strict decoding error: unknown field "spec.x"')


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: [x\n", "line 5, column 1"),
        ("a: 1\na: 2\n", "the key a stands there twice"),
        ("just words\n", "an object is expected here, not the text 'just words"),
        ("kind: Pod\nmetadata: {name: x}\n", "apiVersion is not set"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n", "metadata.name of this Pod is not set"),
        ("apiVersion: v9\nkind: Pod\nmetadata: {name: x}\n", 'no kind "Pod" in version "v9"'),
        ("# nothing\n", "no objects in"),
    ],
)
def test_files_that_are_no_objects(text: str, complaint: str, pyctl: Callable, tmp_path: Path) -> None:
    path = manifest(tmp_path, text)
    outcome = pyctl("apply", "-f", path)
    assert (outcome.code, outcome.out) == (1, "")
    assert path in outcome.err and complaint in outcome.err
    assert pyctl("apply", "-f", str(tmp_path / "none.yaml")).err.endswith("none.yaml: no such file or directory\n")


def test_apply_of_a_directory_and_of_lists(server: Server, pyctl: Callable, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: other}\n")
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in ("c", "d")]
    (tmp_path / "a.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    (tmp_path / "notes.txt").write_text("not ours")
    outcome = pyctl("apply", "-f", str(tmp_path))
    assert outcome.out == "configmap/c created\nconfigmap/d created\nconfigmap/b created\n"
    assert "/api/v1/namespaces/other/configmaps/b" in server.objects
    clash = pyctl("-n", "mine", "apply", "-f", str(tmp_path / "b.yaml"))
    assert clash.code == 1 and "it is of namespace other, and -n says mine" in clash.err


# -- delete, logs, events, describe ------------------------------------------------------------------------------------


def test_delete_waits_until_it_is_gone(server: Server, pyctl: Callable) -> None:
    server.put(f"{PODS}/web")
    looks = iter([True, False])

    def look(request: Request) -> BlockingResponse:
        here = {"metadata": {"name": "web", "uid": "uid-web", "resourceVersion": "5"}}
        return answer(here) if next(looks) else refused(404, "NotFound", "gone")

    server.answers["GET", f"{PODS}/web"] = look
    server.answers["GET", PODS] = lambda request: BlockingResponse(200, Headers(), iter([b'{"type":"BOOKMARK"}\n']))
    outcome = pyctl("delete", "pod", "web", "--now")
    assert (outcome.code, outcome.out) == (0, "pod/web deleted\n")
    deleted = next(request for request in server.sent if request.method == "DELETE")
    assert json.loads(deleted.body)["gracePeriodSeconds"] == 1
    watched = next(request for request in server.sent if request.query.has("watch"))
    assert watched.query.first("resourceVersion") == "5" and next(looks, None) is None


def test_delete_what_is_not_there(server: Server, pyctl: Callable) -> None:
    outcome = pyctl("delete", "pod", "nobody")
    assert (outcome.code, outcome.err) == (1, 'error: pods "nobody" not found\n')
    assert pyctl("delete", "pod", "nobody", "--ignore-not-found").code == 0


def test_logs(server: Server, pyctl: Callable) -> None:
    server.put(f"{PODS}/web", spec={"containers": [{"name": "a"}, {"name": "b"}]})
    server.answers["GET", f"{PODS}/web/log"] = lambda _: BlockingResponse(200, Headers(), iter([b"one\n", b"tw\xff"]))
    outcome = pyctl("logs", "web", "--tail", "5", "--since", "1h30m", "-p")
    assert outcome.err == "container a of a, b; -c chooses another\n"
    query = dict(server.sent[-1].query)
    assert query == {"container": "a", "previous": "true", "tailLines": "5", "sinceSeconds": "5400"}
    assert pyctl("logs", "web", "-c", "b", "-f").err == ""
    outcome = pyctl("logs", "web", "-c", "z")
    assert outcome.code == 1 and "container z is not in pod web; it has a, b" in outcome.err


def test_events_oldest_first(server: Server, pyctl: Callable) -> None:
    for name, time, count in (("late", "2024-01-02T00:00:00Z", 3), ("early", "2024-01-01T00:00:00Z", 1)):
        about = {"kind": "Pod", "name": "web"}
        path = f"/api/v1/namespaces/default/events/{name}"
        server.put(
            path, involvedObject=about, lastTimestamp=time, reason=name, count=count, type="Normal", message="m\nn"
        )
    lines = pyctl("events", "--for", "pod/web").out.splitlines()
    assert [line.split()[0] for line in lines] == ["LAST", *[line.split()[0] for line in lines[1:]]]
    assert "early" in lines[1] and "(x3)" in lines[2] and lines[1].endswith("pod/web   m n")
    query = server.sent[-1].query.first("fieldSelector")
    assert query == "involvedObject.kind=Pod,involvedObject.name=web"


def test_describe(server: Server, pyctl: Callable) -> None:
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    server.put(
        f"{PODS}/web",
        kind="Pod",
        spec={"nodeName": "n1", "containers": [{"name": "c", "image": "x:1", "command": ["sh", "-c", "a b"]}]},
        status={"phase": "Pending", "containerStatuses": [{"name": "c", "state": state, "restartCount": 4}]},
    )
    about = {"kind": "Pod", "name": "web", "uid": "uid-web"}
    server.put("/api/v1/namespaces/default/events/e", involvedObject=about, reason="Failed", message="pull failed")
    text = pyctl("describe", "pod", "web").out
    for expected in (
        "Name:             web",
        "ImagePullBackOff",
        "no such image",
        "sh -c 'a b'",
        "Failed",
        "pull failed",
    ):
        assert expected in text
    server.put(
        "/apis/example.org/v1/namespaces/default/widgets/w", kind="Widget", spec={"size": 3, "parts": [{"a": 1}]}
    )
    assert "Size:           3" in pyctl("describe", "widget/w").out


def test_wait_for_a_condition(server: Server, pyctl: Callable) -> None:
    server.put(f"{PODS}/web", status={"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"})
    assert pyctl("wait", "--for=condition=ready", "pod/web").out == "pod/web condition met\n"
    assert pyctl("wait", "--for=jsonpath={.status.phase}=Running", "pod/web").code == 0
    outcome = pyctl("wait", "--for=condition=Initialized", "pod/web", "--timeout", "0")
    assert outcome.code == 1 and "pod/web: not condition=Initialized after 0" in outcome.err
    assert pyctl("wait", "--for=delete", "pod/nobody").code == 0


def test_kubeconfig_prints_the_path(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kubeconfig").touch()
    assert run(["--data-dir", str(tmp_path), "kubeconfig"]) == 0
    assert capfd.readouterr().out == f"{tmp_path}/kubeconfig\n"
