"""Rules for a pod as a whole: what must be, what may be, in Kubernetes' field paths and words. Changes are judged in
pod_rules_update."""

from __future__ import annotations

import ipaddress
import re

from apimachinery.causes import (
    duplicate,
    faulty,
    forbidden,
    invalid,
    one_of,
    required,
    too_many,
    within,
)
from apimachinery.errors import Cause
from apimachinery.kinds.pod_rules_containers import MAX_ID, amounts, containers, identity, profiles
from apimachinery.kinds.pod_rules_placement import placement
from apimachinery.kinds.pod_rules_volumes import volumes
from apimachinery.kinds.pod_spec import Pod, PodSecurityContext, PodSpec
from apimachinery.names import dns_label_faults, dns_subdomain_faults, label_key_faults

_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*", re.ASCII)
_SUBDOMAINS = ("serviceAccountName", "nodeName", "priorityClassName")
_MOST_NAMESERVERS, _MOST_SEARCHES, _MOST_SEARCH_CHARACTERS = 3, 32, 2048


def validate(pod: Pod) -> list[Cause]:
    """What is wrong with the spec of a pod, create or update."""
    spec = pod.spec
    found = volumes(spec.volumes, "spec.volumes") + containers(spec)
    found += one_of("spec.restartPolicy", spec.restartPolicy, ("Always", "Never", "OnFailure"))
    policies = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
    found += one_of("spec.dnsPolicy", spec.dnsPolicy, policies)
    found += _dns(spec)
    if spec.securityContext is not None:
        found += _security(spec.securityContext, spec)
    for index, secret in enumerate(spec.imagePullSecrets):
        if not secret.name:
            found.append(required(f"spec.imagePullSecrets[{index}].name"))
    for name in _SUBDOMAINS:
        if value := getattr(spec, name):
            found += faulty(f"spec.{name}", value, dns_subdomain_faults(value))
    if spec.runtimeClassName is not None:
        found += faulty("spec.runtimeClassName", spec.runtimeClassName, dns_subdomain_faults(spec.runtimeClassName))
    for name in ("hostname", "subdomain"):
        if value := getattr(spec, name):
            found += faulty(f"spec.{name}", value, dns_label_faults(value))
    found += within("spec.activeDeadlineSeconds", spec.activeDeadlineSeconds, 1, 2**31 - 1)
    found += placement(spec) + _aliases(spec) + _gates(spec) + _claims(spec)
    preemption = ("Never", "PreemptLowerPriority")
    found += one_of("spec.preemptionPolicy", spec.preemptionPolicy or "", preemption, needed=False)
    found += amounts(spec.overhead, "spec.overhead")
    if spec.os is not None:
        found += one_of("spec.os.name", spec.os.name, ("linux", "windows"))
    return found


def validate_create(pod: Pod) -> list[Cause]:
    """What a pod may not have yet when it is created."""
    found: list[Cause] = []
    if pod.spec.ephemeralContainers:
        found.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if pod.spec.nodeName and pod.spec.schedulingGates:
        found.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return found


def _dns(spec: PodSpec) -> list[Cause]:
    found: list[Cause] = []
    config = spec.dnsConfig
    if spec.dnsPolicy == "None" and (config is None or not config.nameservers):
        why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        found.append(required("spec.dnsConfig.nameservers" if config is not None else "spec.dnsConfig", why))
    if config is None:
        return found
    if len(config.nameservers) > _MOST_NAMESERVERS:
        why = f"must not have more than {_MOST_NAMESERVERS} nameservers"
        found.append(invalid("spec.dnsConfig.nameservers", config.nameservers, why))
    for index, address in enumerate(config.nameservers):
        found += _address(address, f"spec.dnsConfig.nameservers[{index}]")
    if len(config.searches) > _MOST_SEARCHES:
        found.append(too_many("spec.dnsConfig.searches", len(config.searches), _MOST_SEARCHES))
    if len(" ".join(config.searches)) > _MOST_SEARCH_CHARACTERS:
        why = f"must not have more than {_MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        found.append(invalid("spec.dnsConfig.searches", config.searches, why))
    for index, search in enumerate(config.searches):
        # Relaxed as in 1.33: a trailing dot, a lone dot, and underscores are fine.
        name = search.removesuffix(".").replace("_", "-")
        if search != ".":
            found += faulty(f"spec.dnsConfig.searches[{index}]", search, dns_subdomain_faults(name.strip("-") or "-"))
    for index, option in enumerate(config.options):
        if not option.name:
            found.append(required(f"spec.dnsConfig.options[{index}]", "must not be empty"))
    return found


def _address(text: str, path: str) -> list[Cause]:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return [invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


def _aliases(spec: PodSpec) -> list[Cause]:
    found: list[Cause] = []
    for index, alias in enumerate(spec.hostAliases):
        found += _address(alias.ip, f"spec.hostAliases[{index}].ip")
        for hostname in alias.hostnames:
            found += faulty(f"spec.hostAliases[{index}].hostnames", hostname, dns_subdomain_faults(hostname))
    return found


def _gates(spec: PodSpec) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for index, gate in enumerate(spec.schedulingGates):
        place = f"spec.schedulingGates[{index}]"
        found += faulty(place, gate.name, label_key_faults(gate.name))
        if gate.name in seen:
            found.append(duplicate(place, gate.name))
        seen.add(gate.name)
    for index, readiness in enumerate(spec.readinessGates):
        place = f"spec.readinessGates[{index}].conditionType"
        found += faulty(place, readiness.conditionType, label_key_faults(readiness.conditionType))
    return found


def _claims(spec: PodSpec) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for index, claim in enumerate(spec.resourceClaims):
        place = f"spec.resourceClaims[{index}]"
        if not claim.name:
            found.append(required(f"{place}.name"))
        elif claim.name in seen:
            found.append(duplicate(f"{place}.name", claim.name))
        seen.add(claim.name)
        given = [claim.resourceClaimName, claim.resourceClaimTemplateName]
        if given.count(None) != 1:
            why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            both = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            found.append(invalid(place, claim, why if given.count(None) else both))
    return found


def _security(context: PodSecurityContext, spec: PodSpec) -> list[Cause]:
    path = "spec.securityContext"
    found = identity(context.runAsUser, context.runAsGroup, path)
    found += within(f"{path}.fsGroup", context.fsGroup, 0, MAX_ID)
    for index, group in enumerate(context.supplementalGroups):
        found += within(f"{path}.supplementalGroups[{index}]", group, 0, MAX_ID)
    policies = ("Always", "OnRootMismatch")
    found += one_of(f"{path}.fsGroupChangePolicy", context.fsGroupChangePolicy or "", policies, needed=False)
    policies = ("Merge", "Strict")
    found += one_of(f"{path}.supplementalGroupsPolicy", context.supplementalGroupsPolicy or "", policies, needed=False)
    seen: set[str] = set()
    for index, sysctl in enumerate(context.sysctls):
        place = f"{path}.sysctls[{index}].name"
        if not sysctl.name:
            found.append(required(place))
        elif _SYSCTL.fullmatch(sysctl.name) is None:
            why = f"must have at most 253 characters and match regex ^{_SYSCTL.pattern}$"
            found.append(invalid(place, sysctl.name, why))
        elif sysctl.name in seen:
            found.append(duplicate(place, sysctl.name))
        seen.add(sysctl.name)
    if spec.shareProcessNamespace and spec.hostPID:
        why = "ShareProcessNamespace and HostPID cannot both be enabled"
        found.append(invalid("spec.shareProcessNamespace", True, why))
    if spec.hostUsers is False:
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if getattr(spec, name):
                found.append(forbidden(f"spec.{name}", "when `hostUsers` is false, it must not be set to true"))
    return found + profiles(context, path)
