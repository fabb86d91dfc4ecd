//! `kill -9` with every backend, kind of checkpoint and sink at once that no other test has.

use millrace_tests::jobs::as_text;
use millrace_tests::postgres::Server;

use crate::durable::{Place, assert_same, expected_with, kill_after, sorted};
use crate::unaligned::{self, WORK};

/// More keys than stay in memory.
const KEYS: (&str, &str) = ("keys", "3000");

fn arguments(place: &Place, on_disk: bool, is_unaligned: bool) -> Vec<String> {
    let mut arguments = match is_unaligned {
        true => unaligned::arguments(),
        false => vec!["--block-rows=200".to_owned()],
    };
    if on_disk {
        arguments.push("--state-backend=rocksdb".to_owned());
        arguments.push("--state-cache=1".to_owned());
        arguments.push(format!("--state-dir={}", as_text(&place.0.path().join("state"))));
    }
    arguments
}

#[test]
fn files_from_state_on_disk_by_unaligned_checkpoints() {
    let expected = expected_with(&[KEYS]);
    for parallelism in [1, 3] {
        let place = Place::new();
        kill_after(
            100,
            &place,
            parallelism,
            &arguments(&place, true, true),
            &[KEYS, WORK],
            &[],
        );
        assert_same(&sorted(&place.output()), &expected);
    }
}

#[test]
fn a_table_from_every_backend_by_every_kind_of_checkpoint() {
    let expected = expected_with(&[KEYS]);
    let server = Server::shared();
    for (name, parallelism, on_disk, is_unaligned) in [
        ("unaligned", 2, false, true),
        ("disk", 1, true, false),
        ("disk_unaligned", 2, true, true),
    ] {
        let database = server.database(&format!("kills_{name}"));
        let url = database.url();
        let place = Place::new();
        let more = [KEYS, WORK, ("postgres", url.as_str())];
        kill_after(
            100,
            &place,
            parallelism,
            &arguments(&place, on_disk, is_unaligned),
            &more,
            &[],
        );
        let mut rows = database.query("SELECT operator, key, at, value FROM facts");
        rows.sort_unstable();
        assert_same(&rows, &expected);
    }
}
