//! Requests, from the contract's declarations to the core's.

use millrace_core::Result;
use millrace_core::graph::{Origin, RequestOrder, RequestsDecl, Retry};

use super::{DECLARATIONS_MAX, Tables, refuse};
use crate::bindings::dataflow;

impl Tables {
    pub(super) fn requests(&self, requests: dataflow::Requests) -> Result<RequestsDecl> {
        if requests.origins.len() > DECLARATIONS_MAX {
            let count = requests.origins.len();
            return refuse(format!(
                "requests go to {count} origins; the limit is {DECLARATIONS_MAX}"
            ));
        }
        let declared = self.declared(requests.schema)?;
        Ok(RequestsDecl {
            order: match requests.order {
                dataflow::RequestOrder::Ordered => RequestOrder::Ordered,
                dataflow::RequestOrder::Unordered => RequestOrder::Unordered,
            },
            capacity: requests.capacity,
            timeout_ms: requests.timeout_ms,
            retry: requests.retry.map(|retry| Retry {
                attempts: retry.attempts,
                delay_ms: retry.delay_ms,
                statuses: retry.statuses,
            }),
            response_bytes_max: requests.response_bytes_max,
            origins: requests
                .origins
                .iter()
                .map(|origin| Origin::parse(origin))
                .collect::<Result<_>>()?,
            schema: declared.schema.clone(),
            hints: declared.hints.clone(),
        })
    }
}
