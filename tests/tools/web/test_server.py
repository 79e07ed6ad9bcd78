"""A test of the server from outside: Ctrl-C while it paints and is watched."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2

PATIENCE = float(os.environ.get("IMPASTO_PATIENCE", "1"))
PHOTO = Path(__file__).parents[3] / "examples" / "photo.jpg"
LONG = {"style": "udnie", "method": "optimize", "size": "1024"}


def test_ctrl_c_ends_what_is_painted_and_leaves_nothing(tmp_path: Path) -> None:
    """A long painting, and a client that watches it, both end within seconds.

    The exit code is 0 and no file is left.
    """
    command = [sys.executable, "-u", "-m", "impasto", "serve", "--port", "0"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert server.stdout is not None
    address = re.findall(r"http://[\d.:]+", server.stdout.readline())[0]
    files = {"content": ("photo.jpg", PHOTO.read_bytes())}
    job = httpx2.post(f"{address}/v1/jobs", files=files, data=LONG, timeout=60 * PATIENCE).json()["id"]
    seen, told = "", False
    with httpx2.stream("GET", f"{address}/v1/jobs/{job}/events", timeout=60 * PATIENCE) as events:
        for line in events.iter_lines():
            if not line.startswith("data: "):
                continue
            view = json.loads(line.removeprefix("data: "))
            seen = view["status"]
            if view["frames"] and not told:
                server.send_signal(signal.SIGINT)
                told = True
    _, errors = server.communicate(timeout=20 * PATIENCE)
    assert seen == "stopped"
    assert server.returncode == 0, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("impasto-studio-*"))
