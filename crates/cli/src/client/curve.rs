//! `memvisor curve`: how often a space would load pages, at each amount of DRAM.

use super::args::CurveArgs;
use super::node::Node;
use super::text::{print, print_json};
use crate::curve::{Picture, file, terminal};
use crate::exit::{Failure, Outcome};
use memvisor_node::wire;
use memvisor_picture::terminal::columns;
use serde_json::Value;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// A picture cannot be written.
#[derive(Debug)]
pub struct DrawError(PathBuf, Box<dyn Error + Send + Sync>);

impl fmt::Display for DrawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot draw {}", self.0.display())
    }
}

impl Error for DrawError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.1)
    }
}

impl Failure for DrawError {
    fn way_out(&self) -> Option<String> {
        Some("name a file in a directory that you may write to".into())
    }
}

/// Draws the curve: on the terminal, and into the files that are asked for.
///
/// # Errors
/// When the node does not answer, has no such space or no curve of it yet, and when a file cannot be written.
pub fn curve(args: &CurveArgs) -> Outcome {
    let node = Node::meant(&args.node)?;
    if args.json {
        return print_json(&node.curve::<Value>(&args.name)?);
    }
    let curve: wire::Curve = node.curve(&args.name)?;
    let picture = Picture::of(curve, &node.space(&args.name)?);
    if let Some(path) = &args.png {
        file::png(&picture, path).map_err(|error| DrawError(path.clone(), error))?;
    }
    if let Some(path) = &args.svg {
        file::svg(&picture, path).map_err(|error| DrawError(path.clone(), error))?;
    }
    print(&terminal::text(&picture, columns()))
}
