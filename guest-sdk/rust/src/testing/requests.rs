//! What tests say in place of servers.

use std::fmt;
use std::rc::Rc;

use super::datum::Datum;
use super::guest::Row;
use crate::http::{Answer, Header, HttpError, Request, Response};
use crate::values::Bytes;

type Answers = dyn Fn(&Request) -> Result<Response, HttpError>;

/// Answers requests.
#[derive(Clone, Default)]
pub(crate) struct Server {
    answers: Option<Rc<Answers>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) fn new(answers: impl Fn(&Request) -> Result<Response, HttpError> + 'static) -> Self {
        Server {
            answers: Some(Rc::new(answers)),
        }
    }

    /// Rows with answers in place of their requests, in their order.
    pub(crate) fn answer(&self, rows: Vec<Row>) -> Vec<Row> {
        let answered = |mut row: Row| {
            if let Some(Datum::Struct(members)) = row.values.get(1) {
                row.values[1] = self.ask(&request(members)).map_or(Datum::Null, datum);
            }
            row
        };
        rows.into_iter().map(answered).collect()
    }

    fn ask(&self, request: &Request) -> Option<Answer> {
        let Some(answers) = &self.answers else {
            panic!(
                "the pipeline asks for {} {}: say what comes of it with `testing::Options::http`",
                request.method, request.url
            );
        };
        Answer::of(answers(request))
    }
}

fn bytes(datum: &Datum) -> Vec<u8> {
    match datum {
        Datum::Bytes(bytes) => bytes.clone(),
        other => panic!("{other:?} where there is text"),
    }
}

fn text(datum: &Datum) -> String {
    String::from_utf8(bytes(datum)).expect("text is UTF-8")
}

fn request(members: &[Datum]) -> Request {
    let [method, url, Datum::List(headers), body] = members else {
        panic!("{members:?} is no request");
    };
    let header = |header: &Datum| match header {
        Datum::Struct(pair) => Header {
            name: text(&pair[0]),
            value: text(&pair[1]),
        },
        other => panic!("{other:?} is no header"),
    };
    Request {
        method: text(method),
        url: text(url),
        headers: headers.iter().map(header).collect(),
        body: Bytes(bytes(body)),
    }
}

fn datum(answer: Answer) -> Datum {
    let text = |text: String| Datum::Bytes(text.into_bytes());
    let header = |header: Header| Datum::Struct(vec![text(header.name), text(header.value)]);
    Datum::Struct(vec![
        Datum::Integer(answer.status.into()),
        Datum::List(answer.headers.into_iter().map(header).collect()),
        Datum::Bytes(answer.body.0),
        answer.error.map_or(Datum::Null, text),
        text(answer.message),
    ])
}
