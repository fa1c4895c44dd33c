//! Opens many sessions, holds them with pings alone, as idle clients do, and closes them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use zketcd::jute::Request;

use super::wire::{Client, Connection, Pool, SESSION_TIMEOUT};
use super::{Result, housekeeping, mark, say};

/// Sessions being opened at a time: below a listener's usual backlog of 128.
const OPENING: usize = 100;
/// A client pings when a third of its timeout has passed.
const PING: Duration = Duration::from_millis(SESSION_TIMEOUT as u64 / 3);
/// The longest time until the last pings are answered.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// First all sessions are opened, then held.
struct Sessions<'a> {
    servers: &'a [SocketAddr],
    count: usize,
    hold: Duration,
    attached: usize,
    lost: usize,
    why: Option<String>,
    /// When the last one was attached.
    opened: Option<Instant>,
    pings: usize,
    answers: usize,
}

impl Client for Sessions<'_> {
    fn answer(&mut self, _: usize, _: i32, _: &[u8], _: Instant, _: Instant) -> Result<()> {
        self.answers += 1;
        Ok(())
    }

    fn fill(&mut self, _: usize, _: &mut Connection, _: Instant) -> Result<()> {
        Ok(())
    }

    fn attached(&mut self, _: usize, now: Instant) {
        self.attached += 1;
        if self.attached == self.count {
            self.opened = Some(now);
        }
    }

    fn lost(&mut self, worker: usize, why: &str) -> Result<()> {
        if self.opened.is_none() {
            return Err(format!("session {worker}: {why}").into());
        }
        self.lost += 1;
        self.why.get_or_insert_with(|| why.to_owned());
        Ok(())
    }

    fn tick(&mut self, pool: &mut Pool, now: Instant) -> Result<Option<Instant>> {
        let Some(opened) = self.opened else {
            while pool.connections.len() < (self.attached + OPENING).min(self.count) {
                pool.open(*self.servers.get(pool.connections.len() % self.servers.len()).ok_or("no server")?)?;
            }
            return Ok(None);
        };
        // one after the other, each once in a third of the timeout, and each once more at the end
        let due = |ping: usize| opened + PING.mul_f64((ping + 1) as f64 / self.count as f64);
        let end = opened + self.hold;
        let all = (self.hold.as_secs_f64() / PING.as_secs_f64()).ceil() as usize * self.count;
        while self.pings < all && due(self.pings) <= now {
            let worker = self.pings % self.count;
            let connection = pool.touch(worker).ok_or("no such session")?;
            if connection.is_attached() {
                connection.send(&Request::Ping, now);
            } else {
                // counted as lost already
                self.answers += 1;
            }
            self.pings += 1;
        }
        Ok(Some(match self.pings < all {
            true => due(self.pings),
            false if now < end => end,
            false => end + LAST_ANSWERS,
        }))
    }

    /// After the hold, when every ping was answered or its session is lost.
    fn done(&self) -> bool {
        let Some(held) = self.opened.map(|opened| opened.elapsed()) else { return false };
        held >= self.hold && (self.answers >= self.pings || held >= self.hold + LAST_ANSWERS)
    }
}

/// Opens `count` sessions and holds them, then says how fast and how many were lost.
pub fn run(servers: &[SocketAddr], count: usize, hold: Duration) -> Result<()> {
    zketcd::server::environment::raise_open_files();
    let mut pool = Pool::new()?;
    let mut sessions =
        Sessions { servers, count, hold, attached: 0, lost: 0, why: None, opened: None, pings: 0, answers: 0 };
    mark("begin");
    let began = Instant::now();
    pool.run(&mut sessions, hold + housekeeping::PATIENCE)?;
    mark("end");
    if let Some(why) = &sessions.why {
        eprintln!("load: the first session lost: {why}");
    }
    let opening = sessions.opened.map_or(0.0, |opened| (opened - began).as_secs_f64());
    let silent = pool.connections.iter().filter(|connection| connection.is_attached() && connection.in_flight() > 0);
    let lost = sessions.lost + silent.count();
    // a session that does not answer a ping will not answer this either
    if lost == 0 {
        housekeeping::close_sessions(&mut pool)?;
    }
    say(&[("operations", count as f64), ("seconds", opening), ("lost", lost as f64)]);
    Ok(())
}
