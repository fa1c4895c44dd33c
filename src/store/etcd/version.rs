//! What is known of old versions of etcd.

/// A bug that etcd has mended: in which patch of 3.4, 3.5 and 3.6, and what it risks here. From etcd's changelogs.
struct Mended {
    patches: [u32; 3],
    risk: &'static str,
}

const MENDED: [Mended; 4] = [
    Mended {
        patches: [42, 28, 9],
        risk: "a read may be stale after the member was paused, and nested transactions may bypass etcd's permissions",
    },
    Mended { patches: [38, 23, 5], risk: "a keep-alive may be confirmed for a lease that has been revoked" },
    // Which patch of 3.4 mended the next two, if any, its changelog does not say.
    Mended { patches: [0, 22, 2], risk: "a watch may repeat events, lose some, or go back in time" },
    Mended { patches: [0, 17, 0], risk: "a transaction may be applied in part" },
];

/// A warning where `version`, as etcd gives it, has known bugs or is not one of those supported.
pub(super) fn warning(endpoint: &str, version: &str) -> Option<String> {
    let (major, minor, patch) = parse(version)?;
    let column = match (major, minor) {
        (3, 4) => 0,
        (3, 5) => 1,
        (3, 6) => 2,
        (3, minor) if minor > 6 => return None,
        _ => return Some(format!("etcd {version} at {endpoint} is not supported: 3.4, 3.5 and 3.6 are")),
    };
    let open: Vec<&Mended> = MENDED.iter().filter(|mended| mended.patches.get(column) > Some(&patch)).collect();
    let floor = open.iter().filter_map(|mended| mended.patches.get(column)).max()?;
    let risks: Vec<&str> = open.iter().map(|mended| mended.risk).collect();
    Some(format!("etcd {version} at {endpoint} is older than {major}.{minor}.{floor}: {}", risks.join("; ")))
}

/// Major, minor and patch of `3.6.14` or `3.7.0-rc.1`.
fn parse(version: &str) -> Option<(u32, u32, u32)> {
    let release = version.split(['-', '+']).next()?;
    let mut numbers = release.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_warned_of_by_what_they_risk() {
        let of = |version| warning("http://one:2379", version);
        for good in ["3.4.42", "3.5.28", "3.6.9", "3.6.14", "3.7.0-rc.1"] {
            assert_eq!(of(good), None, "{good}");
        }
        let warning = of("3.4.23").unwrap();
        assert!(warning.contains("older than 3.4.42") && warning.contains("stale") && warning.contains("revoked"));
        let warning = of("3.6.5").unwrap();
        assert!(warning.contains("older than 3.6.9") && !warning.contains("revoked"));
        let warning = of("3.5.16").unwrap();
        assert!(
            warning.contains("older than 3.5.28") && warning.contains("in part") && warning.contains("back in time")
        );
        assert!(of("3.3.27").unwrap().contains("not supported"));
        assert_eq!(of("not a version"), None);
    }
}
