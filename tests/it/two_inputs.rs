//! Operators of two inputs against naive models, and killed halfway.

use crate::every_operator::kill_twice;

const SINKS: usize = 3;

#[test]
fn two_inputs_go_on_at_another_parallelism() {
    kill_twice("two-inputs", SINKS, &[]);
}

#[test]
fn two_inputs_go_on_from_unaligned_checkpoints() {
    kill_twice("two-inputs", SINKS, &["--unaligned-checkpoints"]);
}

#[test]
fn two_inputs_go_on_with_state_on_disk() {
    kill_twice("two-inputs", SINKS, &["--state-backend=rocksdb", "--state-cache=1"]);
}
