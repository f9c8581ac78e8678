//! Lives through the scenarios that are named, under the real policy, and says what came of them.

use memvisor_sim::{output, scenario::Scenario, world};
use std::time::Instant;

fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).expect("a scenario can be read");
        let scenario = Scenario::parse(&text).unwrap_or_else(|refusal| panic!("{path}, {refusal}"));
        let begun = Instant::now();
        let series = world::live(&scenario, &mut memvisor_policy::plan);
        let findings = scenario.judge(&series);
        println!("{}{:.1} s\n", output::text(&scenario, &series, &findings), begun.elapsed().as_secs_f64());
        if let Some(plots) = std::env::var_os("PLOTS") {
            let name = std::path::Path::new(&path).with_extension("png");
            let file = std::path::Path::new(&plots).join(name.file_name().expect("a file has a name"));
            output::plot(&scenario, &series, &file).expect("a plot can be written");
        }
    }
}
