//! Cuts a stream of bytes into records without copying them.
//!
//! Bytes are appended to one buffer; complete records are marked in it and stay there until they are
//! consumed, so that a block of records is one contiguous slice. Offsets count bytes of the (decompressed)
//! stream, lines count from 1; both are those of the next record not yet marked. A byte order mark at
//! offset 0 is skipped.
//!
//! A CSV record ends at a line end outside quotes, by the rules of the `csv-core` crate, which parses it
//! later: a quote opens only at the start of a field, and a doubled one stands for itself.

use memchr::{memchr, memchr_iter};

/// A record longer than this is an error: most likely a quote that is never closed, or no text at all.
pub(crate) const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How records are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Every line is a record.
    Lines,
    /// Every line that is not blank is a record.
    FilledLines,
    /// CSV; empty lines are skipped.
    Csv {
        /// Between fields.
        delimiter: u8,
        /// Around fields.
        quote: u8,
    },
}

/// A record in [`Framer::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where it starts.
    pub(crate) start: usize,
    /// Where its content ends, before the line end.
    pub(crate) end: usize,
    /// Where the next line starts.
    pub(crate) next: usize,
    /// Its first line.
    pub(crate) line: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Framer {
    framing: Framing,
    buffer: Vec<u8>,
    /// Where the next unmarked record starts in the buffer.
    scan: usize,
    /// Up to where no line end has been found after `scan`.
    searched: usize,
    /// Offset of `buffer[0]` in the stream.
    base: u64,
    line: u64,
    closed: bool,
    /// Records that start at or after this offset are another split's.
    limit: u64,
}

impl Framer {
    /// A framer whose first byte has this offset and line.
    pub(crate) fn new(framing: Framing, offset: u64, line: u64, limit: Option<u64>) -> Self {
        Framer {
            framing,
            buffer: Vec::new(),
            scan: 0,
            searched: 0,
            base: offset,
            line,
            closed: false,
            limit: limit.unwrap_or(u64::MAX),
        }
    }

    /// One for another stream, whose first byte has offset 0.
    #[cfg(feature = "http")]
    pub(crate) fn restarted(&self) -> Self {
        Framer::new(self.framing, 0, 1, None)
    }

    /// Where bytes are appended, by a reader that only appends.
    pub(crate) fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Nothing more is appended.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// All records there will be are marked.
    pub(crate) fn is_finished(&self) -> bool {
        self.offset() >= self.limit || (self.closed && self.scan == self.buffer.len())
    }

    /// Offset of the next unmarked record.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.scan as u64
    }

    /// Line of the next unmarked record.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// What [`Record`]s point into.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets the records marked so far. Earlier `Record`s are void.
    pub(crate) fn consume(&mut self) {
        self.buffer.drain(..self.scan);
        self.base += self.scan as u64;
        self.searched = self.searched.saturating_sub(self.scan);
        self.scan = 0;
    }

    /// Skips up to and with the next line end; whether there was one.
    pub(crate) fn skip_line(&mut self) -> bool {
        match memchr(b'\n', &self.buffer[self.scan..]) {
            Some(at) => self.scan += at + 1,
            None => self.scan = self.buffer.len(),
        }
        let found = self.scan > 0 && self.buffer[self.scan - 1] == b'\n';
        self.line += u64::from(found);
        self.searched = self.scan;
        found
    }

    /// Marks complete records until `records` holds `records_max`. An error gives the length of a record
    /// that is too long.
    pub(crate) fn frame(&mut self, records_max: usize, records: &mut Vec<Record>) -> Result<(), usize> {
        if self.offset() == 0 && !self.skip_byte_order_mark() {
            return Ok(());
        }
        while records.len() < records_max && !self.is_finished() {
            let Some((end, lines)) = self.record_end() else {
                let bytes = self.buffer.len() - self.scan;
                return if bytes > RECORD_BYTES_MAX { Err(bytes) } else { Ok(()) };
            };
            let start = self.scan;
            let next = (end + 1).min(self.buffer.len());
            let end = if end > start && self.buffer[end - 1] == b'\r' {
                end - 1
            } else {
                end
            };
            let is_record = match self.framing {
                Framing::Lines => true,
                Framing::Csv { .. } => end > start,
                Framing::FilledLines => !self.buffer[start..end].trim_ascii().is_empty(),
            };
            if is_record {
                let line = self.line;
                records.push(Record { start, end, next, line });
            }
            self.line += lines;
            self.scan = next;
            self.searched = next;
        }
        Ok(())
    }

    /// Whether framing can begin: not while the first three bytes may still become a mark.
    fn skip_byte_order_mark(&mut self) -> bool {
        if self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.scan = BYTE_ORDER_MARK.len();
            self.searched = self.scan;
        }
        self.closed || !BYTE_ORDER_MARK.starts_with(&self.buffer)
    }

    /// Where the record at `scan` ends (at its line end or the end of the stream) and how many lines it has.
    fn record_end(&mut self) -> Option<(usize, u64)> {
        let line_end = match memchr(b'\n', &self.buffer[self.searched..]) {
            Some(at) => self.searched + at,
            None if self.closed => self.buffer.len(),
            None => {
                self.searched = self.buffer.len();
                return None;
            }
        };
        match self.framing {
            Framing::Csv { delimiter, quote } if memchr(quote, &self.buffer[self.scan..line_end]).is_some() => {
                // The search starts over with every refill, for a record is seldom longer than a line.
                self.searched = self.scan;
                let record = &self.buffer[self.scan..];
                let end = match csv_record_end(record, delimiter, quote) {
                    Some(end) => end,
                    None if self.closed => record.len(),
                    None => return None,
                };
                Some((self.scan + end, 1 + memchr_iter(b'\n', &record[..end]).count() as u64))
            }
            _ => Some((line_end, 1)),
        }
    }
}

/// Where in a field the scan is.
#[derive(Clone, Copy, PartialEq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    QuoteInQuoted,
}

/// Index of the line end that ends a CSV record.
fn csv_record_end(bytes: &[u8], delimiter: u8, quote: u8) -> Option<usize> {
    let mut state = State::FieldStart;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        state = match state {
            State::Quoted => {
                at += memchr(quote, &bytes[at..])?;
                State::QuoteInQuoted
            }
            State::QuoteInQuoted if byte == quote => State::Quoted,
            State::FieldStart if byte == quote => State::Quoted,
            _ if byte == b'\n' => return Some(at),
            _ if byte == delimiter => State::FieldStart,
            _ => State::Plain,
        };
        at += 1;
    }
    None
}

/// The fields of one CSV record, unquoted.
pub(crate) fn csv_fields(record: &[u8], delimiter: u8, quote: u8) -> Vec<Vec<u8>> {
    let mut fields = vec![Vec::new()];
    let mut state = State::FieldStart;
    for &byte in record {
        let field = fields.last_mut().expect("there is always a field");
        state = match state {
            State::FieldStart if byte == quote => State::Quoted,
            State::Quoted if byte == quote => State::QuoteInQuoted,
            State::QuoteInQuoted if byte == quote => {
                field.push(byte);
                State::Quoted
            }
            State::FieldStart | State::Plain | State::QuoteInQuoted if byte == delimiter => {
                fields.push(Vec::new());
                State::FieldStart
            }
            State::Quoted => {
                field.push(byte);
                State::Quoted
            }
            State::FieldStart | State::Plain | State::QuoteInQuoted => {
                field.push(byte);
                State::Plain
            }
        };
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Framing = Framing::Csv {
        delimiter: b',',
        quote: b'"',
    };

    /// Framing, input, records as (line, content).
    type Case = (Framing, &'static str, &'static [(u64, &'static str)]);

    /// Records as (line, content), fed in pieces of this many bytes.
    fn frame(framing: Framing, text: &str, piece: usize) -> Vec<(u64, String)> {
        let mut framer = Framer::new(framing, 0, 1, None);
        let mut all = Vec::new();
        let mut pieces = text.as_bytes().chunks(piece);
        loop {
            match pieces.next() {
                Some(piece) => framer.buffer_mut().extend_from_slice(piece),
                None => framer.close(),
            }
            let mut records = Vec::new();
            framer.frame(2, &mut records).unwrap();
            for record in &records {
                let content = &framer.bytes()[record.start..record.end];
                all.push((record.line, String::from_utf8(content.to_vec()).unwrap()));
            }
            framer.consume();
            if framer.is_finished() {
                assert_eq!(framer.offset(), text.len() as u64);
                return all;
            }
        }
    }

    #[test]
    fn records_are_cut_the_same_however_bytes_arrive() {
        let cases: [Case; 8] = [
            (Framing::Lines, "a\nb\r\n\nc", &[(1, "a"), (2, "b"), (3, ""), (4, "c")]),
            (Framing::Lines, "\u{feff}a\n", &[(1, "a")]),
            (Framing::Lines, "", &[]),
            (Framing::FilledLines, "1\n \t\r\n\n2\n", &[(1, "1"), (4, "2")]),
            (CSV, "a,\"x\ny\"\nb,c\n", &[(1, "a,\"x\ny\""), (3, "b,c")]),
            (
                CSV,
                "\"\"\"\n\"\"\",1\r\n\r\n5\" pipe,2",
                &[(1, "\"\"\"\n\"\"\",1"), (4, "5\" pipe,2")],
            ),
            (CSV, "a,\"open\nb", &[(1, "a,\"open\nb")]),
            (CSV, "\"a\"x\"\nb\n", &[(1, "\"a\"x\""), (2, "b")]),
        ];
        for (framing, text, expected) in cases {
            for piece in [1, 2, 3, 1000] {
                let got = frame(framing, text, piece);
                let expected: Vec<_> = expected
                    .iter()
                    .map(|(line, text)| (*line, (*text).to_owned()))
                    .collect();
                assert_eq!(got, expected, "{text:?} by {piece}");
            }
        }
    }

    #[test]
    fn a_limit_leaves_later_records_to_others() {
        let mut framer = Framer::new(Framing::Lines, 0, 1, Some(3));
        framer.buffer_mut().extend_from_slice(b"a\nbcd\ne\n");
        let mut records = Vec::new();
        framer.frame(100, &mut records).unwrap();
        assert_eq!((records.len(), framer.is_finished(), framer.offset()), (2, true, 6));
    }

    #[test]
    fn fields_are_unquoted() {
        let fields = csv_fields(b"a,\"b,\"\"c\",,\"d\"e,5\" pipe", b',', b'"');
        let fields: Vec<&str> = fields.iter().map(|field| std::str::from_utf8(field).unwrap()).collect();
        assert_eq!(fields, ["a", "b,\"c", "", "de", "5\" pipe"]);
    }
}
