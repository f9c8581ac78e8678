//! The record: each plan with all that it was made from, a JSON object a line, to be planned again elsewhere.

use memvisor_policy::{Memory, Plan, Settings, Situation};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use tracing::warn;

/// A record that reaches this is renamed to `….1`, over the one before, in bytes: with a hundred spaces two hours.
const RECORD_BYTES_MAX: u64 = 256 << 20;

/// A line of the record, to read it back.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Entry {
    /// What was.
    pub situation: Situation,
    /// What was turned.
    pub settings: Settings,
    /// What the plan before left.
    pub memory: Memory,
    /// What was to be done.
    pub plan: Plan,
}

/// [`Entry`], to write.
#[derive(Serialize)]
struct Line<'a> {
    situation: &'a Situation,
    settings: &'a Settings,
    memory: &'a Memory,
    plan: &'a Plan,
}

/// Writes records, or does not.
#[derive(Debug)]
pub struct Recorder {
    path: Option<PathBuf>,
    file: Option<(BufWriter<File>, u64)>,
}

impl Recorder {
    /// One that writes to `path`; without a path it writes nothing.
    pub fn to(path: Option<PathBuf>) -> Self {
        Self { path, file: None }
    }

    /// Writes a plan. What cannot be written is said once: then nothing more is.
    pub fn record(&mut self, situation: &Situation, settings: &Settings, memory: &Memory, plan: &Plan) {
        if self.path.is_none() {
            return;
        }
        if let Err(error) = self.write(&Line { situation, settings, memory, plan }) {
            warn!(%error, path = ?self.path, "plans can no longer be recorded");
            (self.path, self.file) = (None, None);
        }
    }

    fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut text = serde_json::to_string(line).map_err(io::Error::other)?;
        text.push('\n');
        let (mut file, written) = match self.file.take() {
            Some((file, written)) if written < RECORD_BYTES_MAX => (file, written),
            Some(_) => {
                let mut old = path.clone().into_os_string();
                old.push(".1");
                std::fs::rename(path, old)?;
                open(path)?
            }
            None => open(path)?,
        };
        file.write_all(text.as_bytes())?;
        self.file = Some((file, written + text.len() as u64));
        Ok(())
    }

    /// Brings everything to the file.
    pub fn flush(&mut self) {
        if let Some((file, _)) = &mut self.file {
            let _ = file.flush();
        }
    }
}

fn open(path: &PathBuf) -> io::Result<(BufWriter<File>, u64)> {
    // 0600: command lines are not in it, but what others do is.
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let written = file.metadata()?.len();
    Ok((BufWriter::new(file), written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use memvisor_policy::{Host, Intent, Observation, Space, SpaceId, plan};

    #[test]
    fn a_recorded_plan_is_planned_again_to_the_same() {
        let scratch = Scratch::new("record");
        let path = scratch.join("plans.jsonl");
        let observation = Observation { charged_bytes: 1 << 30, wanted_bytes: 3 << 30, ..Observation::default() };
        let space = |id| Space { id: SpaceId(id), intent: Intent::default(), observation };
        let host = Host { dram_bytes: 4 << 30, free_bytes: 1 << 28 };
        let mut memory = Memory::default();
        let mut recorder = Recorder::to(Some(path.clone()));
        for at in 1..4u64 {
            let situation = Situation { now_ns: at << 30, host, spaces: vec![space(1), space(2)] };
            let (made, next) = plan(&situation, &Settings::default(), &memory);
            recorder.record(&situation, &Settings::default(), &memory, &made);
            memory = next;
        }
        recorder.flush();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 3);
        for line in text.lines() {
            let entry: Entry = serde_json::from_str(line).unwrap();
            assert_eq!(plan(&entry.situation, &entry.settings, &entry.memory).0, entry.plan);
        }
    }
}
