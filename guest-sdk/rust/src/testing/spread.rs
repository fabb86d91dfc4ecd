//! Which subtask gets which rows.

use std::ops::Range;

use super::datum::Datum;
use super::guest::Row;
use super::operator::keys;
use super::random::Random;
use crate::bindings::dataflow::Partition;

/// Who sends rows over an edge.
pub(super) struct Sender<'s> {
    pub(super) subtask: usize,
    pub(super) senders: usize,
    /// Who was last, where receivers take turns.
    pub(super) turn: &'s mut usize,
    pub(super) random: Option<&'s mut Random>,
}

impl Sender<'_> {
    /// Rows by receiver.
    pub(super) fn spread(mut self, partition: &Partition, rows: &[Row], receivers: usize) -> Vec<Vec<Row>> {
        let mut parts = vec![Vec::new(); receivers];
        match partition {
            Partition::Forward | Partition::SameSubtask => parts[self.subtask % receivers] = rows.to_vec(),
            Partition::Global => parts[0] = rows.to_vec(),
            Partition::Broadcast => parts.fill(rows.to_vec()),
            Partition::Rebalance => parts[self.next(0..receivers)] = rows.to_vec(),
            Partition::Rescale => {
                let own = part_of(self.subtask, self.senders, receivers);
                parts[self.next(own)] = rows.to_vec();
            }
            Partition::Shuffle => {
                let random = &mut self.random;
                for (index, row) in rows.iter().enumerate() {
                    let drawn = random.as_mut().map_or(index, |random| random.below(receivers));
                    parts[drawn % receivers].push(row.clone());
                }
            }
            Partition::Numbered => {
                for row in rows {
                    let receiver = match row.key.first() {
                        Some(Datum::Integer(number)) => usize::try_from(*number).unwrap_or(0) % receivers,
                        Some(_) | None => 0,
                    };
                    parts[receiver].push(row.clone());
                }
            }
            Partition::HashFields(_) | Partition::HashComputed => {
                for (key, row) in keys(partition, rows).iter().zip(rows) {
                    parts[subtask_of(key, receivers)].push(row.clone());
                }
            }
        }
        parts
    }

    /// Whose turn it is.
    fn next(&mut self, receivers: Range<usize>) -> usize {
        *self.turn = (*self.turn + 1) % receivers.len();
        receivers.start + *self.turn
    }
}

/// Which of so many subtasks has a key.
pub(crate) fn subtask_of(key: &super::datum::Key, subtasks: usize) -> usize {
    let mut hash = 0;
    key.iter().for_each(|value| value.hash(&mut hash));
    (hash % subtasks as u64) as usize
}

/// Which receivers a sender of so many has for itself, where each has a part of them.
fn part_of(sender: usize, senders: usize, receivers: usize) -> std::ops::Range<usize> {
    if receivers < senders {
        let own = sender * receivers / senders;
        return own..own + 1;
    }
    let start = |sender: usize| (sender * receivers).div_ceil(senders);
    start(sender)..start(sender + 1)
}
