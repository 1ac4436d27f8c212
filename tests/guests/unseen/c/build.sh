#!/bin/sh
# build.sh FILE: writes the component, by the same tools as tasks-wasm/c_checksum.
set -eu
out=$1
cd "$(dirname "$0")"
rust=$(rustc --print sysroot)/lib/rustlib/$(rustc --print host-tuple)/bin
clang-19 --target=wasm32-wasi -std=c17 -D_GNU_SOURCE -O2 -Wall -mexec-model=reactor \
    -fuse-ld="$rust/wasm-component-ld" -Wl,--component-type,../unseen.wit unseen.c -o "$out"
