//! The report that `memvisor run --report` writes, read as a stranger would.

use std::path::Path;

/// The fields that the report must have, by their paths.
const FIELDS: [&str; 13] = [
    "/space",
    "/dram_target_bytes",
    "/dram_charged_bytes_max",
    "/overhead_bytes",
    "/faults",
    "/evictions",
    "/loads_by_store",
    "/bytes_by_tier",
    "/fault_ns/p50",
    "/fault_ns/p99",
    "/fault_ns/max",
    "/stalls",
    "/errors",
];

/// A report.
#[derive(Clone, Debug)]
pub struct Report(serde_json::Value);

impl Report {
    /// Reads the report at `path`.
    ///
    /// # Errors
    /// A sentence: it is not there, is no JSON, or lacks a field.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("no report at {}: {error}", path.display()))?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("the report: {error}"))?;
        match FIELDS.iter().find(|field| value.pointer(field).is_none()) {
            Some(missing) => Err(format!("the report has no {missing}: {text}")),
            None => Ok(Self(value)),
        }
    }

    /// The number at `path`, such as `/fault_ns/p99`; 0 when there is none.
    pub fn number(&self, path: &str) -> u64 {
        self.0.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0)
    }

    /// The errors that it tells of, if any: a count, or a list or table of them.
    pub fn errors(&self) -> Option<String> {
        use serde_json::Value;
        let errors = self.0.pointer("/errors")?;
        let some = match errors {
            Value::Null => false,
            Value::Bool(some) => *some,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(table) => table.values().any(|value| value.as_u64() != Some(0)),
        };
        some.then(|| errors.to_string())
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
