#[derive(Debug, Default)]
pub struct ConnectionStats;
impl ConnectionStats {
    pub fn new(_wall: i64) -> Self { Self }
    pub fn received(&mut self) {}
    pub fn answered(&mut self, _op: &'static str, _xid: i32, _zxid: i64, _latency: u64, _wall: i64) {}
    pub fn attached(&mut self, _s: i64, _t: i32) {}
}
pub fn op_name(_op: i32) -> &'static str { "" }
