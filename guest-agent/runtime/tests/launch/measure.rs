//! How long things take: `cargo test --release -p runtime --test launch -- measure`.

use std::time::Instant;

use crate::lab::{Lab, PIPES};

pub(crate) fn run(lab: &Lab) {
    let median = |name: &str, count: usize, work: &dyn Fn()| {
        let mut times: Vec<_> = (0..count)
            .map(|_| {
                let start = Instant::now();
                work();
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{name}: median {:?}, p95 {:?}", times[count / 2], times[count * 95 / 100]);
    };
    median("launch, wait and release of `true`", 300, &|| {
        let process = lab.runtime.launch(lab.plan(&["/bin/true"]), PIPES).unwrap();
        lab.wait(&process);
        lab.runtime.release(process.id()).unwrap();
    });
    let container = lab.idle();
    median("exec, wait and release of `true`", 300, &|| {
        let process = lab.runtime.exec(lab.exec_plan(&container, &["/bin/true"]), PIPES).unwrap();
        lab.wait(&process);
        lab.runtime.release_exec(container.id(), process.id()).unwrap();
    });
    lab.end(&container);
}
