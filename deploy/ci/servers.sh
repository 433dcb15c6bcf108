#!/usr/bin/env bash
# Installs the servers that tests of stores start: PostgreSQL, and Valkey or Redis. Debian or Ubuntu, as root.
# Starts none: the tests start their own, on free ports and in temporary folders.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
# Installing must not start a server of the system's own.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi

wanted=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || wanted+=(postgresql)
if ! command -v valkey-server >/dev/null && ! command -v redis-server >/dev/null; then
  wanted+=(cache)
fi
if ((${#wanted[@]})); then
  apt-get update -q
  for name in "${wanted[@]}"; do
    if [[ $name == cache ]]; then
      # Debian 12 has Redis only, later ones Valkey.
      if apt-cache show valkey-server >/dev/null 2>&1; then name=valkey-server; else name=redis-server; fi
    fi
    apt-get install -y -q --no-install-recommends "$name"
  done
fi

ls /usr/lib/postgresql/*/bin/initdb
command -v valkey-server || command -v redis-server
