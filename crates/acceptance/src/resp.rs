//! As much of the Redis protocol as the case needs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to a Redis.
pub struct Client {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A simple string.
    Text(String),
    /// A number.
    Number(i64),
    /// A value.
    Bytes(Vec<u8>),
    /// There is none.
    Nothing,
    /// A list of answers.
    List(Vec<Self>),
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let writer = UnixStream::connect(socket)?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, writer.try_clone()?), writer })
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// The connection broke, or the answer is an error.
    pub fn ask(&mut self, command: &[&[u8]]) -> io::Result<Answer> {
        self.ask_all(&[command]).map(|mut answers| answers.remove(0))
    }

    /// The text answer to a command of words.
    ///
    /// # Errors
    /// The connection broke, or the answer is an error or no text.
    pub fn text(&mut self, words: &str) -> io::Result<String> {
        let command: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        match self.ask(&command)? {
            Answer::Text(text) => Ok(text),
            Answer::Number(number) => Ok(number.to_string()),
            Answer::Bytes(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            other => Err(io::Error::other(format!("{words} was answered with {other:?}"))),
        }
    }

    /// Sends several commands at once and reads all answers.
    ///
    /// # Errors
    /// The connection broke, or an answer is an error.
    pub fn ask_all(&mut self, commands: &[&[&[u8]]]) -> io::Result<Vec<Answer>> {
        let mut text = Vec::new();
        for command in commands {
            text.extend(format!("*{}\r\n", command.len()).into_bytes());
            for part in *command {
                text.extend(format!("${}\r\n", part.len()).into_bytes());
                text.extend_from_slice(part);
                text.extend_from_slice(b"\r\n");
            }
        }
        self.writer.write_all(&text)?;
        commands.iter().map(|_| self.answer()).collect()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().into()),
        }
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        match kind {
            "+" => Ok(Answer::Text(rest.into())),
            "-" => Err(io::Error::other(rest)),
            ":" => Ok(Answer::Number(number()?)),
            "$" => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Ok(Answer::Bytes(bytes))
                }
                Err(_) => Ok(Answer::Nothing),
            },
            "*" => (0..number()?).map(|_| self.answer()).collect::<io::Result<_>>().map(Answer::List),
            _ => Err(io::Error::other(format!("no answer of Redis: {line:?}"))),
        }
    }
}
