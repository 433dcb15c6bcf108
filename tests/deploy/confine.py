"""Runs a command in an unpacked image the way the compose files ask for; `containers.py` starts this with `unshare`.

    confine.py SIGNAL ROOT USER CONFIG COMMAND...    (as root, in mount and PID namespaces of its own)

SIGNAL is a file descriptor that gets a byte once everything is set up. Read-only root, a small /tmp, the
configuration bound to its place, no capabilities, no new privileges. Changes what is mounted, nothing else; the
namespace takes it along when it ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

from documents import CONFIG_IN_IMAGE  # type: ignore[import-not-found]  # a script: its own folder is on the path

DEVICES = ("null", "zero", "random", "urandom")
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def bind_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    mount("--bind", source, target)


def bring_loopback_up() -> None:
    """A new network namespace has its loopback interface down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0)))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def main() -> None:
    ready, root, user, config, *command = sys.argv[1:]
    top = Path(root)
    mount("--make-rprivate", "/")
    mount("--bind", top, top)
    for device in DEVICES:
        bind_file(Path("/dev") / device, top / "dev" / device)
    bind_file(Path(config), top / CONFIG_IN_IMAGE.lstrip("/"))
    mount("-o", "remount,bind,ro", top / CONFIG_IN_IMAGE.lstrip("/"))
    mount("-t", "tmpfs", "-o", "noexec,nosuid,nodev,size=64m", "tmpfs", top / "tmp")
    mount("-t", "proc", "proc", top / "proc")
    mount("-o", "remount,bind,ro", top)
    bring_loopback_up()
    os.chroot(top)
    os.chdir("/")
    os.write(int(ready), b".")
    os.close(int(ready))
    uid, gid = user.split(":")
    drop = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--clear-groups"]
    # By the image's PATH: that is where the container's commands come from.
    os.execvp("setpriv", ["setpriv", f"--reuid={uid}", f"--regid={gid}", *drop, *command])


if __name__ == "__main__":
    main()
