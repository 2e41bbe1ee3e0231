#!/bin/sh
# The build steps of the Dockerfile, which tests run as well:
#   container_build.sh libraries PREFIX   Python, an environment in PREFIX, and what requirements.txt pins
#   container_build.sh package PREFIX     the project, installed there
# TORCH_INDEX: address of torch's own builds to take instead of the one with CUDA.
set -eu
step=$1 prefix=$2
cd "$(dirname "$0")/.."
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

case $step in
  libraries)
    if ! command -v python3 >/dev/null; then  # a base image with CUDA has none
      apt-get update -qq
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3 python3-venv
      rm -rf /var/lib/apt/lists/*
    fi
    python3 -m venv "$prefix"
    if [ -n "${TORCH_INDEX:-}" ]; then
      grep '^torch==' requirements.txt > torch.txt
      "$prefix/bin/pip" install -q --index-url "$TORCH_INDEX" -r torch.txt torchvision
    fi
    "$prefix/bin/pip" install -q -r requirements.txt
    ;;
  package)
    "$prefix/bin/pip" install -q --no-deps .
    "$prefix/bin/pip" check
    cd /
    "$prefix/bin/semseg" --version
    "$prefix/bin/semseg" --help > /dev/null
    ;;
  *)
    echo "error: $step is no step; use libraries or package" >&2
    exit 1
    ;;
esac
