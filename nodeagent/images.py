"""Makes sure of an image by its pull policy. Owns the pulls that are under way: one for an image, however many wait
for it.

Says what it does as events; leaves backing off to the pod's machine, which asks again when it is time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from typing import Any

from apimachinery.kinds.pod import Container
from apimachinery.kinds.secret import Secret
from componentbase.clock import Clock
from nodeagent.cri import CRI, CRIError, RuntimeAway
from pb.cri.v1 import api_pb2 as cri

log = logging.getLogger(__name__)

Tell = Callable[[str, str, str], None]  # type, reason, message
DOCKER_HUB = "docker.io"
DOCKER_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")


class ImageError(Exception):
    """The image is not there. reason: what the container waits for (ErrImagePull, ErrImageNeverPull, ...)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ImageKeeper:
    """Images of one node, through its runtime."""

    def __init__(self, runtime: CRI, clock: Clock, spawn: Callable[..., asyncio.Task[Any]]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._spawn = spawn
        self._pulls: dict[tuple[str, str], asyncio.Task[str | CRIError]] = {}

    async def ensure(
        self, container: Container, sandbox: cri.PodSandboxConfig, secrets: list[Secret], tell: Tell
    ) -> cri.Image:
        """The image, pulled if its policy wants that. Raises ImageError and RuntimeAway."""
        name = container.image
        policy = container.imagePullPolicy or default_policy(name)
        try:
            present = await self._runtime.image_status(name)
        except RuntimeAway:
            raise
        except CRIError as error:
            raise ImageError(
                "InvalidImageName" if error.code == "INVALID_ARGUMENT" else "ImageInspectError", error.message
            ) from error
        if present is not None and policy != "Always":
            tell("Normal", "Pulled", f'Container image "{name}" already present on machine')
            return present
        if policy == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", text)
            raise ImageError("ErrImageNeverPull", text)
        return await self._pull(name, sandbox, credentials(name, secrets), tell)

    async def _pull(
        self, name: str, sandbox: cri.PodSandboxConfig, auth: cri.AuthConfig | None, tell: Tell
    ) -> cri.Image:
        tell("Normal", "Pulling", f'Pulling image "{name}"')
        began = self._clock.monotonic()
        key = (name, auth.SerializeToString().hex() if auth is not None else "")
        if key not in self._pulls:
            task = self._spawn(self._outcome(name, sandbox, auth), name=f"pull {name}")
            self._pulls[key] = task
            task.add_done_callback(lambda _: self._pulls.pop(key, None))
        try:
            # Shielded: a pod that is deleted meanwhile must not end the pull for others.
            reference = await asyncio.shield(self._pulls[key])
            if isinstance(reference, CRIError):
                raise reference
            image = await self._runtime.image_status(reference) or await self._runtime.image_status(name)
        except RuntimeAway:
            raise
        except CRIError as error:
            tell("Warning", "Failed", f'Failed to pull image "{name}": {error.message}')
            raise ImageError("ErrImagePull", error.message) from error
        if image is None:
            raise ImageError("ErrImagePull", f"image {reference} is gone right after it was pulled")
        took = duration_text(self._clock.monotonic() - began)
        tell("Normal", "Pulled", f'Successfully pulled image "{name}" in {took}. Image size: {image.size} bytes.')
        return image

    async def _outcome(self, name: str, sandbox: cri.PodSandboxConfig, auth: cri.AuthConfig | None) -> str | CRIError:
        """The reference, or the error as a value: it is for those who wait, not for the task's parent."""
        try:
            return await self._runtime.pull_image(name, sandbox, auth)
        except CRIError as error:
            return error


def default_policy(image: str) -> str:
    """Always for the tag latest, said or meant; IfNotPresent otherwise."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if not digest and tag in ("", "latest") else "IfNotPresent"


def duration_text(seconds: float) -> str:
    """As Go prints it, to the millisecond."""
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.3f}s"


def registry_of(image: str) -> str:
    """The registry host of an image reference."""
    first, slash, _ = image.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if is_host else DOCKER_HUB


def credentials(image: str, secrets: list[Secret]) -> cri.AuthConfig | None:
    """What the pull secrets say for the image's registry; the longest match wins. A secret that cannot be read is
    skipped, as in Kubernetes."""
    registry = registry_of(image)
    repository = image if registry != DOCKER_HUB else f"{DOCKER_HUB}/{image}"
    best: tuple[int, dict[str, Any], str] | None = None
    for secret in secrets:
        for key, entry in _auths(secret).items():
            place = key.removeprefix("https://").removeprefix("http://").rstrip("/")
            if key in DOCKER_HUB_KEYS:
                place = DOCKER_HUB
            if (repository == place or repository.startswith(place + "/")) and (best is None or len(place) > best[0]):
                best = (len(place), entry, key)
    if best is None:
        return None
    entry = best[1]
    username, password = str(entry.get("username", "")), str(entry.get("password", ""))
    if entry.get("auth") and not username:
        username, _, password = base64.b64decode(entry["auth"]).decode(errors="replace").partition(":")
    return cri.AuthConfig(
        username=username,
        password=password,
        server_address=best[2],
        identity_token=str(entry.get("identitytoken", "")),
        registry_token=str(entry.get("registrytoken", "")),
    )


def _auths(secret: Secret) -> dict[str, dict[str, Any]]:
    raw = secret.data.get(".dockerconfigjson") or secret.data.get(".dockercfg")
    try:
        document = json.loads(raw) if raw else {}
        found = document.get("auths", document) if ".dockerconfigjson" in secret.data else document
        return {str(key): entry for key, entry in found.items() if isinstance(entry, dict)}
    except (ValueError, AttributeError):
        log.warning("pull secret %s/%s cannot be read", secret.metadata.namespace, secret.metadata.name)
        return {}
