//! Keys: their canonical encoding, their hash, and the key group that follows from it.
//!
//! Keyed state is sharded by key group, so the group of a key is part of the savepoint format and must
//! never change by accident. This module is its definition, in four steps:
//!
//! 1. [`check_key_schema`] says which types may be in a key.
//! 2. [`RowEncoder`] turns a key into bytes (version [`ENCODING_VERSION`], described there; `decode` is its inverse).
//! 3. [`hash_rows`] is XXH3-64 (seed 0) over these bytes, a block at a time.
//! 4. [`KeyGroup`] and [`KeyGroups`] map a hash to a group and a group to the subtask that owns it.
//!
//! # Encoding, version 1
//!
//! The payload of a value that is not null:
//!
//! | type | payload |
//! | --- | --- |
//! | int8 to int64, date32, time64, timestamp | sign-extended to 8 bytes, little-endian |
//! | uint8 to uint64 | zero-extended to 8 bytes, little-endian |
//! | boolean | 1 byte, 0 or 1 |
//! | decimal128 | 16 bytes, two's complement, little-endian (the scale is not part of it) |
//! | fixed-size binary | its bytes |
//! | utf8, binary | length in bytes as u32 little-endian, then the bytes |
//! | struct | its members, tagged, in order |
//! | list | number of items as u32 little-endian, then the items, tagged |
//!
//! A *tagged* value is the byte 1 and its payload, or the byte 0 alone where it is null. A key of several
//! columns is its tagged columns in order; no such encoding is a prefix of another of the same schema.
//!
//! A key of one column that is neither a struct nor a list is hashed over the *bare* payload, without the
//! length of utf8 and binary, so that anybody can compute it: the hash of a string key is XXH3-64 of the
//! string. Null is the byte 0 there too. Nullability and width of integers do not change a key's bytes:
//! widening a key column or making it nullable keeps its groups.
//!
//! # Test vectors
//!
//! | key | encoding | XXH3-64 | group of 128 |
//! | --- | --- | --- | --- |
//! | int64 0 | `0000000000000000` | `c77b3abb6f87acd9` | 99 |
//! | int32 1 | `0100000000000000` | `2fbc593564db792e` | 23 |
//! | int64 -1 | `ffffffffffffffff` | `5111c7e47d784413` | 40 |
//! | uint8 255 | `ff00000000000000` | `0d00568a2225a3e5` | 6 |
//! | null | `00` | `c44bdff4074eecdb` | 98 |
//! | boolean true | `01` | `e12ef9d2eb86ceeb` | 112 |
//! | utf8 empty | (no bytes) | `2d06800538d394c2` | 22 |
//! | utf8 `millrace` | `6d696c6c72616365` | `0f798300cb96eca5` | 7 |
//! | decimal -1 | `ffffffffffffffffffffffffffffffff` | `722a202f07a4b313` | 57 |
//! | int64 7, utf8 `a` | `010700000000000000010100000061` | `76f9118d50e2ef9b` | 59 |
//! | null, utf8 `a` | `00010100000061` | `67ce226aebb98d87` | 51 |
//! | struct of int8 2 and null utf8 | `0101020000000000000000` | `e2de271754195529` | 113 |
//!
//! These are checked by `vectors` in `hash.rs`. Equal hashes do not mean equal keys.

mod decode;
mod encode;
mod group;
mod hash;
mod schema;

pub use decode::{decode_columns, decode_prefixes, integers_to_array};
pub use encode::{RowEncoder, integer_values};
pub use group::{KeyGroup, KeyGroups, MAX_PARALLELISM_LIMIT};
pub use hash::{hash_bytes, hash_integer, hash_rows};
pub use schema::check_key_schema;

/// Version of the key encoding and of the hash over it; recorded in savepoints.
pub const ENCODING_VERSION: u32 = 1;
