//! What the verifier has to do: newer clangs and other kernels must stay below its limit of a
//! million instructions, so there is to be room.

use libbpf_rs::query::ProgInfoIter;

use crate::kernel::Kernel;

const LIMIT: u32 = 650_000;

#[test]
fn instructions_verified() {
    let kernel = Kernel::load(&["--connections", "1"]);
    let ids: Vec<u32> = kernel.program_ids();
    let mut found = 0;
    for program in ProgInfoIter::default().filter(|p| ids.contains(&p.id)) {
        found += 1;
        println!(
            "{}: {} instructions verified",
            program.name.to_string_lossy(),
            program.verified_insns
        );
        assert!(program.verified_insns < LIMIT);
    }
    assert_eq!(found, ids.len());
}
