"""What a pod's resolv.conf holds, by its dnsPolicy. Pure; the host's file is passed in as text.

There is no cluster DNS yet: ClusterFirst and ClusterFirstWithHostNet then mean Default, the host's own resolver.
"""

from __future__ import annotations

from apimachinery.kinds.pod import Pod
from pb.cri.v1 import api_pb2 as cri

MAX_SERVERS = 3


def dns_config(
    pod: Pod, host_resolv_conf: str, *, cluster_servers: tuple[str, ...] = (), cluster_domain: str = ""
) -> cri.DNSConfig:
    """cluster_servers: the addresses of the cluster's DNS, if there is one, for names under cluster_domain."""
    policy = pod.spec.dnsPolicy or "ClusterFirst"
    if policy == "None":
        config = cri.DNSConfig()
    elif policy == "Default" or not cluster_servers or (policy == "ClusterFirst" and pod.spec.hostNetwork):
        config = parse_resolv_conf(host_resolv_conf)
    else:
        host = parse_resolv_conf(host_resolv_conf)
        searches = [f"{pod.metadata.namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        config = cri.DNSConfig(servers=cluster_servers, searches=[*searches, *host.searches], options=["ndots:5"])
    return _with_additions(config, pod)


def parse_resolv_conf(text: str) -> cri.DNSConfig:
    """nameserver, search (the last line wins) and options lines."""
    config = cri.DNSConfig()
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            config.servers.append(words[1])
        elif words[0] in ("search", "domain"):
            config.searches[:] = words[1:]
        elif words[0] == "options":
            config.options[:] = words[1:]
    return config


def _with_additions(config: cri.DNSConfig, pod: Pod) -> cri.DNSConfig:
    """dnsConfig adds servers and searches, and replaces options of the same name."""
    more = pod.spec.dnsConfig
    if more is not None:
        config.servers[:] = list(dict.fromkeys([*config.servers, *more.nameservers]))
        config.searches[:] = list(dict.fromkeys([*config.searches, *more.searches]))
        options = {option.partition(":")[0]: option for option in config.options}
        for option in more.options:
            options[option.name] = f"{option.name}:{option.value}" if option.value else option.name
        config.options[:] = options.values()
    del config.servers[MAX_SERVERS:]
    return config
