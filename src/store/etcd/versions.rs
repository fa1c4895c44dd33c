//! Members older than the releases that mended known bugs are served, with a warning.

use etcd_client::{Client, ConnectOptions};

use super::{CALL, within};

/// The first patch release of each line in which a stale linearizable read after a process pause, and authorization
/// of nested transactions, were mended (etcd #20418, CVE-2026-33343).
const FLOORS: [(u64, u64, u64); 3] = [(3, 4, 42), (3, 5, 28), (3, 6, 9)];

/// One line for each member that is below its floor, or cannot be asked.
pub async fn warnings(endpoints: &[String], options: &ConnectOptions) -> Vec<String> {
    let mut warnings = Vec::new();
    for endpoint in endpoints {
        let asking = async {
            let client = Client::connect([endpoint], Some(options.clone())).await?;
            client.maintenance_client().status().await
        };
        match within(CALL, asking).await {
            Ok(status) => warnings.extend(warning(endpoint, status.version())),
            Err(error) => warnings.push(format!("etcd at {endpoint} does not tell its version: {error}")),
        }
    }
    warnings
}

fn warning(endpoint: &str, version: &str) -> Option<String> {
    let risk = "before it, reads may be stale after a pause of the process, watch events be lost or doubled, and users \
                without permission write through nested transactions";
    let Some(found) = parse(version) else {
        return Some(format!("etcd at {endpoint} has the unknown version {version}"));
    };
    let (major, minor, patch) =
        FLOORS.into_iter().find(|floor| (floor.0, floor.1) == (found.0, found.1)).or_else(|| {
            // Older lines have no mended release; newer ones need none.
            (found < FLOORS[0]).then_some(FLOORS[0])
        })?;
    (found < (major, minor, patch))
        .then(|| format!("etcd at {endpoint} is {version}: {major}.{minor}.{patch} or newer is advised: {risk}"))
}

fn parse(version: &str) -> Option<(u64, u64, u64)> {
    let mut parts = version.split(['.', '-', '+']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_members_are_named_and_new_ones_are_not() {
        for old in ["3.3.27", "3.4.41", "3.5.0", "3.6.8", "3.6.8-rc.1"] {
            let warning = warning("http://e:2379", old).unwrap_or_default();
            assert!(warning.contains(old) && warning.contains("http://e:2379"), "{old}: {warning}");
        }
        for new in ["3.4.42", "3.5.28", "3.6.9", "3.7.1", "4.0.0"] {
            assert_eq!(warning("http://e:2379", new), None, "{new}");
        }
        assert!(warning("http://e:2379", "main").is_some());
    }
}
