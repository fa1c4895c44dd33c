//! One writer, many watchers: the writer sets a znode once all watchers have read it and left a watch, so that each
//! set is an event for every one of them, and each event a read of what it told of.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use zketcd::jute::{Request, WatcherEvent, op};

use super::housekeeping::{self, ANY, create};
use super::template::Template;
use super::wire::{Client, Connection, Pool, be_i32};
use super::{Result, Window, say};

/// `Watcher.Event.EventType.NodeDataChanged`.
const DATA_CHANGED: i32 = 3;
/// Where a `Stat` has the version, from its end.
const VERSION: usize = 68 - 32;
/// The connection that writes; the others watch.
const WRITER: usize = 0;

struct FanOut {
    path: String,
    window: Window,
    set: Template,
    get: Template,
    watchers: usize,
    /// Sets sent.
    sets: u64,
    set_open: bool,
    /// Watchers that have read the znode as the last set left it, and left a watch.
    armed: usize,
    /// By connection: how many events it got, and whether it must read and watch now.
    watching: Vec<(u64, bool)>,
    events: u64,
    /// Of each measured event, from when the set was sent, in microseconds.
    latencies: Vec<u32>,
    born: Instant,
}

impl Client for FanOut {
    fn answer(&mut self, worker: usize, kind: i32, body: &[u8], _: Instant, _: Instant) -> Result<()> {
        let version = be_i32(body, body.len().saturating_sub(VERSION));
        if i64::from(version) != self.sets as i64 {
            return Err(format!("connection {worker} sees version {version} after {} sets", self.sets).into());
        }
        match kind {
            op::SET_DATA => self.set_open = false,
            _ => self.armed += 1,
        }
        Ok(())
    }

    fn event(&mut self, worker: usize, event: WatcherEvent<'static>) -> Result<()> {
        let Some((events, pending)) = self.watching.get_mut(worker) else { return Err("an event to nobody".into()) };
        *events += 1;
        *pending = true;
        if event.kind != DATA_CHANGED || event.path != self.path || *events != self.sets {
            return Err(format!("connection {worker}: {event:?} is event {events} after {} sets", self.sets).into());
        }
        let now = Instant::now();
        if self.window.contains(now) {
            self.events += 1;
            self.latencies.push(u32::try_from((now - self.born).as_micros()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn fill(&mut self, worker: usize, connection: &mut Connection, now: Instant) -> Result<()> {
        if let Some((_, pending)) = self.watching.get_mut(worker).filter(|(_, pending)| *pending) {
            *pending = false;
            connection.send_again(&self.get, 0, now);
        }
        Ok(())
    }

    fn tick(&mut self, pool: &mut Pool, now: Instant) -> Result<Option<Instant>> {
        let settled = self.armed == self.watchers && !self.set_open;
        if settled && !self.window.is_over(now) {
            (self.armed, self.set_open, self.born) = (0, true, now);
            self.sets += 1;
            let set = &self.set;
            pool.touch(WRITER).ok_or("no writer")?.send_again(set, 0, now);
        }
        Ok(self.window.tick(now))
    }

    fn done(&self) -> bool {
        self.window.is_said() && self.armed == self.watchers && !self.set_open
    }
}

/// Lets one connection write and `watchers` others hear of it, then says what came of it.
pub fn run(servers: &[SocketAddr], watchers: usize, data: usize, times: (Duration, Duration)) -> Result<()> {
    let parent = housekeeping::fresh("fan-out")?;
    let (path, data) = (format!("{parent}/node"), Bytes::from(vec![b'x'; data]));
    let mut pool = Pool::attach(servers, 1 + watchers, housekeeping::PATIENCE)?;
    housekeeping::make(&mut pool, &path, vec![create(parent.clone(), &data), create(path.clone(), &data)])?;
    let mut fan_out = FanOut {
        window: Window::new(times.0, times.1),
        set: Template::new(&Request::SetData { path: path.clone(), data: Some(data), version: ANY }),
        get: Template::new(&Request::GetData { path: path.clone(), watch: true }),
        path,
        watchers,
        sets: 0,
        set_open: false,
        armed: 0,
        watching: (0..=watchers).map(|worker| (0, worker != WRITER)).collect(),
        events: 0,
        latencies: Vec::new(),
        born: Instant::now(),
    };
    pool.run(&mut fan_out, times.0 + times.1 + housekeeping::PATIENCE)?;
    housekeeping::empty(&mut pool, &parent, 1)?;
    housekeeping::close(&mut pool, &parent)?;
    fan_out.latencies.sort_unstable();
    say(&[
        ("operations", fan_out.events as f64),
        ("seconds", times.1.as_secs_f64()),
        ("p50_us", super::percentile(&fan_out.latencies, 0.5)),
        ("p99_us", super::percentile(&fan_out.latencies, 0.99)),
    ]);
    Ok(())
}
