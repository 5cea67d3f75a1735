"""Certificates: a small authority on disk, and TLS contexts for servers and clients.

Keys are ECDSA P-256. Leaf certificates last a year and are issued again by `issue` when they are missing, belong to
another authority, or have less than a third of their life left. Private keys are written with mode 0600.
Only http/1.1 is offered in ALPN: a client that negotiates h2 cannot upgrade a connection.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
LEAF_DAYS = 365


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate and its key, both PEM."""

    certificate: Path
    key: Path


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` at once; nobody ever reads half a file, nor one with a wider mode."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common_name: str, organizations: tuple[str, ...] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class Authority:
    """A certificate authority kept in a directory as `ca.crt` and `ca.key`."""

    def __init__(self, directory: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.directory = directory
        self._certificate = certificate
        self._key = key

    @property
    def certificate_path(self) -> Path:
        return self.directory / "ca.crt"

    @classmethod
    def load_or_create(cls, directory: Path, common_name: str = "pyctl-ca") -> Authority:
        """The authority in `directory`, made if need be. Raises ValueError naming the file at fault."""
        directory.mkdir(parents=True, exist_ok=True)
        certificate_path, key_path = directory / "ca.crt", directory / "ca.key"
        if certificate_path.exists() and key_path.exists():
            try:
                certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
                key = serialization.load_pem_private_key(key_path.read_bytes(), None)
            except ValueError as error:
                raise ValueError(f"{certificate_path} or {key_path}: not a PEM certificate and key: {error}") from error
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError(f"{key_path}: not an elliptic-curve key")
            return cls(directory, certificate, key)
        if certificate_path.exists() or key_path.exists():
            there, missing = (certificate_path, key_path) if certificate_path.exists() else (key_path, certificate_path)
            raise ValueError(f"{missing} is missing beside {there}: put it back, or move the other away for a new one")
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(common_name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_private(key_path, _pem(key))
        write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return cls(directory, certificate, key)

    def issue(
        self,
        name: str,
        *,
        common_name: str,
        organizations: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
        server: bool = False,
        client: bool = False,
    ) -> KeyPair:
        """`<directory>/<name>.crt` and `.key` for this subject; what is there already is kept while it still serves.

        hosts: DNS names and IP addresses of a server certificate.
        """
        pair = KeyPair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        if self._serves(pair, _name(common_name, organizations), hosts):
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name, organizations))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=LEAF_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(hosts)), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        write_private(pair.key, _pem(key))
        write_private(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return pair

    def _serves(self, pair: KeyPair, subject: x509.Name, hosts: tuple[str, ...]) -> bool:
        if not (pair.certificate.exists() and pair.key.exists()):
            return False
        try:
            old = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
            old.verify_directly_issued_by(self._certificate)
        except Exception:  # unreadable, foreign or forged: in each case a new one is issued
            return False
        remaining = old.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        names: set[x509.GeneralName] = set()
        with contextlib.suppress(x509.ExtensionNotFound):
            names = set(old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        return (
            old.subject == subject
            and set(_alternatives(hosts)) <= names
            and remaining > datetime.timedelta(days=LEAF_DAYS / 3)
        )


def _alternatives(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not sign_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def server_context(
    certificate: Path, key: Path, client_ca: Path | None = None, *, require_client: bool = False
) -> ssl.SSLContext:
    """For a server: with `client_ca`, client certificates are verified, and demanded with `require_client`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context


def client_context(ca: Path, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """For a client that trusts `ca` alone and shows `certificate` if asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
