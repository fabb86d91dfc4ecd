//! What every storage does, tried on those that need no server; errors of a local folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn with_each(check: impl Fn(&Storage)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder").to_str().unwrap().to_owned();
    for url in [path.clone(), format!("file://{path}%20x"), format!("memory://{path}")] {
        check(&Storage::open(&url).unwrap());
    }
    assert!(folder.path().join("new/folder x").is_dir());
}

#[test]
fn what_is_written_is_read_listed_and_deleted() {
    with_each(|storage| {
        let large = Bytes::from((0..20_000_000_u32).map(|at| (at / 1_000) as u8).collect::<Vec<_>>());
        storage.write("a%20b/x", "1".into()).unwrap();
        storage.write("a%20b/x", "22".into()).unwrap();
        storage.write("a%20b/sub/large", large.clone()).unwrap();
        assert_eq!(storage.read("a%20b/x").unwrap().unwrap(), "22");
        let paths = ["a%20b/sub/large", "none", "a%20b/x"].map(str::to_owned);
        let read: Vec<_> = storage.read_all(&paths).into_iter().map(Result::unwrap).collect();
        assert_eq!(read, [Some(large), None, Some("22".into())]);
        let listing = Listing {
            folders: vec!["sub".to_owned()],
            files: vec![("x".to_owned(), 2)],
        };
        assert_eq!(storage.list("a%20b").unwrap(), listing);
        assert_eq!(storage.list("none").unwrap(), Listing::default());
        assert_eq!(storage.list("").unwrap().folders, ["a%20b"]);
        for _ in 0..2 {
            storage.delete("a%20b/x").unwrap();
            assert_eq!(storage.read("a%20b/x").unwrap(), None);
        }
    });
}

#[test]
fn memory_is_shared_by_name() {
    let write = |url: &str| Storage::open(url).unwrap().write("x", "1".into()).unwrap();
    let read = |url: &str| Storage::open(url).unwrap().read("x").unwrap();
    write("memory://one");
    assert!(read("memory://one").is_some());
    assert!(read("memory://two").is_none());
}

#[test]
fn unfinished_files_are_seen_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(folder.path().to_str().unwrap()).unwrap();
    fs::write(folder.path().join(".writing-x"), "half").unwrap();
    assert_eq!(storage.list("").unwrap(), Listing::default());
    storage.delete_unfinished("").unwrap();
    storage.delete_unfinished("none").unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_in_the_place_of_a_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for url in [file.clone(), file.join("x")] {
        let url = url.to_str().unwrap();
        let error = Storage::open(url).unwrap_err();
        assert_eq!(error.code(), crate::codes::FAILED);
        assert!(error.to_string().contains(url), "{error}");
    }
}

/// The superuser may do anything, so that there is nothing to see for it.
#[test]
fn missing_permission_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let storage = Storage::open(folder.path().to_str().unwrap()).unwrap();
    if fs::write(folder.path().join("probe"), "").is_ok() {
        eprintln!("skipped: permissions do not bind this user");
        return;
    }
    let error = storage.write("x", "".into()).unwrap_err();
    assert_eq!(error.code(), crate::codes::DENIED);
    assert!(error.to_string().contains("/x` cannot be written"), "{error}");
}
