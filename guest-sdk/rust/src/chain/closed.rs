//! A finished chain, boxed: one dynamic call per block.

use super::exit::Exit;
use super::sides::Sides;
use super::{Chain, Head, RowContext, Work};
use crate::OpenContext;
use crate::bindings::operators::{CallError, CallResult, Moment, OpenConfig};
use crate::block::Block;
use crate::{metrics, position};

/// A chain whose type is forgotten.
pub(crate) trait ErasedChain {
    fn open(&mut self, config: &OpenConfig);
    fn call(&mut self, at: Moment, work: &Work<'_>) -> Result<CallResult, CallError>;
    fn accumulate(&mut self, input: u32, at: Moment, slots: &[u32], rows: &Block) -> Result<CallResult, CallError>;
    fn head(&mut self) -> &mut dyn Head;
    fn has_time(&self) -> bool;
    fn sides(&mut self) -> &mut Sides;
}

/// A chain with its ports.
pub(crate) struct Closed<C, X> {
    chain: C,
    exit: X,
    cx: RowContext,
}

impl<C: Chain, X: Exit<C::Out>> Closed<C, X> {
    pub(crate) fn new(chain: C, exit: X, sides: Sides) -> Self {
        Closed {
            chain,
            exit,
            cx: RowContext::new(sides),
        }
    }

    /// Gathers what the call did.
    fn result(&mut self) -> CallResult {
        let mut outputs = Vec::new();
        self.exit.finish(&mut outputs);
        self.cx.sides.finish(&mut outputs);
        let mut emitted = Vec::new();
        self.chain.take_emitted(&mut emitted);
        let (mut touched, mut live_bytes) = (Vec::new(), Vec::new());
        self.chain.head().take_touched(&mut touched, &mut live_bytes);
        CallResult {
            outputs,
            emitted,
            rejections: self.cx.take_rejections(),
            timers: self.cx.take_timers(),
            touched,
            collections: self.chain.head().take_writes(),
            live_bytes,
            more: false,
        }
    }
}

impl<C: Chain, X: Exit<C::Out> + 'static> ErasedChain for Closed<C, X> {
    fn open(&mut self, config: &OpenConfig) {
        position::set_careful(config.careful);
        self.cx.time_in = config.time_in;
        self.cx.sides.open(config.time_out, C::FALLIBLE);
        self.exit.open(config.time_out);
        let context = OpenContext::new(config);
        self.chain.open(&context);
        position::leave();
        metrics::flush();
    }

    fn call(&mut self, at: Moment, work: &Work<'_>) -> Result<CallResult, CallError> {
        self.cx.begin(at);
        if let Work::Rows { block, .. } = work {
            self.exit.begin(block.rows());
        }
        self.chain.run(work, &mut self.cx, &mut self.exit)?;
        if matches!(work, Work::Close) {
            self.chain.close();
        }
        position::leave();
        metrics::flush();
        Ok(self.result())
    }

    fn accumulate(&mut self, input: u32, at: Moment, slots: &[u32], rows: &Block) -> Result<CallResult, CallError> {
        self.cx.begin(at);
        self.chain.head().accumulate(input, slots, rows, self.cx.time_in)?;
        position::leave();
        metrics::flush();
        Ok(self.result())
    }

    fn head(&mut self) -> &mut dyn Head {
        self.chain.head()
    }

    fn has_time(&self) -> bool {
        self.cx.time_in
    }

    fn sides(&mut self) -> &mut Sides {
        &mut self.cx.sides
    }
}
