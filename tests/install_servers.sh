#!/usr/bin/env bash
# Installs the servers and the browser that the tests run for themselves, where that may be done without asking: on
# Debian and Ubuntu as root or with a sudo that wants no password. The system's own services are neither started nor stopped.
set -euo pipefail
PATH=$PATH:/usr/sbin:/usr/local/sbin:/usr/lib/rabbitmq/bin
shopt -s nullglob
for folder in /usr/lib/postgresql/*/bin; do PATH=$PATH:$folder; done

missing=()
command -v initdb > /dev/null || missing+=(postgresql)
command -v redis-server > /dev/null || missing+=(redis-server)
command -v rabbitmq-server > /dev/null || missing+=(rabbitmq-server)
command -v chromium > /dev/null || command -v google-chrome > /dev/null || missing+=(chromium)
((${#missing[@]})) || exit 0

give_up() {
    echo "The tests start these programs, which are not installed here: ${missing[*]}. $1" >&2
    echo "Install them (macOS: brew install postgresql redis rabbitmq chromium), or run what does without: see CONTRIBUTING.md" >&2
    exit 1
}
command -v apt-get > /dev/null || give_up "This system has no apt-get."
as_root=()
if ((EUID != 0)); then
    sudo -n true 2> /dev/null || give_up "Installing them takes root: sudo apt-get install ${missing[*]}"
    as_root=(sudo -n)
fi

echo "Installing ${missing[*]} with apt-get, without starting any service"
policy=/usr/sbin/policy-rc.d # Debian asks it before it starts a service; 101 says no
if [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin $policy
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq --yes --no-install-recommends "${missing[@]}" > /dev/null
