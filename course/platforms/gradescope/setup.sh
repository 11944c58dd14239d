#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image (Ubuntu 22.04 with Python 3.10, or newer).
set -euo pipefail
apt-get update
apt-get install -y --no-install-recommends python3 python3-venv util-linux
python3 -m venv /autograder/python
# torch's own index has wheels for CPUs alone, about 0.2 GB; PyPI's for Linux bring 3 GB of CUDA along, more than the image may be.
/autograder/python/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch torchvision
/autograder/python/bin/pip install --no-cache-dir --requirement /autograder/source/requirements.txt
