//! The watermark operator: gives rows their event time and makes watermarks from it.

use millrace_core::block::{Block, Element, Millis};
use millrace_core::checkpoint::SplitSnapshot;
use millrace_core::connector::Position;
use millrace_core::graph::{EventTime, WatermarkStrategy};
use millrace_core::time::{WatermarkGenerator, event_times};
use millrace_core::{Error, Result};

use super::outputs::Outputs;

/// One subtask of a watermark operator. Watermarks from upstream end here; it makes its own.
pub(crate) struct WatermarksTask {
    time: EventTime,
    generator: WatermarkGenerator,
}

/// Sets the event time of a block from a field.
pub(crate) fn assign_times(block: &mut Block, time: &EventTime) -> Result<()> {
    let EventTime::Field(field) = time else { return Ok(()) };
    let column = block.rows.column_by_name(field);
    let column = column.ok_or_else(|| Error::internal(format!("the planner let event time field `{field}` pass")))?;
    block.times = Some(event_times(field, column.as_ref())?);
    Ok(())
}

impl WatermarksTask {
    pub(crate) fn new(strategy: &WatermarkStrategy) -> Self {
        WatermarksTask {
            time: strategy.time.clone(),
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
        assign_times(&mut block, &self.time)?;
        let watermark = {
            let times = block.times.as_ref();
            let times = times.ok_or_else(|| Error::internal("a port that computes event time sent none"))?;
            self.generator.handle_times(times, now)
        };
        outputs.emit(0, block)?;
        if let Some(watermark) = watermark {
            outputs.watermark(watermark);
        }
        Ok(watermark)
    }

    pub(crate) fn poll_idle(&mut self, now: Millis, outputs: &mut Outputs) {
        if self.generator.poll_idle(now) {
            outputs.idle();
        }
    }

    pub(crate) fn next_idle(&self) -> Option<Millis> {
        self.generator.next_idle()
    }

    /// Upstream ended: everything fires.
    pub(crate) fn handle_end(&mut self, outputs: &mut Outputs) -> Element {
        let watermark = self.generator.handle_end();
        outputs.watermark(watermark);
        Element::Watermark(watermark)
    }
}
