//! Wraps a core module into a component and checks that it is a pipeline: it exports what the contract asks for and
//! imports nothing else.

use millrace_core::{Error, Result};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, DecodedWasm};

/// Interfaces that a pipeline exports, without their version.
const EXPORTS: &[&str] = &["millrace:pipeline/dataflow", "millrace:pipeline/operators"];

/// Package from which a pipeline may import.
const IMPORTS: &str = "millrace:pipeline/";

/// The component around a core module that the SDK's bindings are compiled into.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>> {
    let not_a_pipeline = |cause: String| Error::user("CL0008", format!("the module is not a pipeline: {cause}"));
    if let Some(import) = foreign_import(module) {
        return Err(Error::user(
            "CL0009",
            format!("the module imports `{import}`, which a pipeline cannot have"),
        ));
    }
    let component = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| not_a_pipeline(format!("{error:#}")))?;
    let decoded = wit_component::decode(&component).map_err(|error| not_a_pipeline(format!("{error:#}")))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(not_a_pipeline("it is a WIT package".to_owned()));
    };
    let world = &resolve.worlds[world];
    let exports: Vec<String> = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    for wanted in EXPORTS {
        if !exports.iter().any(|name| name.split('@').next() == Some(wanted)) {
            return Err(not_a_pipeline(format!("it does not export `{wanted}`")));
        }
    }
    Ok(component)
}

/// A function that the module imports from elsewhere than the contract, as `module::name`.
fn foreign_import(module: &[u8]) -> Option<String> {
    let payloads = Parser::new(0).parse_all(module);
    // A module that cannot be read is reported by the encoder.
    let imports = payloads
        .filter_map(|item| item.ok())
        .find_map(|payload| match payload {
            Payload::ImportSection(imports) => Some(imports),
            _ => None,
        })?;
    let foreign = imports.into_imports().filter_map(|item| item.ok()).find(|import| {
        !import
            .module
            .strip_prefix("[export]")
            .unwrap_or(import.module)
            .starts_with(IMPORTS)
    });
    foreign.map(|import| format!("{}::{}", import.module, import.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one import of a function, as bytes.
    fn importing(module: &str, name: &str) -> Vec<u8> {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let import = [&[1][..], &text(module), &text(name), &[0, 0]].concat();
        let types = [1, 4, 1, 0x60, 0, 0];
        let imports = [&[2, import.len() as u8], &import[..]].concat();
        [b"\0asm\x01\0\0\0", &types[..], &imports].concat()
    }

    #[test]
    fn modules_that_are_no_pipelines() {
        let check = |module: &[u8], code: &str, part: &str| {
            let error = wrap(module).expect_err("not a pipeline");
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(b"no wasm", "CL0008", "the module is not a pipeline");
        check(
            b"\0asm\x01\0\0\0",
            "CL0008",
            "does not export `millrace:pipeline/dataflow`",
        );
        check(&importing("env", "puts"), "CL0009", "`env::puts`");
        check(&importing("wasi_snapshot_preview1", "fd_write"), "CL0009", "fd_write");
    }
}
