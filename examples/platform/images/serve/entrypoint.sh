#!/bin/bash
# Without `exec` in the last line, bash stays PID 1.
set -e
echo "starting with $(nproc) processors"
tritonserver --model-repository=/models "$@"
