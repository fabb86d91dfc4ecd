//! Sockets on this machine.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use millrace_core::connector::{Boundedness, Poll, Split, SplitReader};

use super::*;
use crate::testing::{context, identity, options};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("word", DataType::Utf8, false),
        Field::new("n", DataType::Int64, false),
    ]))
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn source(pairs: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
    Ok(TcpConnector.source(options(pairs), schema())?.unwrap())
}

fn open(source: &dyn Source) -> Box<dyn SplitReader> {
    source.open(&source.splits(1).unwrap()[0], &context(0, 1)).unwrap()
}

/// Reads until there are so many rows, rejected ones among them, or the end.
fn words(reader: &mut dyn SplitReader, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..3_000 {
        match reader.poll(10, Duration::ZERO).unwrap() {
            Poll::Rows(rows) => {
                words.extend(
                    rows.rows
                        .column(0)
                        .as_string::<i32>()
                        .iter()
                        .map(|word| word.unwrap().to_owned()),
                );
                words.extend(rows.rejected.into_iter().map(|row| row.raw));
            }
            Poll::Pending { .. } => std::thread::sleep(Duration::from_millis(2)),
            Poll::End => {
                words.push("END".to_owned());
                return words;
            }
        }
        if words.len() >= count {
            return words;
        }
    }
    panic!("only {words:?} has come")
}

#[test]
fn a_source_connects_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let source = source(&[("address", &address), ("format", "csv")]).unwrap();
    assert_eq!(source.boundedness(), Boundedness::Unbounded);
    assert!(source.lost_on_restart().unwrap().contains(&address));
    let mut reader = open(source.as_ref());
    for _ in 0..2 {
        let mut peer = listener.accept().unwrap().0;
        peer.write_all(b"n,word\n1,a\n2,").unwrap();
        assert_eq!(words(reader.as_mut(), 1), ["a"]);
        peer.write_all(b"b\nx,c\n4,d").unwrap();
        assert_eq!(words(reader.as_mut(), 2), ["b", "x,c"]);
        drop(peer);
        assert_eq!(words(reader.as_mut(), 1), ["d"]);
    }
}

#[test]
fn a_source_that_does_not_connect_again_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pairs = [
        ("address", address.as_str()),
        ("format", "csv"),
        ("csv.header", "false"),
        ("reconnect.attempts", "0"),
    ];
    let source = source(&pairs).unwrap();
    assert_eq!(source.boundedness(), Boundedness::Bounded);
    let mut reader = open(source.as_ref());
    listener.accept().unwrap().0.write_all(b"a,1\nb,2\n").unwrap();
    assert_eq!(words(reader.as_mut(), 3), ["a", "b", "END"]);
    let position = reader.position();
    let split = Split {
        id: "tcp".into(),
        position,
    };
    let mut again = source.open(&split, &context(0, 1)).unwrap();
    assert_eq!(words(again.as_mut(), 1), ["END"]);
    drop(listener);
    let mut refused = open(source.as_ref());
    let error = loop {
        match refused.poll(10, Duration::ZERO) {
            Ok(_) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => break error,
        }
    };
    assert!(
        error.code() == "IO0151" && error.to_string().contains(&address),
        "{error}"
    );
}

#[test]
fn a_source_listens_to_many_and_lets_go_of_its_address() {
    let address = free_address();
    let pairs = [
        ("address", address.as_str()),
        ("mode", "listen"),
        ("format", "ndjson"),
        ("connections.max", "2"),
    ];
    let source = source(&pairs).unwrap();
    for _ in 0..2 {
        let mut reader = open(source.as_ref());
        let mut peers = [0, 1, 2].map(|_| TcpStream::connect(&address).unwrap());
        peers[0].write_all(b"{\"word\":\"a\",\"n\":1}\n{\"word\":").unwrap();
        assert_eq!(words(reader.as_mut(), 1), ["a"]);
        peers[1].write_all(b"{\"word\":\"b\",\"n\":1}\n").unwrap();
        assert_eq!(words(reader.as_mut(), 1), ["b"]);
        peers[0].write_all(b"\"c\",\"n\":1}\n").unwrap();
        assert_eq!(words(reader.as_mut(), 1), ["c"]);
        // The third has to wait for one of the others.
        peers[2].write_all(b"{\"word\":\"d\",\"n\":1}\n").unwrap();
        std::thread::sleep(Duration::from_millis(60));
        assert!(matches!(reader.poll(10, Duration::ZERO).unwrap(), Poll::Pending { .. }));
        peers[1].shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(words(reader.as_mut(), 1), ["d"]);
    }
}

fn rows(words: &[&str]) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(0..words.len() as i64);
    let words = StringArray::from(words.to_vec());
    RecordBatch::try_new(schema(), vec![Arc::new(words), Arc::new(numbers)]).unwrap()
}

fn sink(pairs: &[(&str, &str)]) -> Arc<dyn Sink> {
    TcpConnector
        .sink(options(pairs), schema(), &identity())
        .unwrap()
        .unwrap()
}

#[test]
fn a_sink_connects_again_with_a_header_for_each_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sink = sink(&[("address", &address), ("format", "csv")]);
    let mut writer = sink.open(&context(0, 1)).unwrap();
    writer.write(&rows(&["a", "b"]), Duration::ZERO).unwrap();
    writer.pre_commit().unwrap();
    let peer = BufReader::new(listener.accept().unwrap().0);
    let got: Vec<String> = peer.lines().take(3).map(Result::unwrap).collect();
    assert_eq!(got, ["word,n", "a,0", "b,1"]);
    // The peer is gone; the system notices with the second write at the latest.
    for word in ["c", "d", "e"] {
        writer.write(&rows(&[word]), Duration::ZERO).unwrap();
        writer.flush().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut peer = BufReader::new(listener.accept().unwrap().0).lines();
    assert_eq!(peer.next().unwrap().unwrap(), "word,n");
    drop(writer);
    assert_eq!(peer.last().unwrap().unwrap(), "e,0");
}

#[test]
fn a_sink_that_listens_writes_to_all() {
    let address = free_address();
    let sink = sink(&[("address", &address), ("mode", "listen"), ("format", "ndjson")]);
    sink.check().unwrap();
    let mut writers = [0, 1].map(|subtask| sink.open(&context(subtask, 2)).unwrap());
    let peers = [0, 1].map(|_| BufReader::new(TcpStream::connect(&address).unwrap()));
    std::thread::sleep(Duration::from_millis(50));
    for (writer, word) in writers.iter_mut().zip(["a", "b"]) {
        writer.write(&rows(&[word]), Duration::ZERO).unwrap();
        writer.flush().unwrap();
    }
    for peer in peers {
        let got: Vec<String> = peer.lines().take(2).map(Result::unwrap).collect();
        assert_eq!(got, ["{\"word\":\"a\",\"n\":0}", "{\"word\":\"b\",\"n\":0}"]);
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (pairs, code, says) in [
        (vec![], "CN0002", "address"),
        (vec![("address", "localhost")], "CN0003", "localhost:9999"),
        (vec![("address", "x:1"), ("mode", "serve")], "CN0108", "serve"),
        (
            vec![("address", "x:1"), ("mode", "listen"), ("reconnect.attempts", "1")],
            "CN0110",
            "attempts",
        ),
        (
            vec![("address", "x:1"), ("format", "text")],
            "CN0109",
            "one utf8 column",
        ),
        (vec![("address", "x:1"), ("path", "y")], "CN0004", "path"),
    ] {
        let mut pairs = pairs;
        if !pairs.iter().any(|(name, _)| *name == "format") {
            pairs.push(("format", "ndjson"));
        }
        let error = source(&pairs).err().unwrap();
        assert!(
            error.code() == code && error.to_string().contains(says),
            "{pairs:?}: {error}"
        );
    }
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let error = sink(&[("address", &address), ("mode", "listen"), ("format", "ndjson")])
        .check()
        .unwrap_err();
    assert_eq!(error.code(), "IO0150");
}
