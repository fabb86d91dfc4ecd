//! What the phases do: combine blocks or aggregate parts of keys, then merge.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::rc::Rc;

use super::Grid;
use crate::bindings::dataflow as wit;
use crate::bindings::operators::CallError;
use crate::chain::{Chain, Decoded, Emit, Head, RowContext, Rows, Tail, Work, take_given};
use crate::graph::Origin;
use crate::keyed::{KeySelector, KeyedStream, SharedKey};
use crate::position;
use crate::schema::Field;
use crate::value::{Owned, Record, Value};
use crate::values::Timestamp;
use crate::window::head::{Fired, WindowFunction};
use crate::window::{Window, WindowedStream};
use crate::{OpenContext, Stream};

/// Partial accumulators, as rows.
type Partial<W> = (<W as WindowFunction>::Key, <W as WindowFunction>::Stored);

/// The rows as they came before they were keyed.
fn unkeyed<T: Record, K: Owned + Clone>(keyed: &KeyedStream<T, K>) -> Vec<Origin> {
    let forward = |origin: &Origin| Origin::forward(origin.operator, origin.port);
    keyed.origins.iter().map(forward).collect()
}

/// Partial accumulators of blocks, by key.
pub(super) fn combined<T, K, W>(keyed: KeyedStream<T, K>, function: Rc<W>, grid: Grid) -> KeyedStream<Partial<W>, K>
where
    T: Record,
    K: Owned + Clone + Hash + Eq,
    W: WindowFunction<In = T, Key = K>,
{
    let mut graph = keyed.flow.borrow_mut();
    let chain = graph.open_chain([T::fields()], wit::Head::Stateless);
    let operator = graph.add_function(chain, "combine");
    graph.connect(&unkeyed(&keyed), operator, 0);
    drop(graph);
    let combine = Combine {
        function,
        operator,
        selector: keyed.selector.clone(),
        grid,
        found: HashMap::new(),
        partials: Vec::new(),
        given: 0,
    };
    Stream::opened(keyed.flow, chain, operator, combine).key_by(First(PhantomData))
}

/// Accumulators of the windows of parts of keys, by key, and the operator that has them.
pub(super) fn salted<T, K, W>(
    windows: WindowedStream<T, K>,
    function: Rc<W>,
    salts: u32,
) -> (u32, KeyedStream<Partial<W>, K>)
where
    T: Record,
    K: Owned + Clone,
    W: WindowFunction<In = T, Key = K>,
{
    let origins = unkeyed(&windows.keyed);
    let salted = Salted {
        key: windows.keyed.selector.clone(),
        salts: salts.max(1),
        next: Cell::new(0),
    };
    let stream: Stream<Rows<T>> = Stream::from_origins(windows.keyed.flow, origins);
    let parts = WindowedStream {
        keyed: stream.key_by(salted),
        assigner: windows.assigner,
        allowed_lateness: windows.allowed_lateness,
        late: None,
        trigger: None,
        evictor: None,
        is_global: false,
    };
    let parts = parts.head("window.salted", Parts(function));
    (parts.operator(), parts.key_by(First(PhantomData)))
}

/// The key of partial accumulators.
struct First<K, S>(PhantomData<fn(K, S)>);

impl<K: Owned + Clone, S: Owned> KeySelector<(K, S)> for First<K, S> {
    type Key = K;

    fn columns(&self) -> Vec<u32> {
        vec![0]
    }

    fn fields(&self) -> Vec<Field> {
        vec![K::field("key")]
    }

    fn key(&self, row: &(K, S)) -> K {
        row.0.clone()
    }
}

/// A key and which part of it: rows go round the parts.
struct Salted<T: Record, K> {
    key: SharedKey<T, K>,
    salts: u32,
    next: Cell<u32>,
}

impl<T: Record, K: Owned + Clone> KeySelector<T> for Salted<T, K> {
    const COMPUTED: bool = true;
    type Key = (K, u32);

    fn columns(&self) -> Vec<u32> {
        Vec::new()
    }

    fn fields(&self) -> Vec<Field> {
        vec![<(K, u32)>::field("key")]
    }

    fn key(&self, row: &T::Of<'_>) -> (K, u32) {
        let salt = self.next.get();
        self.next.set((salt + 1) % self.salts);
        (self.key.key_of(row), salt)
    }
}

/// The head that makes partial accumulators of a block.
struct Combine<W: WindowFunction> {
    function: Rc<W>,
    operator: u32,
    selector: SharedKey<W::In, W::Key>,
    grid: Grid,
    /// Where a key's partial accumulator for a stretch of time is, while a block is combined.
    found: HashMap<(W::Key, i64), usize>,
    partials: Vec<Combined<W>>,
    given: u64,
}

/// A partial accumulator with the entry and time of its first row.
struct Combined<W: WindowFunction> {
    key: W::Key,
    kept: W::Kept,
    entry: u32,
    time: i64,
}

impl<W: WindowFunction> Chain for Combine<W>
where
    W::Key: Hash + Eq,
{
    type Out = Partial<W>;
    const FALLIBLE: bool = false;
    type Refusing<X: Chain> = Rows<X::Out>;

    fn refusing<X: Chain>(stream: Stream<X>) -> Stream<Rows<X::Out>> {
        stream.share()
    }

    type Alone = Self;

    fn alone(stream: Stream<Self>) -> Stream<Self> {
        stream
    }

    #[inline(always)]
    fn run<E: Tail<Self::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        let Work::Rows { block, .. } = work else {
            return Ok(());
        };
        let rows = Decoded::<W::In>::new(block, cx.time_in);
        for index in 0..rows.count {
            position::set_entry(index as u32);
            position::enter(self.operator);
            rows.set_time(index, cx);
            let row = W::In::get(&rows.columns, index);
            let key = self.selector.key_of(&row);
            let place = *self
                .found
                .entry((key, self.grid.stretch(cx.time)))
                .or_insert_with_key(|(key, _)| {
                    self.partials.push(Combined {
                        key: key.clone(),
                        kept: self.function.create(),
                        entry: index as u32,
                        time: cx.time,
                    });
                    self.partials.len() - 1
                });
            self.function.add(&mut self.partials[place].kept, row);
        }
        self.found.clear();
        for partial in self.partials.drain(..) {
            position::set_entry(partial.entry);
            cx.time = partial.time;
            if let Some(stored) = W::to_stored(&partial.kept) {
                tail.emit((partial.key, stored), cx);
                self.given += 1;
            }
        }
        Ok(())
    }

    fn head(&mut self) -> &mut dyn Head {
        self
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        take_given(&mut self.given, emitted)
    }
}

impl<W: WindowFunction> Head for Combine<W> {
    fn open(&mut self, cx: &OpenContext) {
        position::enter(self.operator);
        self.function.open(cx);
    }

    fn close(&mut self) {
        position::enter(self.operator);
        self.function.close();
    }
}

/// Puts accumulators out as they are.
struct Parts<W>(Rc<W>);

impl<W: WindowFunction> WindowFunction for Parts<W> {
    type In = W::In;
    type Key = (W::Key, u32);
    type Kept = W::Kept;
    type Stored = W::Stored;
    type Out = Partial<W>;

    fn create(&self) -> W::Kept {
        self.0.create()
    }

    #[inline(always)]
    fn add(&self, kept: &mut W::Kept, row: <W::In as Value>::Of<'_>) {
        self.0.add(kept, row);
    }

    fn merge(&self, kept: &mut W::Kept, other: &W::Kept) {
        self.0.merge(kept, other);
    }

    fn to_stored(kept: &W::Kept) -> Option<W::Stored> {
        W::to_stored(kept)
    }

    fn revived(stored: W::Stored) -> W::Kept {
        W::revived(stored)
    }

    fn heap_bytes(kept: &W::Kept) -> usize {
        W::heap_bytes(kept)
    }

    fn open(&self, cx: &OpenContext) {
        self.0.open(cx);
    }

    fn close(&self) {
        self.0.close();
    }

    fn finish<E: Emit<Self::Out>>(
        &self,
        fired: Fired<'_, Self::Key, W::Kept>,
        cx: &mut RowContext,
        next: &mut E,
    ) -> u64 {
        match W::to_stored(fired.kept) {
            Some(stored) => {
                next.emit((fired.key.0, stored), cx);
                1
            }
            None => 0,
        }
    }
}

/// A window function over partial accumulators.
pub struct Merged<W> {
    pub(super) function: Rc<W>,
    /// Length of the windows that the results are of.
    pub(super) size: i64,
}

impl<W> std::fmt::Debug for Merged<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Merged")
    }
}

impl<W: WindowFunction> WindowFunction for Merged<W> {
    type In = Partial<W>;
    type Key = W::Key;
    type Kept = W::Kept;
    type Stored = W::Stored;
    type Out = W::Out;

    fn create(&self) -> W::Kept {
        self.function.create()
    }

    #[inline(always)]
    fn add(&self, kept: &mut W::Kept, partial: Partial<W>) {
        self.function.merge(kept, &W::revived(partial.1));
    }

    fn merge(&self, kept: &mut W::Kept, other: &W::Kept) {
        self.function.merge(kept, other);
    }

    fn to_stored(kept: &W::Kept) -> Option<W::Stored> {
        W::to_stored(kept)
    }

    fn revived(stored: W::Stored) -> W::Kept {
        W::revived(stored)
    }

    fn heap_bytes(kept: &W::Kept) -> usize {
        W::heap_bytes(kept)
    }

    fn open(&self, cx: &OpenContext) {
        self.function.open(cx);
    }

    fn close(&self) {
        self.function.close();
    }

    fn finish<E: Emit<W::Out>>(&self, fired: Fired<'_, W::Key, W::Kept>, cx: &mut RowContext, next: &mut E) -> u64 {
        let end = fired.window.end;
        let start = Timestamp::from_millis(end.millis().saturating_sub(self.size));
        let fired = Fired {
            window: Window { start, end },
            ..fired
        };
        self.function.finish(fired, cx, next)
    }
}
