//! Power cuts at every operation of a device's disk: nothing comes of them, and planted bugs are found.

use bellwether_world::cuts::{Course, Plan, Tally};

#[test]
fn measure() {
    let begun = std::time::Instant::now();
    let every = std::env::var("EVERY").is_ok();
    let plan = Plan { updates: 20, seed: 1, every_second: every, mutant: None };
    let mut course = Course::new(plan).unwrap();
    println!("script {:?}", begun.elapsed());
    let mut all = Tally::default();
    while course.next().is_some() {
        let shown = course.cut();
        println!("{:?} {:?} {:?}", shown.tally, shown.bad, begun.elapsed());
        all.add(&shown.tally);
    }
    println!("{all:?} {:?}", begun.elapsed());
}
