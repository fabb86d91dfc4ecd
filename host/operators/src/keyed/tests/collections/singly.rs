//! Of large maps and lists what needs no run: the turn of their keys, what a snapshot holds, entries one at a time.

use super::*;

/// Keys that hold nothing but large states have their turn, each once, and no key that holds nothing.
#[test]
fn keys_of_large_states_have_their_turn() {
    let (mut turns, mut without) = (0, 0);
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let lives = if seed % 2 == 0 {
            Lives(None)
        } else {
            Lives::random(&mut random)
        };
        let mut subtask = subtask(seed, lives, 0);
        subtask.operator.set_applies(GROUPS);
        let own = (0..60).collect::<Vec<i64>>();
        for step in 0..12 {
            subtask.writer.now += random.below(100) as Millis;
            subtask.step(&mut random, &own, step);
        }
        subtask.writer.now += random.below(300) as Millis;
        let Subtask { operator, writer, .. } = &mut subtask;
        operator.set_now(writer.now);
        // A timer would be a reason too.
        operator.handle_watermark(1_000);
        fire_all(operator, writer).unwrap();
        writer.model.expire(writer.now);
        let maps = writer.model.map.keys().map(|(key, _)| *key);
        let expected = maps.chain(writer.model.lists.keys().copied()).collect::<BTreeSet<_>>();
        operator.begin_applying().unwrap();
        fire_all(operator, writer).unwrap();
        assert_eq!(writer.turns.len(), expected.len(), "each once");
        assert_eq!(writer.turns.iter().copied().collect::<BTreeSet<_>>(), expected);
        assert_eq!(operator.slot_count(), 0, "slots are given back");
        (turns, without) = (turns + expected.len(), without + own.len() - expected.len());
    }
    assert!(turns > 200 && without > 200, "{turns}, {without}");
}

#[test]
fn a_snapshot_holds_what_changed() {
    let mut subtask = subtask(1, Lives(None), 0);
    let mut random = Random::new(1);
    let own = (0..20).collect::<Vec<i64>>();
    let rows = |subtask: &mut Subtask| {
        subtask.layers = [Vec::new(), Vec::new()];
        subtask.begin_snapshot(false);
        subtask.finish_snapshot();
        let batches = subtask.layers.iter().flatten();
        batches.map(RecordBatch::num_rows).sum::<usize>()
    };
    for step in 0..40 {
        subtask.step(&mut random, &own, step);
    }
    let all = rows(&mut subtask);
    assert_eq!(all as u64, subtask.operator.collection_entries());
    assert_eq!(rows(&mut subtask), 0);
    let before = subtask.writer.model.clone();
    subtask.step(&mut random, &own, 1_000);
    let changed = rows(&mut subtask);
    assert!(changed < all / 2, "{changed} of {all}");
    assert_ne!(before, subtask.writer.model);
}

/// One entry of a call at a time: each sees what the ones before have written.
#[test]
fn entries_by_themselves_see_those_before() {
    let mut subtask = subtask(3, Lives(None), 0);
    let block = block(&[1, 2, 1]);
    let Subtask { operator, writer, .. } = &mut subtask;
    operator
        .collections
        .as_ref()
        .unwrap()
        .borrow_mut()
        .begin_call(block.rows.columns());
    let collections: Rc<RefCell<dyn Collections>> = writer.collections.clone();
    let append = |value: i64| CollectionWrites {
        state: 1,
        entries: vec![0],
        actions: vec![WriteAction::Append],
        keys: None,
        values: Arc::new(Int64Array::from(vec![value])),
    };
    let mut lengths = Vec::new();
    for entry in 0..3 {
        let mut collections = collections.borrow_mut();
        collections.narrow(Some(entry));
        assert_eq!(collections.entry_count(), 1);
        lengths.extend(collections.list_length(1, &[0]).unwrap());
        collections.apply(&[append(entry.into())]).unwrap();
    }
    assert_eq!(lengths, [0, 0, 1]);
    let mut collections = collections.borrow_mut();
    collections.narrow(None);
    assert_eq!(collections.list_length(1, &[0, 1, 2]).unwrap(), [2, 1, 2]);
}
