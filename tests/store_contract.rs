//! What every store promises, run against each of them: in memory, in a data directory, etcd 3.4 and etcd 3.6; then what
//! is particular to one.

#[path = "support/etcd.rs"]
mod etcd_process;

#[path = "store_contract/contract.rs"]
mod contract;
#[path = "store_contract/durable.rs"]
mod durable;
#[path = "store_contract/faults.rs"]
mod faults;
#[path = "store_contract/fixture.rs"]
mod fixture;
#[path = "store_contract/real_etcd.rs"]
mod real_etcd;
