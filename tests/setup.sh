#!/usr/bin/env bash
# Puts what the tests need into a cache folder and touches nothing else:
#   <cache>/bin/minio   a real S3 server, built from its Go module at a pinned version
#   <cache>/venv        Python with readers of Delta tables that are not ours
# What is there in the right version is left alone. Tools of the system are asked of apt-get, when they are missing.
set -euo pipefail

cache=${LAKEMERGE_CACHE:-$HOME/.cache/lakemerge}
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
readers=(
    deltalake==1.6.6
    polars==2.1.0
    pyarrow==26.0.1
    duckdb==1.5.5
    duckdb-extensions==1.5.5
    duckdb-extension-delta==1.5.5
    duckdb-extension-httpfs==1.5.5
    boto3==1.44.5
)

fail() {
    echo "setup: $*" >&2
    exit 1
}

# ensure COMMAND REMEDY PACKAGE...: installs the Debian packages if the command fails.
refreshed=no
ensure() {
    local probe=$1 remedy=$2
    shift 2
    if eval "$probe" >/dev/null 2>&1; then return; fi
    local sudo=()
    if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
    if command -v apt-get >/dev/null && command -v "${sudo[0]:-apt-get}" >/dev/null; then
        if [ "$refreshed" = no ]; then
            "${sudo[@]}" apt-get update -qq >&2 || true
            refreshed=yes
        fi
        echo "setup: installing $*" >&2
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 || true
    fi
    eval "$probe" >/dev/null 2>&1 || fail "this is needed and does not work: $probe; $remedy"
}

ensure "cc --version" "install a C compiler" build-essential
ensure "cmake --version" "install cmake" cmake
ensure "pkg-config --version" "install pkg-config" pkg-config
ensure "cargo --version" "install Rust from https://rustup.rs" rustup
if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    rustup component add rustfmt clippy >&2 || true
fi
ensure "cargo fmt --version" "rustup component add rustfmt" rustfmt
ensure "cargo clippy --version" "rustup component add clippy" rust-clippy
ensure "go version" "install Go from https://go.dev" golang-go
ensure "python3 -c 'import ensurepip, venv'" "install Python 3 with its venv module" python3-venv
ensure "gzip --version" "install gzip" gzip
ensure "flock --version" "install util-linux" util-linux

mkdir -p "$cache/bin"

# Two test commands at once would build the same things into the same folders.
exec 9>"$cache/setup.lock"
flock 9

if [ "$(cat "$cache/bin/minio.version" 2>/dev/null)" != "$minio_version" ] || [ ! -x "$cache/bin/minio" ]; then
    echo "setup: building MinIO $minio_version (a few minutes, once)" >&2
    GOBIN="$cache/bin" go install "github.com/minio/minio@$minio_version" 2>"$cache/minio.log" || {
        tail -n 20 "$cache/minio.log" >&2
        fail "MinIO could not be built; the whole output is in $cache/minio.log"
    }
    echo "$minio_version" >"$cache/bin/minio.version"
fi

wanted=$(printf '%s\n' "${readers[@]}")
if [ "$(cat "$cache/venv/wanted" 2>/dev/null)" != "$wanted" ]; then
    echo "setup: installing Python readers into $cache/venv" >&2
    rm -rf "$cache/venv"
    python3 -m venv "$cache/venv" || fail "python3 -m venv failed"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "${readers[@]}" ||
        fail "pip could not install the readers"
    printf '%s' "$wanted" >"$cache/venv/wanted"
fi
