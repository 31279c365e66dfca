//! Twice on the same interface, each a stranger to the other: the order in which programs run stays
//! what it was whatever happens to one of them, and all see every packet.

use crate::attach::{WAYS, attached};
use crate::exposition::Scrape;
use crate::fixture::{Pod, Shape};
use crate::observed::Connections;
use crate::pins::PinDir;
use crate::server::HTTP;

/// Does it to the pod as it is under other pins.
fn with<T>(pod: &mut Pod, pins: &mut PinDir, what: impl FnOnce(&mut Pod) -> T) -> T {
    std::mem::swap(&mut pod.pins, pins);
    let result = what(pod);
    std::mem::swap(&mut pod.pins, pins);
    result
}

fn scrape(pod: &mut Pod) -> Scrape {
    pod.start();
    pod.ended()
}

#[test]
fn programs_of_others_stay_where_they_are() {
    for way in WAYS {
        let mut pod = Pod::new(Shape::Plain);
        let (mut first, mut last) = (PinDir::new(), PinDir::new());
        let flags = ["--attach", way];
        // By TCX the last that comes is the first that runs; by clsact it is the other way round.
        with(&mut pod, &mut first, |pod| pod.attach(&flags));
        pod.attach(&flags);
        with(&mut pod, &mut last, |pod| pod.attach(&flags));
        let three = attached(&pod);
        pod.pair(HTTP).close();
        pod.attach(&["--attach", way, "--map-size", "20"]);
        let replaced = attached(&pod);
        pod.pair(HTTP).close();
        for (before, after) in three.tcx.iter().zip(&replaced.tcx) {
            if way == "tcx" {
                assert_eq!(before.len(), 3);
                assert_eq!((before[0], before[2]), (after[0], after[2]));
                assert_ne!(before[1], after[1]);
            }
        }
        for filters in &replaced.filters {
            let priorities = [1, 2, 3].map(|n| filters.contains(&format!("pref {n} bpf")));
            assert_eq!(priorities, [way == "clsact"; 3], "{filters}");
        }
        // Each has seen the same.
        for pins in [&mut first, &mut last] {
            let scrape = with(&mut pod, pins, scrape);
            Connections::closed("fin", 2).assert_in(&scrape, HTTP);
        }
        let scrape = scrape(&mut pod);
        Connections::closed("fin", 2).assert_in(&scrape, HTTP);
        pod.attach(&["--detach"]);
        let two = attached(&pod);
        for (before, after) in three.tcx.iter().zip(&two.tcx) {
            if way == "tcx" {
                assert_eq!(after, &[before[0], before[2]]);
            }
        }
        for filters in &two.filters {
            let priorities = [1, 2, 3].map(|n| filters.contains(&format!("pref {n} bpf")));
            let clsact = way == "clsact";
            assert_eq!(priorities, [clsact, false, clsact], "{filters}");
        }
        pod.pair(HTTP).close();
        let scrape = with(&mut pod, &mut last, self::scrape);
        Connections::closed("fin", 3).assert_in(&scrape, HTTP);
        // The qdisc goes with the last, if whoever made it is not the first to go.
        for pins in [&mut last, &mut first] {
            with(&mut pod, pins, |pod| pod.attach(&["--detach"]));
        }
        assert!(!attached(&pod).has_ours());
    }
}
