//! ZooKeeper 3.9.5 and zketcd side by side: what several sessions ask is played to both, and compared to the last byte.
//! `README.md` says how to read and replay a case.

mod case;
mod compare;
mod generate;
mod player;
mod report;
mod run;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use run::Options;

/// Sequences in a plain `cargo test`.
const FEW: u64 = 300;

/// So many meet every operation and every error code: the rarest, NoChildrenForEphemerals, comes once in 360 sequences, so
/// that only one run of this length in 10^12 misses it. Of a few sequences, every other day's do. And fewer are no result
/// for the table.
const ENOUGH: u64 = 10_000;

/// Generated sequences: as many as `make differential` asks for, or a few.
#[test]
fn sequences() {
    let options = Options::from_env(FEW);
    let report = run::sequences(&options);
    print!("{report}");
    report.save(options.sequences >= ENOUGH);
    assert!(report.failures.is_empty(), "{} differences", report.failures.len());
    if options.sequences >= ENOUGH {
        report.assert_all_was_reached();
    }
}

/// Every difference ever found; or the one case that `DIFFERENTIAL_CASE` names.
#[test]
fn regressions() {
    if let Some(difference) = run::replay(&Options::from_env(FEW)) {
        panic!("{difference}");
    }
    let failures = run::regressions(&Options::from_env(FEW));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
