//! millrace-wasm
