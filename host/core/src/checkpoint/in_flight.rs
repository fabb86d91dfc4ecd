//! What an unaligned checkpoint holds of channels: the rows that its barriers overtook.
//!
//! The receiver's state is as of the moment at which its snapshot began; what was ahead of a channel's barrier then and
//! not taken is the channel's part. A restart gives the receiver these elements before all others. That is right
//! only for the same subtasks as before: which watermarks a row comes behind, and how far the receiver had got with
//! its windows, differs from subtask to subtask.

use serde::{Deserialize, Serialize};

use crate::block::{Element, Millis};

/// Names an edge between two tasks across attempts and versions of a pipeline, by what the receiver knows of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgeName {
    /// Identity of the sending task in checkpoints.
    pub from: String,
    /// Its output port.
    pub port: u32,
    /// Input of the receiving task.
    pub input: u32,
    /// Tells apart edges that are the same in all of this, in the order of the graph.
    pub number: u32,
}

/// An input channel of a subtask at an unaligned barrier.
#[derive(Debug, Clone)]
pub struct ChannelSnapshot {
    /// The edge that it is of.
    pub edge: EdgeName,
    /// Number of the sending subtask.
    pub sender: u32,
    /// The last watermark that the receiver had taken from it, [`WATERMARK_MIN`](crate::block::WATERMARK_MIN) if none.
    pub watermark: Millis,
    /// Whether it was idle then.
    pub idle: bool,
    /// What was under way behind that: blocks, watermarks and idle marks in their order.
    pub elements: Vec<Element>,
}

impl ChannelSnapshot {
    /// Number of rows under way.
    pub fn row_count(&self) -> usize {
        let rows = |element: &Element| match element {
            Element::Block(block) => block.row_count(),
            Element::Watermark(_) | Element::Idle | Element::Barrier(_) | Element::End => 0,
        };
        self.elements.iter().map(rows).sum()
    }
}
