#!/bin/sh
# Builds c_checksum.wasm. Compiler, linker and C library are Debian's packages clang-19, lld-19, wasi-libc and
# libclang-rt-19-dev-wasm32; what makes a component of their output comes with Rust's wasm32-wasip2 target.
set -eu
cd "$(dirname "$0")"
rust=$(rustc --print sysroot)/lib/rustlib/$(rustc --print host-tuple)/bin
clang-19 --target=wasm32-wasi -std=c17 -Os -Wall -Wextra -Werror -mexec-model=reactor \
    -fuse-ld="$rust/wasm-component-ld" -Wl,--strip-all \
    -Wl,--component-type,wit/checksum.wit task.c checksum.c -o c_checksum.wasm
