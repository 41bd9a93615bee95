"""What Kubernetes would say of a kernel, said at build time: its options, and the modules that are shipped."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from cumulet.core.errors import Problem, TargetError


@dataclass(frozen=True, slots=True)
class Option:
    """A kernel option; `module` is the module it makes when it is not built in."""

    name: str
    module: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What must be there, and what had better be."""

    needed: tuple[Option, ...]
    wished: tuple[Option, ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules to ship, wished ones included."""
        return tuple(dict.fromkeys(each.module for each in (*self.needed, *self.wished) if each.module))


def _plain(names: str) -> tuple[Option, ...]:
    return tuple(Option(name) for name in names.split())


COMMON = (
    *_plain("NAMESPACES NET_NS PID_NS IPC_NS UTS_NS CGROUPS CGROUP_PIDS CGROUP_DEVICE CGROUP_FREEZER"),
    *_plain("CGROUP_SCHED FAIR_GROUP_SCHED CFS_BANDWIDTH CPUSETS MEMCG BLK_CGROUP CGROUP_BPF BPF_SYSCALL"),
    *_plain("SECCOMP SECCOMP_FILTER KEYS POSIX_MQUEUE INET EPOLL FHANDLE"),
    Option("OVERLAY_FS", "overlay", "file systems of containers"),
    Option("VETH", "veth", "network of pods"),
    Option("NF_CONNTRACK", "nf_conntrack", "services"),
    Option("NF_NAT", "nf_nat", "services"),
)
WISHED = (
    *_plain("CGROUP_HUGETLB CGROUP_PERF USER_NS PSI"),
    Option("NF_CT_NETLINK", "nf_conntrack_netlink", "old connections to services are cleaned up"),
)
KUBEADM = Requirements(
    (
        *COMMON,
        Option("NF_TABLES", "nf_tables", "services"),
        Option("NFT_CT", "nft_ct", "services"),
        Option("NFT_NAT", "nft_nat", "services"),
        Option("NFT_NAT", "nft_chain_nat", "services"),
        Option("NFT_MASQ", "nft_masq", "pods reach the world"),
        Option("NFT_REJECT", "nft_reject_ipv4", "services without pods"),
        Option("NFT_NUMGEN", "nft_numgen", "services with many pods"),
        Option("NFT_HASH", "nft_hash", "session affinity"),
        Option("NFT_FIB_IPV4", "nft_fib_ipv4", "node ports"),
    ),
    (*WISHED, Option("NFT_FIB_IPV6", "nft_fib_ipv6", "node ports over IPv6"), Option("VXLAN", "vxlan", "flannel")),
)
K3S = Requirements(
    (
        *COMMON,
        Option("BRIDGE", "bridge", "network of pods"),
        Option("BRIDGE_NETFILTER", "br_netfilter", "services between pods of one node"),
        Option("IP_NF_FILTER", "iptable_filter", "network policies"),
        Option("IP_NF_NAT", "iptable_nat", "services"),
        Option("IP_NF_MANGLE", "iptable_mangle", "services"),
        Option("NETFILTER_XT_MATCH_ADDRTYPE", "xt_addrtype", "node ports"),
        Option("NETFILTER_XT_MATCH_COMMENT", "xt_comment", "services"),
        Option("NETFILTER_XT_MATCH_CONNTRACK", "xt_conntrack", "services"),
        Option("NETFILTER_XT_MATCH_MULTIPORT", "xt_multiport", "services"),
        Option("NETFILTER_XT_MATCH_STATISTIC", "xt_statistic", "services with many pods"),
        Option("NETFILTER_XT_MARK", "xt_mark", "services"),
        Option("NETFILTER_XT_NAT", "xt_nat", "services"),
        Option("NETFILTER_XT_TARGET_MASQUERADE", "xt_MASQUERADE", "pods reach the world"),
        Option("NETFILTER_XT_TARGET_REDIRECT", "xt_REDIRECT", "host ports"),
        Option("VXLAN", "vxlan", "network between nodes"),
    ),
    (
        *WISHED,
        Option("IP_SET", "ip_set", "network policies"),
        Option("NETFILTER_XT_SET", "xt_set", "network policies"),
        Option("NETFILTER_XT_MATCH_LIMIT", "xt_limit", "network policies"),
        Option("NETFILTER_XT_TARGET_NFLOG", "xt_NFLOG", "network policies"),
        Option("IP_NF_TARGET_REJECT", "ipt_REJECT", "network policies"),
    ),
)


def read_config(text: str) -> dict[str, str]:
    """Option -> `y`, `m` or its value, of a kernel's config file."""
    return {match[1]: match[2] for match in re.finditer(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE)}


def problems(
    requirements: Requirements, config: str, modules: Collection[str], builtin: Collection[str], file: str
) -> list[Problem]:
    """What Kubernetes would fail on. `file` names the kernel config."""
    return _judge(requirements.needed, config, _normal([*modules, *builtin]), file)


def warnings(
    requirements: Requirements, config: str, modules: Collection[str], builtin: Collection[str], file: str
) -> list[Problem]:
    """What Kubernetes would do without."""
    return _judge(requirements.wished, config, _normal([*modules, *builtin]), file)


def check_kernel(
    requirements: Requirements, config: str, modules: Collection[str], builtin: Collection[str], file: str
) -> None:
    """Raise TargetError naming every option and module that is missing."""
    found = problems(requirements, config, modules, builtin, file)
    if found:
        lines = "\n".join(f"  {each.message}" for each in found)
        raise TargetError(f"{file}: Kubernetes would not run on this kernel:\n{lines}", hint=found[0].hint)


def _normal(names: Collection[str]) -> set[str]:
    return {name.rpartition("/")[2].split(".ko")[0].replace("-", "_") for name in names}


def _judge(options: Collection[Option], config: str, modules: set[str], file: str) -> list[Problem]:
    values = read_config(config)
    found: list[Problem] = []
    for option in options:
        why = f" ({option.why})" if option.why else ""
        value = values.get(option.name)
        if value is None:
            found.append(
                Problem(file, 0, 0, f"CONFIG_{option.name} is not set{why}", "name another kernel package in the board")
            )
        elif value == "m" and (not option.module or option.module.replace("-", "_") not in modules):
            name = option.module or option.name.lower()
            found.append(
                Problem(
                    file, 0, 0, f"CONFIG_{option.name} is the module {name}, which is not in the image{why}",
                    f"add {name} to the board's kernel modules",
                )
            )  # fmt: skip
    return found
