"""Where Cortex is and the key to it: kept in a file that its owner alone can read."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cortex.cli.failures import Exit, Failure

URL = "http://localhost:8000"
GATEWAY = "http://localhost:8001"


@dataclass(frozen=True)
class Login:
    """Addresses and a key; empty where nothing was said."""

    url: str = ""
    token: str = ""
    gateway: str = ""

    def with_defaults(self, kept: "Login") -> "Login":
        """What was said now, else what was kept, else where `./dev up` serves. A kept key stays with its address."""
        same = not self.url or self.url == kept.url
        return Login(
            url=self.url or kept.url or URL,
            token=self.token or (kept.token if same else ""),
            gateway=self.gateway or (kept.gateway if same else "") or GATEWAY,
        )


def path() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if home else Path.home() / ".config") / "cortex" / "login.json"


def kept() -> Login:
    """What `cortex login` kept. Raises Failure when the file is damaged."""
    try:
        return Login(**json.loads(path().read_text()))
    except FileNotFoundError:
        return Login()
    except (ValueError, TypeError, OSError) as error:
        what = f"{path()} cannot be read."
        raise Failure(what, str(error), "Remove the file and run: cortex login", Exit.USAGE) from error


def keep(login: Login) -> Path:
    """Write the file, readable by its owner alone from the first byte. Raises Failure."""
    target = path()
    fresh = target.with_suffix(".new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(login), file, indent=2)
        fresh.replace(target)
    except OSError as error:
        next = "Make the folder writable, or set CORTEX_URL and CORTEX_TOKEN instead."
        raise Failure(f"{target} cannot be written.", str(error), next) from error
    return target
