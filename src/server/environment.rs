//! What the process knows of itself and its machine: version, build date, memory, open files.

use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use super::dates;

/// The release of ZooKeeper whose behaviour is served; clients compare its digits (kazoo in `envi`).
pub const ZOOKEEPER_VERSION: &str = "3.9.5";

/// As ZooKeeper's `Version.getFullVersion`: `3.9.5-zketcd-0.1.0, built on 11/24/2026 02:19 UTC`.
pub fn full_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let built_on = dates::build_date(build_time());
        format!("{ZOOKEEPER_VERSION}-zketcd-{}, built on {built_on}", env!("CARGO_PKG_VERSION"))
    })
}

/// Seconds since 1970: `SOURCE_DATE_EPOCH` of the build where that was set (reproducible builds), otherwise when the
/// executable was written.
fn build_time() -> i64 {
    if let Some(seconds) = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()) {
        return seconds;
    }
    let modified = std::env::current_exe().and_then(std::fs::metadata).and_then(|file| file.modified());
    let since = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(0)
}

/// The lines of `envi`: ZooKeeper's keys in its order, those of a Java that is not here with its own placeholder.
pub fn list() -> Vec<(&'static str, String)> {
    const NOT_APPLICABLE: &str = "<NA>";
    let none = || NOT_APPLICABLE.to_owned();
    let variable = |name| std::env::var(name).unwrap_or_else(|_| NOT_APPLICABLE.to_owned());
    let uname = rustix::system::uname();
    let memory = Memory::read();
    let directory = std::env::current_dir().map(|dir| dir.display().to_string());
    vec![
        ("zookeeper.version", full_version().to_owned()),
        ("host.name", uname.nodename().to_string_lossy().into_owned()),
        ("java.version", none()),
        ("java.vendor", none()),
        ("java.home", none()),
        ("java.class.path", none()),
        ("java.library.path", none()),
        ("java.io.tmpdir", std::env::temp_dir().display().to_string()),
        ("java.compiler", none()),
        ("os.name", uname.sysname().to_string_lossy().into_owned()),
        ("os.arch", java_arch().to_owned()),
        ("os.version", uname.release().to_string_lossy().into_owned()),
        ("user.name", variable("USER")),
        ("user.home", variable("HOME")),
        ("user.dir", directory.unwrap_or_else(|_| NOT_APPLICABLE.to_owned())),
        ("os.memory.free", megabytes(memory.available)),
        ("os.memory.max", megabytes(memory.total)),
        ("os.memory.total", megabytes(memory.resident)),
        ("zketcd.version", env!("CARGO_PKG_VERSION").to_owned()),
    ]
}

/// Java says amd64 where others say x86_64.
fn java_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}MB", bytes >> 20)
}

/// Bytes; 0 where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// What the machine could still give.
    pub available: u64,
    /// What the machine has.
    pub total: u64,
    /// What this process holds.
    pub resident: u64,
}

impl Memory {
    /// As Linux tells it in `/proc`.
    pub fn read() -> Self {
        let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let process = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Memory {
            available: proc_field(&machine, "MemAvailable:"),
            total: proc_field(&machine, "MemTotal:"),
            resident: proc_field(&process, "VmRSS:"),
        }
    }
}

/// `MemTotal:       8146304 kB` to bytes.
fn proc_field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim_end().parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// Files and sockets that this process has open; 0 where the system does not tell.
pub fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}

/// How many files and sockets this process may have open.
pub fn max_open_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit of open files to what the system lets this process have, and returns it. Many systems start
/// programs with 1,024, for the sake of some that still use `select`.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the limit stays as it was; the caller reads what holds now.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    max_open_files()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_go_zookeeper_and_kazoo_parse() {
        let (version, built_on) = full_version().split_once(", built on ").unwrap();
        assert!(version.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-'), "{version}");
        let digits: Vec<u32> = version.split('-').next().unwrap().split('.').map(|d| d.parse().unwrap()).collect();
        assert_eq!(digits, [3, 9, 5]);
        // Go's layout "01/02/2006 15:04 MST".
        let shape: String = built_on.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "00/00/0000 00:00 UTC");
        let year: i64 = built_on[6..10].parse().unwrap();
        assert!(year >= 2025, "{built_on}");
    }

    #[test]
    fn the_environment_has_zookeepers_keys_in_its_order() {
        let keys: Vec<&str> = list().into_iter().map(|(key, _)| key).collect();
        let zookeeper = [
            "zookeeper.version",
            "host.name",
            "java.version",
            "java.vendor",
            "java.home",
            "java.class.path",
            "java.library.path",
            "java.io.tmpdir",
            "java.compiler",
            "os.name",
            "os.arch",
            "os.version",
            "user.name",
            "user.home",
            "user.dir",
            "os.memory.free",
            "os.memory.max",
            "os.memory.total",
        ];
        assert_eq!(keys[..zookeeper.len()], zookeeper);
        assert!(list().iter().all(|(_, value)| !value.is_empty()));
    }

    #[test]
    fn proc_fields_are_kilobytes() {
        let text = "MemTotal:        8146304 kB\nMemFree:   12 kB\nOdd: x kB\n";
        assert_eq!(proc_field(text, "MemTotal:"), 8_146_304 * 1024);
        assert_eq!(proc_field(text, "Odd:"), 0);
        assert_eq!(proc_field(text, "Absent:"), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_sees_itself() {
        let memory = Memory::read();
        assert!(memory.resident > 0 && memory.resident < memory.total);
        assert!(open_files() >= 3);
        assert!(max_open_files() >= open_files());
    }
}
