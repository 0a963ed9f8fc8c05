"""Certificates for a scenario: each trusted by itself."""

import subprocess


def make(folder, name, *addresses, as_file=None):
    """Makes a certificate of that host name and those IP addresses: the paths of its PEM and of its key."""
    certificate, key, config = (folder / f"{as_file or name}.{kind}" for kind in ("pem", "key", "cnf"))
    names = ",".join([f"DNS:{name}", *(f"IP:{address}" for address in addresses)])
    # A server's own, and no authority's: rustls tells them apart.
    config.write_text(f"[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName={names}\n")
    argv = ["openssl", "req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*argv, "-subj", f"/CN={name}", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key
