//! What the verifier has to do: newer clangs and other kernels must stay below its limit of a
//! million instructions, so there is to be room.

use libbpf_rs::query::ProgInfoIter;

use crate::kernel::Kernel;

const LIMIT: u32 = 680_000;

#[test]
fn instructions_verified() {
    // The verifier looks only at what the configuration leaves.
    for flags in [
        &[][..],
        &["--routes", "16"],
        &["--proxy-uid", "2102"],
        &["--detail", "full"],
    ] {
        let kernel = Kernel::load(&[&["--connections", "1"], flags].concat());
        let ids: Vec<u32> = kernel.program_ids();
        let mut found = 0;
        for program in ProgInfoIter::default().filter(|p| ids.contains(&p.id)) {
            found += 1;
            println!(
                "{} {flags:?}: {} instructions verified",
                program.name.to_string_lossy(),
                program.verified_insns
            );
            assert!(program.verified_insns < LIMIT);
        }
        assert_eq!(found, ids.len());
    }
}
