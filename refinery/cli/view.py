"""The command that opens the viewer in a browser: view."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from refinery.cli.session import start
from refinery.errors import ConfigError
from refinery.sign_in import PASSWORD_VARIABLE, check_sign_in

app = typer.Typer()
_MODULE, _SERVER = "ui.app", "ui.serve"
_GRACE = 10
_FRUGAL = {"MALLOC_ARENA_MAX": "2"}
"""glibc keeps memory apart for each of many threads else, and the index reads with many: half as much is held."""


@app.command()
def view(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where it answers.")] = 8501,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="The address it listens on; another than this machine's own needs a sign-in."
        ),
    ] = "127.0.0.1",
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            help=f"Ask for the password that this file holds. Without it, for the one in {PASSWORD_VARIABLE}, if set.",
        ),
    ] = None,
    oidc: Annotated[
        Path | None,
        typer.Option(
            "--oidc",
            help="Sign in with OpenID Connect, as [auth] of this secrets.toml says; acts carry the name of who signed in.",
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, but write nothing.")] = False,
) -> None:
    """Browse, explain and flag samples in a browser. Ctrl-C stops it."""
    session = start(ctx, False)
    project = session.project
    script = _script()
    asked = check_sign_in(host, password_file, oidc, os.environ)
    options = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.maxUploadSize": "64",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    if oidc is not None:
        options["secrets.files"] = str(oidc.absolute())
    command = [sys.executable, "-m", _SERVER, "run", str(script)]
    command += [f"--{name}={value}" for name, value in options.items()]
    command += ["--", "--project", str(project.path), *asked, *(["--read-only"] if read_only else [])]
    shown = f"[{host}]" if ":" in host else host
    session.out.note(f"The viewer of {project.path}: http://{shown}:{port} (Ctrl-C stops it)")
    code = _stay(command, script.parent.parent)
    if code:
        raise ConfigError(
            f"The viewer ended with exit code {code}; what it said stands above. Is port {port} taken? Choose another "
            "one with --port.",
            kind="viewer_ended",
        )


def _script() -> Path:
    """The viewer's script, on the path or in the current folder. ConfigError when it or streamlit is not there."""
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError(
            "The viewer needs streamlit: install image-refinery[viewer].", kind="missing_package"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.util.find_spec(_MODULE)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise ConfigError(
            f"There is no module {_MODULE!r}: the viewer belongs to the checkout. Run from the checkout that has it.",
            kind="no_code_location",
        )
    return Path(found.origin)


def _stay(command: list[str], root: Path) -> int:
    """Run the viewer until it ends or this process is told to stop; its exit code, 0 when it was told."""
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    env = {**_FRUGAL, **os.environ, "PYTHONPATH": path}
    child = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(_GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
