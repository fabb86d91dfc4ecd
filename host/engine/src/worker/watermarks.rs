//! The watermark operator: gives rows their event time and makes watermarks from it.

use millrace_core::block::{Block, Element, Millis};
use millrace_core::checkpoint::SplitSnapshot;
use millrace_core::connector::Position;
use millrace_core::graph::{EventTime, WatermarkSource, WatermarkStrategy};
use millrace_core::time::{Tick, WatermarkGenerator, event_times, latest_time};
use millrace_core::{Error, Result};

use super::outputs::Outputs;

/// One subtask of a watermark operator. Watermarks from upstream end here; it makes its own.
pub(crate) struct WatermarksTask {
    strategy: WatermarkStrategy,
    generator: WatermarkGenerator,
}

/// Gives the rows of a block their event times, as far as the host does that, and returns the watermark that follows
/// it, if it advanced.
pub(crate) fn assign_times(
    block: &mut Block,
    strategy: &WatermarkStrategy,
    generator: &mut WatermarkGenerator,
    now: Millis,
) -> Result<Option<Millis>> {
    let missing = |what: &str| Error::internal(format!("the planner let {what} pass"));
    match &strategy.time {
        EventTime::Field(field) => {
            let column = block.rows.column_by_name(field);
            let column = column.ok_or_else(|| missing(&format!("event time field `{field}`")))?;
            block.times = Some(event_times(field, column.as_ref())?);
        }
        EventTime::Computed => {}
        EventTime::Ingestion => {
            let times = vec![generator.ingestion_time(now); block.row_count()];
            block.times = Some(times.into());
        }
    }
    match &strategy.source {
        WatermarkSource::Bounded(_) => {
            let times = block.times.as_ref();
            let times = times.ok_or_else(|| Error::internal("a port that computes event time sent none"))?;
            Ok(generator.handle_times(times, now))
        }
        WatermarkSource::Field(field) => {
            let column = block.rows.column_by_name(field);
            let column = column.ok_or_else(|| missing(&format!("watermark field `{field}`")))?;
            Ok(generator.handle_watermark(latest_time(field, column.as_ref())?, now))
        }
        WatermarkSource::Computed => {
            // It has done its work here.
            let computed = block.keys.take();
            let column = computed.as_ref().and_then(|columns| columns.first());
            let column = column.ok_or_else(|| Error::internal("a port that computes watermarks sent none"))?;
            Ok(generator.handle_watermark(latest_time("$watermark", column.as_ref())?, now))
        }
        WatermarkSource::Clock(_) => Ok(generator.handle_clock(now)),
    }
}

impl WatermarksTask {
    pub(crate) fn new(strategy: &WatermarkStrategy) -> Self {
        WatermarksTask {
            strategy: strategy.clone(),
            generator: WatermarkGenerator::from_strategy(strategy),
        }
    }

    /// What a restart needs.
    pub(crate) fn snapshot(&self) -> SplitSnapshot {
        SplitSnapshot {
            id: String::new(),
            position: Position::START,
            max_time: self.generator.max_time(),
        }
    }

    /// Goes on from a [`snapshot`](Self::snapshot).
    pub(crate) fn restore(&mut self, snapshot: &SplitSnapshot) {
        if let Some(max_time) = snapshot.max_time {
            self.generator.restore(max_time);
        }
    }

    pub(crate) fn handle_block(
        &mut self,
        mut block: Block,
        now: Millis,
        outputs: &mut Outputs,
    ) -> Result<Option<Millis>> {
        let watermark = assign_times(&mut block, &self.strategy, &mut self.generator, now)?;
        outputs.emit(0, block)?;
        if let Some(watermark) = watermark {
            outputs.watermark(watermark);
        }
        Ok(watermark)
    }

    /// What becomes of its watermark and idleness as time goes by.
    pub(crate) fn handle_time(&mut self, now: Millis, outputs: &mut Outputs) {
        match self.generator.poll(now) {
            Some(Tick::Watermark(watermark)) => outputs.watermark(watermark),
            Some(Tick::Idle) => outputs.idle(),
            None => {}
        }
    }

    /// When that is to be asked next.
    pub(crate) fn next_time(&self) -> Option<Millis> {
        let at_once = self.generator.follows_clock().then_some(Millis::MIN);
        self.generator.next_poll().or(at_once)
    }

    /// Upstream ended: everything fires.
    pub(crate) fn handle_end(&mut self, outputs: &mut Outputs) -> Element {
        let watermark = self.generator.handle_end();
        outputs.watermark(watermark);
        Element::Watermark(watermark)
    }
}
