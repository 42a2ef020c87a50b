"""An authority that signs certificates of servers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


class Authority:
    """`file`: its certificate, which clients trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        made = self._begin(self._name, self._key.public_key(), DAY)
        unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
                  "decipher_only", "digital_signature")  # fmt: skip
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = made.add_extension(
            x509.KeyUsage(key_cert_sign=True, crl_sign=True, **dict.fromkeys(unused, False)), critical=True
        )
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, addresses: Sequence[str] = ("127.0.0.1",), ends: timedelta = DAY) -> Path:
        """A file with a key and a certificate for localhost and these addresses, which ends in `ends` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        hosts = [x509.DNSName("localhost"), *(x509.IPAddress(ip_address(address)) for address in addresses)]
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        made = self._begin(subject, key.public_key(), ends)
        signed = made.add_extension(x509.SubjectAlternativeName(hosts), critical=False).sign(self._key, hashes.SHA256())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file = self._folder / f"{name}.pem"
        file.write_bytes(key.private_bytes(*form) + signed.public_bytes(serialization.Encoding.PEM))
        file.chmod(0o600)
        return file

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, ends: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
