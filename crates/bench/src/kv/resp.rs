//! A client of the Redis protocol that sends many commands before it reads the answers.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// No answer within this time is a server that hangs.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Bytes of commands that are collected before they are sent.
const SEND_BYTES: usize = 64 << 10;

/// Longest line that is not a value: an error message.
const LINE_BYTES_MAX: usize = 4 << 10;

/// An answer, the value itself apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `+OK` and the like.
    Done,
    /// A number.
    Number(i64),
    /// A value, which is in the buffer.
    Value,
    /// There is no such key.
    Nothing,
}

/// A connection.
pub struct Connection {
    input: BufReader<Box<dyn Read>>,
    output: Box<dyn Write>,
    pending: Vec<u8>,
}

impl Connection {
    /// Connects to a Unix socket, if `address` has a slash, or else to `host:port`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(address: &str) -> io::Result<Self> {
        let (input, output): (Box<dyn Read>, Box<dyn Write>) = if address.contains('/') {
            let stream = UnixStream::connect(address)?;
            stream.set_read_timeout(Some(ANSWER_TIME))?;
            (Box::new(stream.try_clone()?), Box::new(stream))
        } else {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_TIME))?;
            (Box::new(stream.try_clone()?), Box::new(stream))
        };
        Ok(Self::over(input, output))
    }

    fn over(input: Box<dyn Read>, output: Box<dyn Write>) -> Self {
        Self { input: BufReader::with_capacity(SEND_BYTES, input), output, pending: Vec::with_capacity(2 * SEND_BYTES) }
    }

    /// Adds a command; it is sent at the latest with [`Connection::flush`].
    ///
    /// # Errors
    /// When the server has gone.
    pub fn send(&mut self, words: &[&[u8]]) -> io::Result<()> {
        write!(self.pending, "*{}\r\n", words.len())?;
        for word in words {
            write!(self.pending, "${}\r\n", word.len())?;
            self.pending.extend_from_slice(word);
            self.pending.extend_from_slice(b"\r\n");
        }
        if self.pending.len() >= SEND_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends what has been added.
    ///
    /// # Errors
    /// When the server has gone.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.write_all(&self.pending)?;
        self.pending.clear();
        self.output.flush()
    }

    /// Reads one answer; a value goes into `value`, whose old contents are lost.
    ///
    /// # Errors
    /// When the server has gone, hangs, speaks another protocol, or answers with an error.
    pub fn receive(&mut self, value: &mut Vec<u8>) -> io::Result<Answer> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(1.min(line.len()));
        match kind {
            "+" => Ok(Answer::Done),
            ":" => Ok(Answer::Number(number(rest)?)),
            "-" => Err(io::Error::other(format!("the server refused: {rest}"))),
            "$" if rest == "-1" => Ok(Answer::Nothing),
            "$" => {
                let length = usize::try_from(number(rest)?).map_err(|_| strange(&line))?;
                value.resize(length, 0);
                self.input.read_exact(value)?;
                let mut end = [0; 2];
                self.input.read_exact(&mut end)?;
                if &end == b"\r\n" { Ok(Answer::Value) } else { Err(strange("a value without its end")) }
            }
            _ => Err(strange(&line)),
        }
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// As [`Connection::send`] and [`Connection::receive`].
    pub fn call(&mut self, words: &[&[u8]], value: &mut Vec<u8>) -> io::Result<Answer> {
        self.send(words)?;
        self.flush()?;
        self.receive(value)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.input.read_exact(&mut byte)?;
            match byte[0] {
                b'\n' => break,
                _ if line.len() == LINE_BYTES_MAX => return Err(strange("a line without an end")),
                other => line.push(other),
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|_| strange("a line that is no text"))
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| strange(text))
}

fn strange(what: &str) -> io::Error {
    io::Error::other(format!("not the protocol of Redis: {what:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(bytes: &'static [u8]) -> Connection {
        Connection::over(Box::new(bytes), Box::new(io::sink()))
    }

    #[test]
    fn every_kind_of_answer_is_understood() {
        let mut connection = answers(b"+OK\r\n:12\r\n$-1\r\n$5\r\na\r\nb\n\r\n$0\r\n\r\n");
        let mut value = Vec::new();
        assert_eq!(connection.receive(&mut value).expect("ok"), Answer::Done);
        assert_eq!(connection.receive(&mut value).expect("a number"), Answer::Number(12));
        assert_eq!(connection.receive(&mut value).expect("nothing"), Answer::Nothing);
        assert_eq!(connection.receive(&mut value).expect("a value"), Answer::Value);
        assert_eq!(value, b"a\r\nb\n");
        assert_eq!(connection.receive(&mut value).expect("an empty value"), Answer::Value);
        assert!(value.is_empty());
        assert!(connection.receive(&mut value).is_err(), "the server has gone");
    }

    #[test]
    fn a_refusal_and_another_protocol_are_errors() {
        let mut value = Vec::new();
        let refused = answers(b"-OOM no memory\r\n").receive(&mut value).unwrap_err();
        assert!(refused.to_string().contains("OOM no memory"));
        assert!(answers(b"HTTP/1.1 200\r\n").receive(&mut value).is_err());
        assert!(answers(b"$3\r\nabcde").receive(&mut value).is_err());
    }
}
