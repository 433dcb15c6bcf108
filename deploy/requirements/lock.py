"""Resolves the lock files in this folder with uv: hashes, but no host names, so any mirror will do.

What is locked stays at its version while it fits; `lock.py --upgrade` takes the newest of everything.

serve.txt   what `pointsman serve` needs: exactly pyproject.toml's dependencies
build.txt   what installs the package itself
dev.txt     tests, lint, types
fuzz.txt    Schemathesis, for `make fuzz`
train.txt   the `train` extra with torch's CPU build, which pip must be able to find (its find-links or an extra index)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SERVE = HERE / "serve.txt"
COMMON = ("--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header")


def compile_lock(name: str, *arguments: str) -> None:
    """Write one lock file."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *COMMON, *sys.argv[1:], *arguments]
    subprocess.run([*command, "-o", str(HERE / name)], cwd=ROOT, check=True)


def main() -> None:
    """Write all lock files; those after the first agree with it."""
    everywhere = ("--universal", "--python-version", "3.11")
    # The hub's download accelerator comes with tokenizers' hub client; serving downloads nothing, and it is 11 MB.
    compile_lock("serve.txt", "pyproject.toml", "--no-emit-package", "hf-xet", *everywhere)
    for group in ("build", "dev", "fuzz"):
        compile_lock(f"{group}.txt", "--group", group, "-c", str(SERVE), *everywhere)
    # uv does not read pip's find-links, so a local folder of wheels has to be named.
    links = [argument for link in os.environ.get("PIP_FIND_LINKS", "").split() for argument in ("--find-links", link)]
    compile_lock("train.txt", str(HERE / "train.in"), "-c", str(SERVE), "--python-version", "3.11", *links)


if __name__ == "__main__":
    main()
