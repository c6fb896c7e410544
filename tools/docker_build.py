"""`docker build`, with what a machine behind a proxy needs to reach the registries."""

from collections.abc import Mapping
from pathlib import Path

from tools.phase import phase

OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")


def build(image: str, dockerfile: str, folder: str, arguments: Mapping[str, str]) -> None:
    """Build ``image`` from ``dockerfile`` with ``folder`` as context.

    The host's network, because a build reads from package registries alone and some hosts resolve names only there.
    """
    options = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    with phase(f"Image {image}, built") as it:
        it.run("docker", "build", "--network", "host", *options, "-t", image, "-f", dockerfile, folder, timeout=1800)


def own_certificates(folder: Path = OWN_CERTIFICATES) -> str:
    """The certificates (PEM) that this machine's owner trusts beyond the usual ones; empty when there are none."""
    return "\n".join(path.read_text(encoding="ascii").strip() for path in sorted(folder.glob("**/*.crt")))


def certificate_argument() -> Mapping[str, str]:
    """EXTRA_CA as a build argument, only where there is something to pass."""
    certificates = own_certificates()
    return {"EXTRA_CA": certificates} if certificates else {}
