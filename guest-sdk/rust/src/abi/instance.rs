//! The chains of a pipeline, by number.

use crate::bindings::operators::{CallError, CallResult, Candidates, Moment, OpenConfig, RowConditions};
use crate::block::Block;
use crate::chain::closed::ErasedChain;
use crate::chain::{Head, Work, failure};

/// Everything that an instance of the component keeps.
pub(crate) struct Instance {
    chains: Vec<Box<dyn ErasedChain>>,
}

impl Instance {
    pub(crate) fn new(chains: Vec<Box<dyn ErasedChain>>) -> Self {
        Instance { chains }
    }

    fn chain(&mut self, number: u32) -> Result<&mut dyn ErasedChain, CallError> {
        match self.chains.get_mut(number as usize) {
            Some(chain) => Ok(chain.as_mut()),
            None => Err(failure(format!("there is no chain {number}"))),
        }
    }

    pub(crate) fn open(&mut self, chain: u32, config: &OpenConfig) -> Result<(), CallError> {
        self.chain(chain)?.open(config);
        Ok(())
    }

    pub(crate) fn call(&mut self, chain: u32, at: Moment, work: &Work<'_>) -> Result<CallResult, CallError> {
        crate::position::set_chain(chain);
        self.chain(chain)?.call(at, work)
    }

    pub(crate) fn accumulate(
        &mut self,
        chain: u32,
        input: u32,
        at: Moment,
        slots: &[u32],
        rows: &Block,
    ) -> Result<CallResult, CallError> {
        self.chain(chain)?.accumulate(input, at, slots, rows)
    }

    pub(crate) fn conditions(&mut self, chain: u32, rows: &Block) -> Result<RowConditions, CallError> {
        let chain = self.chain(chain)?;
        let time_in = chain.has_time();
        chain.head().conditions(rows, time_in)
    }

    pub(crate) fn iterative_conditions(
        &mut self,
        chain: u32,
        rows: &Block,
        candidates: &Candidates,
    ) -> Result<Vec<bool>, CallError> {
        let chain = self.chain(chain)?;
        let time_in = chain.has_time();
        chain.head().iterative_conditions(rows, candidates, time_in)
    }

    pub(crate) fn head(&mut self, chain: u32) -> Result<&mut dyn Head, CallError> {
        Ok(self.chain(chain)?.head())
    }
}
