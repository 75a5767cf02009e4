//! 84: a configuration that is broken while the server runs.

use shardcast_tests::binary::wait_for;

use crate::arena::Cost;
use crate::siege::Siege;

/// A second SIGTERM is in `process.rs`: it ends the process, so that nobody is left who could be well.
#[test]
fn attack_84_a_flood_of_sighups_with_broken_files_changes_nothing_and_costs_little() {
    const ROUNDS: usize = 40;
    let mut siege = Siege::start("");
    let endless = format!("[server]\nlisten = [{}]\nlisen = 1\n", "\"127.0.0.1:0\", ".repeat(100_000));
    let deep = format!("x = {}", "[".repeat(100_000));
    let broken = ["[auth", "[auth]\nroms = []\n", "[auth]\ndev = 3\n", "\0", &deep, &endless];
    // A file of 1.6 MB is read and understood before it is refused.
    let cost = Cost::USUAL.holding(96 << 20).computing(40);
    siege.attack("84", cost, &[], |siege| {
        for round in 0..ROUNDS {
            siege.server.write_config(broken[round % broken.len()]);
            siege.server.signal(libc::SIGHUP);
            wait_for("the refusal", || {
                (siege.server.log().matches("reload refused").count() > round).then_some(())
            });
        }
    });
    siege.end();
}
