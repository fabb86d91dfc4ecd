//! What the binary carries, packed by `build.rs`: the SDK, the project template, the pages on errors.

include!(concat!(env!("OUT_DIR"), "/packed.rs"));

/// Version of `jobctl` and of the SDK in it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A packed file: its path with `/`, and its content.
pub type PackedFile = (&'static str, &'static [u8]);

/// Sources of the SDK, its derive macros, the matcher that its tests share with the host, and the WIT, with a `Cargo.toml` that makes them a workspace. Paths are
/// those of the repository.
pub fn sdk_files() -> &'static [PackedFile] {
    SDK_FILES
}

/// Names the content of [`sdk_files`].
pub fn sdk_hash() -> &'static str {
    SDK_HASH
}

/// Files of a new project, paths relative to it.
pub fn template_files() -> impl Iterator<Item = PackedFile> {
    TEMPLATE_FILES.iter().map(|(path, content)| {
        let path = path
            .strip_prefix("guest-sdk/rust/template/")
            .expect("the pack keeps the folder's path");
        (path, *content)
    })
}

/// The page on an error code, and its text.
pub fn error_page(code: &str) -> Option<&'static str> {
    error_pages().find(|(name, _)| *name == code).map(|(_, text)| text)
}

/// All pages: (code, text), in order.
pub fn error_pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    ERROR_PAGES.iter().filter_map(|(path, content)| {
        let name = path.strip_prefix("docs/errors/")?.strip_suffix(".md")?;
        Some((name, std::str::from_utf8(content).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_packed_with_its_workspace_and_contract() {
        let names: Vec<_> = sdk_files().iter().map(|(name, _)| *name).collect();
        for name in [
            "Cargo.toml",
            "guest-sdk/rust/src/lib.rs",
            "guest-sdk/rust-derive/src/lib.rs",
            "host/pattern/src/lib.rs",
            "wit/world.wit",
        ] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
        assert!(
            !names
                .iter()
                .any(|name| name.contains("template") || name.contains("target/"))
        );
    }

    #[test]
    fn pages_are_found_by_code() {
        assert!(error_page("CL0006").is_some_and(|page| page.starts_with("# CL0006: ")));
        assert_eq!(error_page("CL9999"), None);
    }
}
