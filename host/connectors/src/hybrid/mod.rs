//! The `hybrid` source: one source to its end, then another; history and then what is live.
//!
//! ```text
//! first.kind, first.OPTION ...     splits `first:...` until all have ended, whichever subtask reads them
//! then.kind, then.OPTION ...       splits `then:...`, which the [`enumerator`] gives out then
//! ```
//!
//! So no row of the second source comes before the last one of the first, on any subtask. Watermarks do not go back:
//! splits of the second source begin like any others that turn up late. A [`reader`] keeps in its position what a
//! checkpoint has to know about the switch.

mod enumerator;
mod reader;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::connector::{
    Boundedness, Connector, Options, Replay, Sink, SinkContext, Source, Split, SplitEnumerator, SplitReader,
    SubtaskContext,
};
use millrace_core::{Error, Result};

use enumerator::HybridEnumerator;
use reader::{HybridReader, Place};

/// Begins the names of splits.
const FIRST: &str = "first:";
const THEN: &str = "then:";

/// Connector kind `hybrid`.
pub(crate) struct HybridConnector;

impl Connector for HybridConnector {
    fn kind(&self) -> &'static str {
        "hybrid"
    }

    fn source(&self, mut options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        let first = part(options.prefixed("first."), "first", &schema)?;
        let then = part(options.prefixed("then."), "then", &schema)?;
        options.finish()?;
        if first.boundedness() == Boundedness::Unbounded {
            let message =
                "the first source of a hybrid one must end, or the second would never begin (option `first.kind`)";
            return Err(Error::user("CN0118", message));
        }
        Ok(Some(Arc::new(Hybrid { first, then })))
    }

    fn sink(&self, _: Options, _: SchemaRef, _: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(None)
    }
}

/// One of the two sources.
fn part(mut options: Vec<(String, String)>, name: &str, schema: &SchemaRef) -> Result<Arc<dyn Source>> {
    let Some(at) = options.iter().position(|(option, _)| option == "kind") else {
        return Err(Error::user("CN0002", format!("option `{name}.kind` is missing")));
    };
    let (_, kind) = options.swap_remove(at);
    let source = crate::connector(&kind)
        .and_then(|connector| connector.source(Options::new(options)?, schema.clone()))
        .map_err(|error| error.context(format!("options `{name}.*` of a hybrid source")))?;
    source.ok_or_else(|| {
        let message = format!("option `{name}.kind` is `{kind}`, a connector that cannot be read");
        Error::user("CN0119", message)
    })
}

struct Hybrid {
    first: Arc<dyn Source>,
    then: Arc<dyn Source>,
}

impl Source for Hybrid {
    fn boundedness(&self) -> Boundedness {
        self.then.boundedness()
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<Split>> {
        // What is missing is better said now than at the switch.
        self.then.splits(parallelism)?;
        let mut splits = self.first.splits(parallelism)?;
        for split in &mut splits {
            split.id.insert_str(0, FIRST);
        }
        Ok(splits)
    }

    fn enumerator(&self, splits: &[(u32, Split)], parallelism: u32) -> Result<Option<Arc<dyn SplitEnumerator>>> {
        let enumerator = HybridEnumerator::new(&self.first, &self.then, splits, parallelism)?;
        Ok(Some(Arc::new(enumerator)))
    }

    fn replay(&self) -> Replay {
        self.first.replay().max(self.then.replay())
    }

    fn lost_on_restart(&self) -> Option<String> {
        self.then.lost_on_restart().or_else(|| self.first.lost_on_restart())
    }

    fn open(&self, split: &Split, context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let (source, id) = match (split.id.strip_prefix(FIRST), split.id.strip_prefix(THEN)) {
            (Some(id), _) => (&self.first, id),
            (None, Some(id)) => (&self.then, id),
            (None, None) => {
                let message = format!("`{}` is not a split of a hybrid source", split.id);
                return Err(Error::user("CN0103", message));
            }
        };
        Ok(Box::new(match Place::decode(&split.position)? {
            Place::Finished => HybridReader::finished(),
            Place::At { position, all } => {
                let split = Split {
                    id: id.to_owned(),
                    position,
                };
                HybridReader::new(source.open(&split, context)?, all)
            }
        }))
    }
}

#[cfg(test)]
mod tests;
