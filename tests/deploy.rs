//! What `deploy/` and `docker/` say holds together, and names only what the program has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files of `deploy/kubernetes`, each with its documents.
fn manifests() -> Vec<(String, Vec<Yaml>)> {
    let mut found: Vec<_> = fs::read_dir(root().join("deploy/kubernetes"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let documents =
                YamlLoader::load_from_str(&read(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path.file_name().unwrap().to_string_lossy().into_owned(), documents)
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["sidecar.yaml", "standalone.yaml"]);
    found
}

fn of_kind<'a>(documents: &'a [Yaml], kind: &str) -> Vec<&'a Yaml> {
    documents.iter().filter(|document| document["kind"].as_str() == Some(kind)).collect()
}

fn pod(deployment: &Yaml) -> &Yaml {
    &deployment["spec"]["template"]
}

/// Containers and sidecars.
fn containers(deployment: &Yaml) -> Vec<&Yaml> {
    let spec = &pod(deployment)["spec"];
    ["initContainers", "containers"].iter().filter_map(|list| spec[*list].as_vec()).flatten().collect()
}

fn ports(container: &Yaml) -> Vec<&str> {
    container["ports"].as_vec().into_iter().flatten().filter_map(|port| port["name"].as_str()).collect()
}

/// Whether labels have all that a selector asks for; an empty selector is no selector.
fn selects(selector: &Yaml, labels: &Yaml) -> bool {
    let selector = selector.as_hash().expect("a selector");
    let labels = labels.as_hash().expect("labels");
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// What the program's help says.
fn help(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_zketcd")).args([command, "--help"]).output().unwrap();
    assert!(output.status.success(), "zketcd {command} --help: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Lines with one of these are commands of other programs.
const FOREIGN: [&str; 3] = ["docker build", "kubectl", "cargo"];

/// The words of a text, dashes and underscores being parts of words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
}

/// `--some-flag`
fn flags(text: &str) -> BTreeSet<&str> {
    words(text)
        .filter(|word| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic)))
        .collect()
}

/// `ZKETCD_SOME_FLAG`
fn variables(text: &str) -> BTreeSet<&str> {
    words(text).filter(|word| word.strip_prefix("ZKETCD_").is_some_and(|name| !name.is_empty())).collect()
}

#[test]
fn selectors_and_ports_meet_their_pods() {
    for (file, documents) in manifests() {
        let deployments = of_kind(&documents, "Deployment");
        for deployment in &deployments {
            let labels = &pod(deployment)["metadata"]["labels"];
            assert!(selects(&deployment["spec"]["selector"]["matchLabels"], labels), "{file}: {deployment:?}");
        }
        for budget in of_kind(&documents, "PodDisruptionBudget") {
            let selector = &budget["spec"]["selector"]["matchLabels"];
            assert!(deployments.iter().any(|d| selects(selector, &pod(d)["metadata"]["labels"])), "{file}: {budget:?}");
        }
        for service in of_kind(&documents, "Service") {
            let selected = deployments
                .iter()
                .find(|d| selects(&service["spec"]["selector"], &pod(d)["metadata"]["labels"]))
                .unwrap_or_else(|| panic!("{file}: no pods for {service:?}"));
            let known: Vec<_> = containers(selected).into_iter().flat_map(ports).collect();
            for port in service["spec"]["ports"].as_vec().unwrap() {
                let target = port["targetPort"].as_str().unwrap();
                assert!(known.contains(&target), "{file}: no port {target} in {known:?}");
            }
        }
    }
}

#[test]
fn probes_ask_ports_that_are_there() {
    for (file, documents) in manifests() {
        for container in of_kind(&documents, "Deployment").into_iter().flat_map(containers) {
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                for way in ["httpGet", "tcpSocket"] {
                    let asked = &container[probe][way]["port"];
                    assert!(
                        asked.is_badvalue() || asked.as_str().is_some_and(|port| ports(container).contains(&port)),
                        "{file}: {probe} of {:?} asks {asked:?}",
                        container["name"]
                    );
                }
            }
        }
    }
}

#[test]
fn zketcd_runs_without_rights_and_is_probed() {
    for (file, documents) in manifests() {
        let deployments = of_kind(&documents, "Deployment");
        let with_zketcd: Vec<_> =
            deployments.iter().filter(|d| containers(d).iter().any(|c| c["name"].as_str() == Some("zketcd"))).collect();
        assert_eq!(with_zketcd.len(), 1, "{file}");
        for deployment in with_zketcd {
            let spec = &pod(deployment)["spec"];
            assert_eq!(spec["securityContext"]["runAsNonRoot"].as_bool(), Some(true), "{file}");
            // A Service called zketcd would set ZKETCD_PORT and the like.
            assert_eq!(spec["enableServiceLinks"].as_bool(), Some(false), "{file}");
            let container = containers(deployment).into_iter().find(|c| c["name"].as_str() == Some("zketcd")).unwrap();
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false), "{file}");
            assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true), "{file}");
            assert_eq!(security["capabilities"]["drop"][0].as_str(), Some("ALL"), "{file}");
            // Alive must not mean ready: a restart because etcd is away costs the connections.
            assert_eq!(container["livenessProbe"]["httpGet"]["path"].as_str(), Some("/healthz"), "{file}");
            assert!(!container["startupProbe"].is_badvalue(), "{file}");
        }
    }
}

#[test]
fn flags_and_variables_exist() {
    let help = help("serve") + &help("healthcheck");
    // Of other programs, and of the tests themselves.
    let others = ["--max-txn-ops", "--max-request-bytes", "ZKETCD_TEST_ETCD_34", "ZKETCD_TEST_ETCD_36"];
    let mut known = &flags(&help) | &variables(&help);
    known.extend(others);
    let texts = [
        "README.md",
        "docs/ARCHITECTURE.md",
        "docs/COMPATIBILITY.md",
        "deploy/kubernetes/standalone.yaml",
        "deploy/kubernetes/sidecar.yaml",
    ];
    for text in texts {
        let content = read(&root().join(text));
        for line in content.lines().filter(|line| !FOREIGN.iter().any(|program| line.contains(program))) {
            let named = &flags(line) | &variables(line);
            let unknown: Vec<_> = named.difference(&known).collect();
            assert!(unknown.is_empty(), "{text}: {unknown:?} in {line}");
        }
    }
    let dockerfile = read(&root().join("docker/Dockerfile"));
    let set = variables(&dockerfile);
    assert!(set.contains("ZKETCD_LISTEN") && set.is_subset(&known), "docker/Dockerfile: {set:?}");
}

#[test]
fn the_image_does_not_run_as_root_and_checks_itself() {
    let dockerfile = read(&root().join("docker/Dockerfile"));
    let (_, last_stage) = dockerfile.rsplit_once("\nFROM ").unwrap();
    let line =
        |start: &str| last_stage.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
    assert!(!line("USER ").starts_with("USER 0"));
    assert!(line("USER ").ends_with(":10001"), "Kubernetes can only check a number");
    assert_eq!(line("ENTRYPOINT"), r#"ENTRYPOINT ["zketcd"]"#);
    assert!(last_stage.contains(r#"CMD ["zketcd", "healthcheck"]"#));
    // What the build copies is in the build's context.
    let context = read(&root().join(".dockerignore"));
    for copied in ["Cargo.toml", "Cargo.lock", "src", "LICENSE"] {
        assert!(context.lines().any(|line| line == format!("!{copied}")), "{copied}");
        assert!(root().join(copied).exists(), "{copied}");
    }
}
