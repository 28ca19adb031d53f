#!/bin/sh
# Rewrites both lock files from pyproject.toml. Needs the network; review the difference before committing it.
set -eu
.venv/bin/python -m pip install --quiet pip-tools
compile() { .venv/bin/python -m piptools compile --quiet --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-trusted-host --strip-extras --no-header --build-deps-for editable "$@" pyproject.toml; }
compile --output-file requirements.lock
compile --extra dev --constraint requirements.lock --output-file requirements-dev.lock
