"""Build the Debian package: `python deb/package.py --release bookworm --architecture arm64`.

One package for each Debian release, because a virtual environment belongs to one minor version of
Python: apt then refuses a mismatch, and an upgrade of the distribution takes the next one along.
It carries the environment ready made, so that installing is unpacking: no pip, no network, nothing
built on a Raspberry Pi. Every wheel comes from uv.lock by its hash, for the target and not for the
machine that builds; nothing is compiled. The same commit gives the same bytes.

Needs git, dpkg-deb, uv and cyclonedx-py: `make deb` sets up what is missing.
"""

from __future__ import annotations

import argparse
import email.parser
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
TEMPLATES = SOURCE / "deb"
HOME = Path("opt/yukimi")
SCRIPTS = ("postinst", "prerm", "postrm")
EXTRAS = ("cli", "pi")
# Named by colorzero, and used by nothing in it.
LEFT_OUT = ("setuptools",)
# Where a third party's driver goes: outside the package, so that an update leaves it alone.
LOCAL_DRIVERS = "/usr/local/lib/yukimi"
TOOLS = Path(sysconfig.get_path("scripts"))  # of the environment that runs this


@dataclass(frozen=True, slots=True)
class Target:
    """A Debian release on a machine."""

    release: str
    number: int  # of the release
    python: str
    architecture: str  # as Debian calls it

    @property
    def machine(self) -> str:
        """The same as the kernel calls it."""
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.architecture]

    @property
    def has_lgpio_wheel(self) -> bool:
        """Whether there is a wheel of lgpio; elsewhere the distribution's own serves, if any."""
        return self.python == "3.11" and self.architecture == "arm64"


# Number, Python, and the newest glibc that it has and uv can say.
RELEASES = {"bookworm": (12, "3.11", "2_36"), "trixie": (13, "3.13", "2_40")}


def main() -> int:
    """Build one package; print its path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--release", choices=RELEASES, required=True)
    parser.add_argument("--architecture", choices=("amd64", "arm64"), required=True)
    parser.add_argument("--revision", default="1", help="of the package (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=SOURCE / "dist")
    parser.add_argument("--fast", action="store_true", help="compress little: for tests")
    arguments = parser.parse_args()
    number, python, _ = RELEASES[arguments.release]
    target = Target(arguments.release, number, python, arguments.architecture)
    os.environ.setdefault("SOURCE_DATE_EPOCH", _git("log", "-1", "--format=%ct"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="yukimi-deb-") as folder:
        root = Path(folder) / "root"
        version = f"{_upstream()}-{arguments.revision}~deb{target.number}"
        site = environment(root, target, Path(folder))
        describe_build(root, target, version)
        system_files(root)
        bill_of_materials(root, site, Path(folder))
        documents(root, site)
        control(root, target, version)
        file: Path = arguments.out / f"yukimi_{version}_{target.architecture}.deb"
        pack(root, file, fast=arguments.fast)
    print(file)
    return 0


def environment(root: Path, target: Target, scratch: Path) -> Path:
    """Make the virtual environment as it will stand on the target; return its site-packages."""
    home = root / HOME
    site = home / "lib" / f"python{target.python}" / "site-packages"
    locked = scratch / "locked.txt"
    chosen = [word for extra in EXTRAS for word in ("--extra", extra)]
    pruned = [word for name in LEFT_OUT for word in ("--prune", name)]
    _uv("export", "-q", "--frozen", *chosen, *pruned, "--no-emit-project", "-o", locked)
    _uv(*_install(site, target), "--require-hashes", "-r", locked)
    wheels, backend = scratch / "wheel", scratch / "backend.txt"
    _uv("export", "-q", "--frozen", "--all-extras", "--no-emit-project", "-o", backend)
    _uv("build", "-q", "--wheel", "--require-hashes", "--build-constraints", backend, "-o", wheels)
    _uv(*_install(site, target), *wheels.glob("*.whl"))
    for tests in [*site.glob("numpy/**/tests")]:
        shutil.rmtree(tests)
    shutil.rmtree(site / "bin")  # commands of others
    # Of the machine and the hour of building nothing stays.
    for pattern in (".lock", "*.dist-info/direct_url.json", "*.dist-info/uv_cache.json"):
        for stray in site.glob(pattern):
            stray.unlink()
    for record in site.glob("*.dist-info/RECORD"):  # names what is there, and no more
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = (line for line in lines if (site / line.split(",")[0].strip('"')).exists())
        record.write_text("".join(kept), encoding="utf-8")
    (site / "yukimi-local.pth").write_text(f"{LOCAL_DRIVERS}\n")
    if not target.has_lgpio_wheel:
        triplet = f"{target.machine}-linux-gnu"
        module = f"_lgpio.cpython-{target.python.replace('.', '')}-{triplet}.so"
        for name in ("lgpio.py", module):  # no more of the system's packages than this one
            (site / name).symlink_to(f"/usr/lib/python3/dist-packages/{name}")
    binaries = home / "bin"
    binaries.mkdir()
    (binaries / "python3").symlink_to(f"/usr/bin/python{target.python}")
    (binaries / "python").symlink_to("python3")
    _write(
        binaries / "yukimi",
        # Isolated: neither the caller's environment nor his folder decides what is imported.
        f"#!/{HOME}/bin/python3 -I\nimport sys\n\nfrom agent.cli import main\n\nsys.exit(main())\n",
        mode=0o755,
    )
    _write(
        home / "pyvenv.cfg",
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {target.python}\n",
    )
    return site


def describe_build(root: Path, target: Target, version: str) -> None:
    """Leave what `yukimi --version` tells of the build."""
    build = {"package": version, "architecture": target.architecture, "commit": _commit()}
    _write(root / HOME / "build.json", json.dumps(build) + "\n")


def system_files(root: Path) -> None:
    """Put what is in systemd/ where systemd and udev look, and the command where people do."""
    for file in sorted(path for path in (SOURCE / "systemd").rglob("*") if path.is_file()):
        place = _place_of(file.relative_to(SOURCE / "systemd"))
        if place is not None:
            _write(root.joinpath(place), file.read_text(encoding="utf-8"))
    command = root / "usr/bin/yukimi"
    command.parent.mkdir(parents=True)
    command.symlink_to(f"/{HOME}/bin/yukimi")
    completions = {
        "bash": "usr/share/bash-completion/completions/yukimi",
        "zsh": "usr/share/zsh/vendor-completions/_yukimi",
    }
    for shell, target in completions.items():
        _write(root / target, _run(sys.executable, "-m", "agent", "completion", shell))
    shutil.copytree(SOURCE / "config/examples", root / "usr/share/doc/yukimi/examples")


def _place_of(file: Path) -> Path | None:
    name = file.name
    if name.endswith(".rules"):
        return Path("usr/lib/udev/rules.d", name)
    for kind in ("sysusers", "tmpfiles"):
        if kind in str(file):
            return Path(f"usr/lib/{kind}.d/yukimi.conf")
    if file.suffix in (".service", ".timer", ".socket", ".path", ".target", ".mount", ".slice"):
        return Path("usr/lib/systemd/system", file)
    if file.suffix == ".conf" and file.parent.suffix == ".d":
        return Path("usr/lib/systemd/system", file)
    return None


def bill_of_materials(root: Path, site: Path, scratch: Path) -> None:
    """Write a CycloneDX document of what is really in the environment."""
    described = scratch / "described"
    _run(sys.executable, "-m", "venv", "--without-pip", described)
    # Named to this environment and not in PYTHONPATH: cyclonedx-py would import what is shipped in
    # place of its own, and leave it compiled there.
    (folder,) = described.glob("lib/python*/site-packages")
    (folder / "shipped.pth").write_text(f"{site}\n", encoding="utf-8")
    file = root / HOME / "sbom.cdx.json"
    # Metadata are read, nothing is run: the target's machine does not matter.
    _run(
        TOOLS / "cyclonedx-py",
        *("environment", "--output-reproducible", "--spec-version", "1.6", "--of", "JSON"),
        *("--pyproject", SOURCE / "pyproject.toml", "-o", file, described),
        PYTHONPATH="",  # the caller's is no part of the package
    )
    document = json.loads(file.read_text(encoding="utf-8"))
    document["components"] = [c for c in document["components"] if c["name"] != "yukimi"]
    named = {str(metadata["Name"]): licence_of(metadata) for metadata, _ in bundled(site)}
    for component in document["components"]:  # some say it where cyclonedx-py does not look
        component.setdefault("licenses", [{"license": {"name": named[component["name"]]}}])
    file.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def documents(root: Path, site: Path) -> None:
    """Write the changelog and the copyright with the licence of everything bundled."""
    folder = root / "usr/share/doc/yukimi"
    _write(folder / "CHANGELOG.md", (SOURCE / "CHANGELOG.md").read_text(encoding="utf-8"))
    lines = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Upstream-Name: yukimi",
        "",
        "Files: *",
        "Copyright: the yukimi authors",
        "License: Apache-2.0",
    ]
    for metadata, info in sorted(bundled(site), key=lambda pair: str(pair[0]["Name"]).lower()):
        if metadata["Name"] == "yukimi":
            continue
        place = info.relative_to(root).parent
        texts = sorted(
            str(path.relative_to(root))
            for path in info.rglob("*")
            if path.is_file() and path.name.upper().startswith(("LICEN", "COPYING", "NOTICE"))
        )
        lines += [
            "",
            f"Files: {place}/{metadata['Name']} {metadata['Version']}",
            f"Copyright: {metadata['Author'] or metadata['Author-email'] or 'its authors'}",
            f"License: {licence_of(metadata)}",
            *(f" Text: /{text}" for text in texts),
        ]
    text = "License: Apache-2.0\n On Debian systems: /usr/share/common-licenses/Apache-2.0\n"
    _write(folder / "copyright", "\n".join([*lines, "", text]))


def bundled(site: Path) -> Iterator[tuple[Message, Path]]:
    """Yield the metadata of each distribution, and the folder that holds it."""
    for file in sorted(site.glob("*.dist-info/METADATA")):
        yield email.parser.Parser().parsestr(file.read_text(encoding="utf-8")), file.parent


def licence_of(metadata: Message) -> str:
    """Return the licence that a distribution gives for itself. Raises ValueError without one."""
    classifiers = [
        str(line).rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier", [])
        if str(line).startswith("License :: ")
    ]
    named = metadata["License-Expression"] or " and ".join(classifiers) or metadata["License"]
    if not named:
        raise ValueError(f"{metadata['Name']} names no licence: look it up before it is shipped")
    return str(named).splitlines()[0]


def control(root: Path, target: Target, version: str) -> None:
    """Write DEBIAN/: what dpkg knows, the scripts, and the sums."""
    folder = root / "DEBIAN"
    major, minor = target.python.split(".")
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    text = (TEMPLATES / "control").read_text(encoding="utf-8")
    _write(
        folder / "control",
        text.format(
            version=version,
            architecture=target.architecture,
            size_kib=sum((path.stat().st_size + 1023) // 1024 for path in files),
            python=target.python,
            python_after=f"{major}.{int(minor) + 1}",
            release=target.number,
            commit=_commit(),
            lgpio="" if target.has_lgpio_wheel else "python3-lgpio, ",
        ),
    )
    for name in SCRIPTS:
        _write(folder / name, (TEMPLATES / name).read_text(encoding="utf-8"), mode=0o755)
    sums = [f"{_md5(path)}  {path.relative_to(root)}\n" for path in sorted(files)]
    _write(folder / "md5sums", "".join(sums))


def pack(root: Path, file: Path, *, fast: bool) -> None:
    """Set modes and times that do not depend on the machine, and build."""
    for path in [root, *root.rglob("*")]:
        if path.is_symlink():
            continue
        executable = path.is_dir() or path.parent in (root / HOME / "bin", root / "DEBIAN")
        path.chmod(0o755 if executable and path.name not in ("control", "md5sums") else 0o644)
    compression = ("-Zgzip", "-z1") if fast else ("-Zxz",)
    _run("dpkg-deb", "--root-owner-group", *compression, "--build", root, file)


def _install(site: Path, target: Target) -> list[object]:
    glibc = RELEASES[target.release][2]
    return [
        *("pip", "install", "-q", "--no-build", "--no-deps", "--link-mode", "copy"),
        *("--python-version", target.python, "--python-platform"),
        *(f"{target.machine}-manylinux_{glibc}", "--target", site),
    ]


def _md5(file: Path) -> str:
    # What dpkg --verify compares with: against accidents, not against anybody.
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _upstream() -> str:
    with (SOURCE / "pyproject.toml").open("rb") as stream:
        return str(tomllib.load(stream)["project"]["version"])


def _commit() -> str:
    return _git("rev-parse", "--short=12", "HEAD") + (
        "+changes" if _git("status", "--porcelain", "-uno") else ""
    )


def _git(*arguments: str) -> str:
    return _run("git", *arguments).strip()


def _uv(*arguments: object) -> None:
    # Compiled by postinst, with the Python that will run it.
    _run(TOOLS / "uv", *arguments, UV_COMPILE_BYTECODE="false")


def _run(*command: object, **environment: str) -> str:
    """Run, in the source's folder; return what it printed. Raises CalledProcessError."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=SOURCE,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout


def _write(file: Path, text: str, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)


if __name__ == "__main__":
    sys.exit(main())
