#!/bin/sh
# Builds python_invoice.wasm; the tool goes into a virtual environment in this folder.
set -eu
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check componentize-py==0.25.1
.venv/bin/componentize-py --wit-path wit --world invoice-task componentize app --output python_invoice.wasm
