#!/bin/sh
# Prints the Python of the environment that benchmarks/peers.lock describes; makes it in the cache folder when it is not there.
# usage: deploy/peers.sh
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

pins=benchmarks/peers.lock
venv=$cache/peers-$(digest <$pins | cut -c1-16)

make_peers() {
    [ ! -e "$venv/.complete" ] || return 0
    rm -rf "$venv" && "$uv" venv --quiet --python .venv/bin/python "$venv" &&
        UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} "$uv" pip sync --quiet --python "$venv/bin/python" --require-hashes $pins &&
        : >"$venv/.complete"
}

if [ ! -e "$venv/.complete" ]; then
    {
        find_uv
        quietly "installing the benches' peers into $venv (about 700 MB)" alone peers make_peers
    } >&2
fi
echo "$venv/bin/python"
