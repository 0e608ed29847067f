"""Who is trusted in a lab: its one certificate authority, and the kubeconfigs that carry its root and the tokens.

API servers, kubelets, webhooks and the workloads of both meshes trust this authority. Private keys of servers live in
files of mode 0600 below the lab's folder, since ``ssl`` reads chains from files only.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import json
import os
import secrets
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshbook.lab.topology import FLEET_EXTENSION, LAB_EXTENSION, PROJECT, ClusterTopology, LabTopology
from meshbook.objects import Object

VALIDITY = timedelta(days=30)
CLOCK_SKEW = timedelta(minutes=5)


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` by atomic rename; only the owner may read it (mode 0600)."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


class Authority:
    """A root of trust. ``folder`` keeps ``root.pem`` and the chains that servers and clients were given."""

    def __init__(
        self, folder: Path, name: str = "meshbook lab root CA", *, given: tuple[str, str] | None = None
    ) -> None:
        """Make a root that is called ``name``, or take one that is ``given`` as certificate and key, both PEM."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if given:
            certificate, key = given[0].encode(), serialization.load_pem_private_key(given[1].encode(), None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError("a root's key is one of an elliptic curve here")
            self._key, self._certificate = key, x509.load_pem_x509_certificate(certificate)
            self._name = self._certificate.subject
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            self._certificate = self._self_signed()
        self._secret = secrets.token_bytes(32)
        self.key_pem = _key_pem(self._key)
        self.root_pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.root_file = folder / "root.pem"
        self.root_file.write_text(self.root_pem)

    def _self_signed(self) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + VALIDITY)
        )

    def issue(self, common_name: str, names: Sequence[x509.GeneralName]) -> tuple[str, str]:
        """Return (certificate chain PEM, private key PEM) for server and client use."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        builder = (
            self._builder(subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=not common_name)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        return certificate, _key_pem(key)

    def issue_workload(self, spiffe_id: str) -> tuple[str, str]:
        """Return (certificate PEM, key PEM) whose only identity is the URI ``spiffe_id``, as a SPIFFE X.509-SVID."""
        return self.issue("", [x509.UniformResourceIdentifier(spiffe_id)])

    def token(self, name: str) -> str:
        """Return the token that proves to who has this authority that its bearer is ``name``."""
        return hmac.new(self._secret, name.encode(), "sha256").hexdigest()

    def server_context(self, name: str, addresses: Sequence[str], *, require_client: bool = False) -> ssl.SSLContext:
        """Return TLS settings of a server that is called ``name`` and listens on ``addresses``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file(name, addresses))
        if require_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.root_pem)
        return context

    def client_context(self, name: str) -> ssl.SSLContext:
        """Return TLS settings of a client that trusts this authority and shows a certificate for ``name``."""
        context = ssl.create_default_context(cadata=self.root_pem)
        context.load_cert_chain(self.chain_file(name, []))
        return context

    def chain_file(self, name: str, addresses: Sequence[str]) -> Path:
        """Return a file with a certificate for ``name`` and ``addresses``, and its key."""
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        certificate, key = self.issue(name, names)
        chain = self.folder / f"{name}.pem"
        write_private(chain, certificate + key)
        return chain


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def fleet_kubeconfig(topology: LabTopology, root_pem: str, tokens: Mapping[str, str]) -> str:
    """Return the kubeconfig of all clusters as JSON, which is YAML; ``tokens`` is keyed by user name.

    Who owns a cluster has its name, and so has the context; who may only look, and that context, is its ``viewer``.
    The cluster entries say in extensions, a place that kubectl leaves alone, where the fleet API is and where the lab
    is asked for faults. So this one file is all that the runbook needs, as with two real clusters.
    """
    fleet = {"endpoint": topology.fleet_url, "token-file": str(topology.fleet_token_file), "project": PROJECT}
    control = {"endpoint": topology.control_url, "token-file": str(topology.control_token_file)}
    entries = []
    for cluster in topology.clusters:
        entry = _cluster_entry(cluster, root_pem)
        entry["cluster"]["extensions"] = [
            {"name": FLEET_EXTENSION, "extension": fleet},
            {"name": LAB_EXTENSION, "extension": {**control, "cluster": cluster.name}},
        ]
        entries.append(entry)
    owners = {cluster.name: cluster.name for cluster in topology.clusters}
    viewers = {cluster.viewer: cluster.name for cluster in topology.clusters if cluster.viewer in tokens}
    return _kubeconfig(entries, owners | viewers, tokens)


def cluster_kubeconfig(cluster: ClusterTopology, root_pem: str, token: str) -> str:
    """Return the kubeconfig of one cluster, as a remote secret holds it: how one istiod reads another cluster."""
    return _kubeconfig([_cluster_entry(cluster, root_pem)], {cluster.name: cluster.name}, {cluster.name: token})


def _cluster_entry(cluster: ClusterTopology, root_pem: str) -> Object:
    authority = base64.b64encode(root_pem.encode()).decode()
    return {"name": cluster.name, "cluster": {"server": cluster.api_url, "certificate-authority-data": authority}}


def _kubeconfig(clusters: Sequence[Object], users: Mapping[str, str], tokens: Mapping[str, str]) -> str:
    """Return a kubeconfig with a context for each of ``users``, which leads to the cluster that is named there."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": clusters[0]["name"],
        "clusters": clusters,
        "users": [{"name": user, "user": {"token": tokens[user]}} for user in users],
        "contexts": [{"name": user, "context": {"cluster": cluster, "user": user}} for user, cluster in users.items()],
    }
    return json.dumps(document, indent=2) + "\n"
