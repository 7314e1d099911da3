//! Which crate uses which: the table in this crate's library against what cargo says.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use house::{IMPURE_DEPENDENCIES, MEMBERS, PURE, TEST_ONLY};

use crate::{text, top};

/// The packages of the workspace by name, without the `holdfast-` before it.
fn packages() -> BTreeMap<String, Package> {
    let metadata = MetadataCommand::new().current_dir(top()).no_deps().exec().expect("cargo metadata");
    metadata.packages.into_iter().map(|package| (short(&package.name).to_owned(), package)).collect()
}

fn short(name: &str) -> &str {
    name.strip_prefix("holdfast-").unwrap_or(name)
}

/// Dependencies of ours, of the given kinds.
fn ours(package: &Package, kinds: &[DependencyKind]) -> BTreeSet<String> {
    let local = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
    local
        .filter(|dependency| kinds.contains(&dependency.kind))
        .map(|dependency| short(&dependency.name).to_owned())
        .collect()
}

/// Edges that the table does not list.
fn forbidden(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, used) in edges {
        match MEMBERS.iter().find(|member| member.name == name) {
            None => found.push(format!("{name} is not in the table")),
            Some(member) => {
                let unlisted = used.iter().filter(|used| !member.may_use.contains(&used.as_str()));
                found.extend(unlisted.map(|used| format!("{name} -> {used}")));
            }
        }
    }
    found
}

#[test]
fn every_edge_is_in_the_table() {
    let packages = packages();
    let edges: BTreeMap<_, _> = packages
        .iter()
        .map(|(name, package)| (name.clone(), ours(package, &[DependencyKind::Normal, DependencyKind::Build])))
        .collect();
    assert_eq!(forbidden(&edges), Vec::<String>::new(), "edges the table does not list");
    let listed: BTreeSet<_> = MEMBERS.iter().map(|member| member.name).collect();
    let present: BTreeSet<_> = packages.keys().map(String::as_str).collect();
    assert_eq!(listed, present, "the table and the workspace name different crates");
    // The comparison notices an edge that is not there today.
    let mut wrong = edges;
    wrong.entry("vault-format".into()).or_default().insert("vault-ops".into());
    wrong.entry("vault-ops".into()).or_default().insert("drills".into());
    assert_eq!(forbidden(&wrong), ["vault-format -> vault-ops", "vault-ops -> drills"]);
}

#[test]
fn only_the_command_line_uses_drills_and_nothing_uses_the_command_line() {
    let all = [DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development];
    for (name, package) in packages() {
        let used = ours(&package, &all);
        assert!(!used.contains("drills") || name == "holdfast", "{name} uses drills");
        assert!(!used.contains("holdfast"), "{name} uses the command line");
    }
}

#[test]
fn test_crates_are_in_no_release() {
    for (name, package) in packages() {
        let used = ours(&package, &[DependencyKind::Normal, DependencyKind::Build]);
        for test_only in TEST_ONLY {
            assert!(!used.contains(*test_only), "{name} releases {test_only}");
        }
    }
}

#[test]
fn pure_crates_depend_on_nothing_impure() {
    let packages = packages();
    for (_, name) in PURE {
        let normal = packages[*name].dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        for dependency in normal {
            assert!(!IMPURE_DEPENDENCIES.contains(&dependency.name.as_str()), "{name} uses {}", dependency.name);
        }
    }
    let core = &packages["kernel-core"];
    for dependency in core.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal) {
        assert!(!dependency.uses_default_features, "{} may bring std into the kernel core", dependency.name);
    }
    assert!(text("kernel/core/src/lib.rs").contains("#![no_std]"), "the kernel core is no_std");
}

#[test]
fn every_crate_opts_into_the_lints_of_the_workspace() {
    for (name, package) in packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a member has a manifest");
        let lints = manifest.split("[lints]").nth(1).map(str::trim_start);
        assert!(lints.is_some_and(|lints| lints.starts_with("workspace = true")), "{name} has lints of its own");
        assert_eq!(package.license.as_deref(), Some("MIT OR Apache-2.0"), "licence of {name}");
    }
}
