#!/usr/bin/env bash
# Installs the browser that the dashboard's tests drive. Debian or Ubuntu, as root; nothing where there is one.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
if [[ -z ${CHROMIUM:-} ]] && ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
  apt-get update -q
  apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core
fi

"${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}" --version
