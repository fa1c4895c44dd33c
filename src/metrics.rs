use prometheus::IntCounter;
#[derive(Debug)]
pub struct Metrics { pub sessions_expired: IntCounter, pub resyncs: IntCounter }
impl Metrics {
    pub fn new() -> Self { Metrics { sessions_expired: IntCounter::new("a","a").unwrap(), resyncs: IntCounter::new("b","b").unwrap() } }
    pub fn answered(&self, _op: i32, _s: f64) {}
    pub fn committed(&self, _n: usize, _ms: u64) {}
    pub fn conflicted(&self, _n: usize) {}
}
