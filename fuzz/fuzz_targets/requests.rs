//! Clients' requests on two servers over one store, in any order, with any loss: see `zketcd_fuzz::cluster`.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use zketcd_fuzz::cluster::Cluster;

fuzz_target!(|data: &[u8]| {
    // The store starts a task that ends its leases; it never runs, so leases end where the run says so.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut source = Unstructured::new(data);
    if let Ok(mut cluster) = Cluster::new(&mut source) {
        cluster.run(&mut source);
    }
});
