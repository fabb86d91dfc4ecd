//! From a Rust project to a component: the SDK that `jobctl` carries ([`sdk`]), the project that `new` makes
//! ([`template`]), the project that is built ([`project`]), the toolchain that compiles it ([`toolchain`],
//! [`compile`]), and the component around the result ([`component`]).

pub mod compile;
pub mod component;
pub mod owners;
pub mod project;
pub mod sdk;
pub mod template;
pub mod toolchain;
