//! Where this library lies.

use std::path::PathBuf;

/// The file that the library's own code is mapped from, by the process's mappings.
pub fn of_library() -> Option<PathBuf> {
    let here = of_library as *const () as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let holds = (usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?).contains(&here);
        let path = rest.find('/').map(|at| PathBuf::from(&rest[at..]));
        if holds { path } else { None }
    })
}
