#!/bin/sh
# The former command, kept for people and CI files that use it: support/run-tests.sh 5.4.276 --run Name
kernel=${1:?expected the id of a kernel, such as 5.4.276} KERN_DIR=${KERN_DIR:+$(realpath "$KERN_DIR")}
export KERN_DIR && shift && cd "$(dirname "$0")/.." && PATH=$PWD/.venv/bin:$PATH
exec nox -s "kernel-$kernel" -- "$@"
