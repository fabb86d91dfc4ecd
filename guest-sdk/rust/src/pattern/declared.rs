//! A pattern as the contract writes it.

use super::builder::{AfterMatch, Element};
use super::condition::Condition;
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// What the host is told of a pattern, and what the guest keeps of it.
pub(super) struct Declared<T: Record> {
    pub(super) elements: Vec<wit::PatternElement>,
    pub(super) conditions: Vec<Condition<T>>,
    /// Names of the stages that take rows.
    pub(super) stages: Vec<String>,
}

impl<T: Record> Declared<T> {
    pub(super) fn new(elements: Vec<Element<T>>) -> Self {
        let mut declared = Declared {
            elements: Vec::new(),
            conditions: Vec::new(),
            stages: Vec::new(),
        };
        elements.into_iter().for_each(|element| declared.add(element));
        declared
    }

    fn add(&mut self, element: Element<T>) {
        let is_taken = !matches!(
            element.connection,
            wit::Connection::NotNext | wit::Connection::NotFollowedBy
        );
        if element.children.is_empty() && is_taken {
            self.stages.push(element.name.clone());
        }
        let mut number = |condition: Option<Condition<T>>| {
            condition.map(|condition| {
                self.conditions.push(condition);
                self.conditions.len() as u32 - 1
            })
        };
        let (condition, until) = (number(element.condition), number(element.until));
        self.elements.push(wit::PatternElement {
            name: element.name,
            connection: element.connection,
            condition,
            least: element.least,
            most: element.most,
            optional: element.optional,
            repeated: element.repeated,
            greedy: element.greedy,
            until,
            children: element.children.len() as u32,
        });
        element.children.into_iter().for_each(|child| self.add(child));
    }
}

impl AfterMatch {
    pub(super) fn to_contract(&self) -> wit::AfterMatch {
        match self {
            AfterMatch::NoSkip => wit::AfterMatch::NoSkip,
            AfterMatch::SkipToNext => wit::AfterMatch::SkipToNext,
            AfterMatch::SkipPastLast => wit::AfterMatch::SkipPastLast,
            AfterMatch::SkipToFirst(stage) => wit::AfterMatch::SkipToFirst(stage.clone()),
            AfterMatch::SkipToLast(stage) => wit::AfterMatch::SkipToLast(stage.clone()),
        }
    }
}
