"""A pod's /etc/hosts and host name. Pure."""

from __future__ import annotations

from apimachinery.kinds.pod import Pod

NAME_LIMIT = 63
HEAD = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def pod_hostname(pod: Pod) -> str:
    """spec.hostname, or the pod's name cut to what the kernel and DNS allow."""
    return (pod.spec.hostname or pod.metadata.name)[:NAME_LIMIT].rstrip("-.")


def hosts_file(pod: Pod, ips: tuple[str, ...]) -> str:
    """The loopback names, the pod's own addresses, and its host aliases."""
    text = HEAD + "".join(f"{ip}\t{pod_hostname(pod)}\n" for ip in ips)
    if pod.spec.hostAliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join("\t".join([alias.ip, *alias.hostnames]) + "\n" for alias in pod.spec.hostAliases)
    return text
