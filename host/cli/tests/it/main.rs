//! `jobctl` as a process: what it prints where, and how it exits. Compiling guests is not tested here but by
//! `scripts/check-examples`, which needs a toolchain for wasm.

mod commands;
mod error_pages;
