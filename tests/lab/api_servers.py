"""Real API servers as plain processes on the loopback interface: etcd, kube-apiserver, kube-controller-manager.

No nodes: what is asked of a hub is asked of its API. Every server has an authority,
certificates and a folder of its own, and ends with the `with` that it was made by.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAMS = ("kube", "etcd")
ADDRESSES = ("127.0.0.1", "10.87.1.1", "10.87.2.1", "10.88.0.1", "10.67.0.1")
"""Where an API server may be reached: by itself, and through the links that tests make."""
CONTROLLERS = (
    "certificatesigningrequest-signing-controller,namespace-controller,serviceaccount-controller,"
    "token-cleaner-controller,garbage-collector-controller,clusterrole-aggregation-controller,"
    "validatingadmissionpolicy-status-controller"
)


def unpack_programs(image: Path, folder: Path) -> Path:
    """The programs of a built lab image."""
    words = ["tar", "--zstd", "-xf", str(image / "root.tar.zst"), "-C", str(folder), "--strip-components=2"]
    subprocess.run([*words, *(f"usr/bin/{name}" for name in PROGRAMS)], check=True)
    return folder


class Authority:
    """A certificate authority, and what it signs."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(self.name, self.key, 3650).add_extension(x509.BasicConstraints(True, None), critical=True)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        self.certificate = made.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: float) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        made = made.not_valid_before(now - datetime.timedelta(minutes=5)).serial_number(x509.random_serial_number())
        return made.not_valid_after(now + datetime.timedelta(days=days))

    def issue(self, user: str, groups: Sequence[str] = (), addresses: Sequence[str] = ()) -> tuple[str, str]:
        """Certificate and key (PEM) for a user of some groups, or a server at some addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        made = self._builder(x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, user)]), key, 365)
        if addresses:
            found = [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *found]), False)
        return pem(made.sign(self.key, hashes.SHA256())), private(key)


def pem(certificate: x509.Certificate) -> str:
    """A certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def private(key: ec.EllipticCurvePrivateKey) -> str:
    """A key as text."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class ApiServer:
    """A control plane without nodes. `stop` and `start` an API server to see what its clients make of it."""

    folder: Path
    programs: Path
    more: Sequence[str] = ()
    ports: tuple[int, int, int] = field(default_factory=lambda: (free_port(), free_port(), free_port()))
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    authority: Authority = field(default_factory=lambda: Authority("kubernetes"))

    @property
    def server(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{self.ports[0]}"

    @property
    def config(self) -> Path:
        """The kubeconfig of its administrator."""
        return self.folder / "admin.conf"

    def write_files(self) -> None:
        """Certificates and kubeconfig."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files = {"ca.crt": pem(self.authority.certificate), "ca.key": private(self.authority.key)}
        files["server.crt"], files["server.key"] = self.authority.issue("kube-apiserver", addresses=ADDRESSES)
        files["sa.key"] = private(ec.generate_private_key(ec.SECP256R1()))
        for name, text in files.items():
            (self.folder / name).write_text(text)
        self.config.write_text(self.make_config(*self.authority.issue("admin", ["system:masters"])))

    def make_config(self, certificate: str, key: str) -> str:
        """A kubeconfig with a client certificate."""

        def encode(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        cluster = {"server": self.server, "certificate-authority-data": encode((self.folder / "ca.crt").read_text())}
        user = {"client-certificate-data": encode(certificate), "client-key-data": encode(key)}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "clusters": [{"name": "it", "cluster": cluster}],
                "users": [{"name": "it", "user": user}],
            }
        )

    def start(self, *names: str) -> None:
        """Start some of the programs, or all, and wait until the API server is ready."""
        for name in names or ("etcd", "kube-apiserver", "kube-controller-manager"):
            with (self.folder / f"{name}.log").open("ab") as sink:
                self.running[name] = subprocess.Popen(
                    self.make_command(name), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
                )
        self.wait()

    def make_command(self, name: str) -> list[str]:
        """How a program is started."""
        here, (port, store, peer) = self.folder, self.ports
        own = f"http://127.0.0.1:{store}"
        if name == "etcd":
            words = f"--name=n --unsafe-no-fsync --log-level=error --data-dir={here}/etcd --listen-client-urls={own}"
            words += f" --advertise-client-urls={own} --initial-cluster=n=http://127.0.0.1:{peer}"
            words += f" --listen-peer-urls=http://127.0.0.1:{peer} --quota-backend-bytes=4294967296"
            words += f" --initial-advertise-peer-urls=http://127.0.0.1:{peer}"
            return [str(self.programs / "etcd"), *words.split()]
        if name == "kube-controller-manager":
            words = f"--kubeconfig={self.config} --controllers={CONTROLLERS} --leader-elect=false --secure-port=0"
            words += f" --cluster-signing-cert-file={here}/ca.crt --cluster-signing-key-file={here}/ca.key"
            words += f" --service-account-private-key-file={here}/sa.key --kube-api-qps=400 --kube-api-burst=800"
        else:
            words = f"--etcd-servers={own} --secure-port={port} --bind-address=127.0.0.1"
            words += " --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --authorization-mode=Node,RBAC"
            words += f" --tls-cert-file={here}/server.crt --tls-private-key-file={here}/server.key"
            words += f" --client-ca-file={here}/ca.crt --enable-bootstrap-token-auth"
            words += f" --service-account-issuer={self.server} --service-account-key-file={here}/sa.key"
            words += f" --service-account-signing-key-file={here}/sa.key --service-cluster-ip-range=10.43.0.0/24"
        return [str(self.programs / "kube"), name, *words.split(), *self.more]

    def wait(self, seconds: float = 90) -> None:
        """Until the API server is ready."""
        context = ssl.create_default_context(cadata=(self.folder / "ca.crt").read_text())
        end = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"{self.server}/readyz", context=context, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            for name, process in self.running.items():
                assert process.poll() is None, f"{name}: {(self.folder / f'{name}.log').read_text()[-3000:]}"
            assert time.monotonic() < end, (self.folder / "kube-apiserver.log").read_text()[-3000:]
            time.sleep(0.2)

    def stop(self, *names: str) -> None:
        """End some of the programs, or all."""
        for name in names or tuple(reversed(self.running)):
            process = self.running.pop(name)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def api_server(folder: Path, programs: Path, *more: str) -> Iterator[ApiServer]:
    """A running control plane; `more` are options of its API server."""
    made = ApiServer(folder, programs, more)
    made.write_files()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@contextmanager
def running_beside(folder: Path, programs: Path, commands: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """More programs of Kubernetes, which must live as long as the `with`; logs by the names of `commands`."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                argv = [str(programs / "kube"), *command]
                processes[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        yield
        ended = {
            name: (folder / f"{name}.log").read_text() for name, each in processes.items() if each.poll() is not None
        }
        assert ended == {}
    finally:
        for process in processes.values():
            process.terminate()
            process.wait(20)


@contextmanager
def api_servers(folder: Path, programs: Path, names: Sequence[str]) -> Iterator[dict[str, ApiServer]]:
    """Several of them, started side by side."""
    made = {name: ApiServer(folder / name, programs) for name in names}
    with ExitStack() as stack:
        for each in made.values():
            each.write_files()
            stack.callback(each.stop)
        starts = [threading.Thread(target=each.start) for each in made.values()]
        for thread in starts:
            thread.start()
        for thread in starts:
            thread.join()
        for each in made.values():
            each.wait()
        yield made
