#!/usr/bin/env bash
# A Chromium for the browser tests: the system's, else Debian's where we are root, else Playwright's.
set -euo pipefail
playwright=$1
for name in chromium chromium-browser google-chrome google-chrome-stable; do
  if command -v "$name" >/dev/null 2>&1; then echo "Chromium: $(command -v "$name")"; exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  if (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium) >/dev/null; then
    echo "Chromium: $(command -v chromium)"
    exit 0
  fi
fi
exec "$playwright" install chromium
