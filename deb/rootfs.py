"""Small Debian systems to try the package in, made once and kept outside the tree.

`python deb/rootfs.py bookworm trixie` prints a folder each; needs root and mmdebstrap.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PACKAGES = {
    "bookworm": "mosquitto,python3,systemd-sysv,tzdata",
    # One of the two that the package asks for; nothing boots here.
    "trixie": "mosquitto,python3,systemd-standalone-sysusers,tzdata",
}
OPTIONS = (
    "--variant=apt",
    "--dpkgopt=force-unsafe-io",  # a power cut while it is made only costs making it again
)


def rootfs(release: str) -> Path:
    """Return the folder of a release's system, made if it is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yukimi" / "rootfs"
    folder = cache / f"{release}-{PACKAGES[release].replace(',', '-')}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        beside = cache / f"{release}.{os.getpid()}"
        command = ["mmdebstrap", *OPTIONS, f"--include={PACKAGES[release]}", release, str(beside)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
        try:
            beside.rename(folder)
        except OSError:  # somebody else was faster
            shutil.rmtree(beside)
    return folder


if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:
        for made in pool.map(rootfs, sys.argv[1:]):
            print(made)
