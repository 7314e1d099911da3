//! The metrics file: the status in the text form of Prometheus, for the textfile
//! collector of its node exporter.
//!
//! What always holds: it says nothing that the status file does not; it is
//! replaced whole; a value that is not known has no line rather than a zero.

use std::fmt::Write as _;
use std::path::Path;

use crate::status::{LocationGauges, SpoolGauges, Status, StatusError, VaultGauges, replace_file};

/// A gauge with its lines.
struct Gauge {
    name: &'static str,
    help: &'static str,
    lines: Vec<(String, f64)>,
}

/// The file's text.
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    let mut gauges = policies(status);
    gauges.extend(chores(status));
    gauges.extend(vaults(&status.vaults));
    gauges.extend(spools(status));
    gauges.extend(locations(&status.vaults));
    for Gauge { name, help, lines } in gauges.into_iter().filter(|gauge| !gauge.lines.is_empty()) {
        let _ = writeln!(text, "# HELP holdfast_{name} {help}\n# TYPE holdfast_{name} gauge");
        for (labels, value) in lines {
            let _ = writeln!(text, "holdfast_{name}{{{labels}}} {value}");
        }
    }
    text
}

/// Replaces the metrics file.
pub fn write(path: &Path, text: &str) -> Result<(), StatusError> {
    replace_file(path, text.as_bytes())
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn policies(status: &Status) -> Vec<Gauge> {
    let lines = |value: &dyn Fn(&crate::status::PolicyStatus) -> Option<f64>| -> Vec<(String, f64)> {
        let labels = |policy: &crate::status::PolicyStatus| {
            [label("vault", &policy.vault), label("source", &policy.source), label("policy", &policy.policy)].join(",")
        };
        status.policies.iter().filter_map(|policy| Some((labels(policy), value(policy)?))).collect()
    };
    let last = |value: fn(&crate::status::LastPoint) -> f64| lines(&move |policy| policy.last.as_ref().map(value));
    vec![
        Gauge {
            name: "last_point_timestamp_seconds",
            help: "When the run that made the newest point began.",
            lines: last(|last| seconds(last.began_ms)),
        },
        Gauge {
            name: "last_point_durable_timestamp_seconds",
            help: "When the newest point was durable.",
            lines: last(|last| seconds(last.durable_ms)),
        },
        Gauge {
            name: "last_point_age_seconds",
            help: "Age of the newest point when this file was written.",
            lines: lines(&|policy| policy.lag_ms(status.written_ms).map(seconds)),
        },
        Gauge {
            name: "last_point_full",
            help: "1 if every shard of the newest point is at home, 0 if some are owed.",
            lines: last(|last| truth(last.full)),
        },
        Gauge {
            name: "last_point_unreadable_files",
            help: "Files of the newest point that could not be read.",
            lines: last(|last| last.unreadable as f64),
        },
        Gauge {
            name: "policy_interval_seconds",
            help: "From one run to the next.",
            lines: lines(&|policy| Some(policy.interval_ms as f64 / 1000.0)),
        },
        Gauge {
            name: "policy_overdue",
            help: "1 if the newest point is older than two intervals, or there is none.",
            lines: lines(&|policy| Some(truth(policy.is_overdue(status.written_ms)))),
        },
        Gauge {
            name: "policy_failures",
            help: "Runs that failed since the last point.",
            lines: lines(&|policy| Some(f64::from(policy.failures))),
        },
    ]
}

fn chores(status: &Status) -> Vec<Gauge> {
    let labels =
        |chore: &crate::status::ChoreStatus| [label("vault", &chore.vault), label("chore", &chore.chore)].join(",");
    let ended = status.chores.iter().filter_map(|chore| Some((labels(chore), seconds(chore.began_ms?))));
    let failures = status.chores.iter().map(|chore| (labels(chore), f64::from(chore.failures)));
    vec![
        Gauge {
            name: "chore_timestamp_seconds",
            help: "When the last run that came to its end began.",
            lines: ended.collect(),
        },
        Gauge { name: "chore_failures", help: "Runs that failed since then.", lines: failures.collect() },
    ]
}

fn vaults(vaults: &[VaultGauges]) -> Vec<Gauge> {
    let lines = |value: fn(&VaultGauges) -> f64| -> Vec<(String, f64)> {
        // Of one of which only the spool is known nothing is said here.
        let looked = vaults.iter().filter(|vault| vault.at_ms > 0);
        looked.map(|vault| (label("vault", &vault.vault), value(vault))).collect()
    };
    vec![
        Gauge {
            name: "vault_looked_timestamp_seconds",
            help: "When the numbers of this vault and its locations were taken.",
            lines: lines(|vault| seconds(vault.at_ms)),
        },
        Gauge {
            name: "vault_survivable_domains",
            help: "Domains that may be lost at once, by what is shown.",
            lines: lines(|vault| f64::from(vault.any_domains)),
        },
        Gauge {
            name: "vault_declared_domains",
            help: "Domains that may be lost at once, as declared.",
            lines: lines(|vault| f64::from(vault.declared)),
        },
        Gauge {
            name: "vault_key_on_host",
            help: "1 if the seed or the read key lies on this host: a thief of it can read.",
            lines: lines(|vault| truth(vault.key_here)),
        },
        Gauge { name: "vault_packs", help: "Committed packs.", lines: lines(|vault| vault.packs as f64) },
        Gauge {
            name: "vault_lost_packs",
            help: "Packs that too few shards are left of.",
            lines: lines(|vault| vault.lost as f64),
        },
        Gauge {
            name: "vault_repair_retries",
            help: "Objects whose repair failed and waits to be tried again.",
            lines: lines(|vault| vault.retries as f64),
        },
        Gauge {
            name: "vault_debts",
            help: "Shards that are not where they belong, as far as is known.",
            lines: lines(|vault| vault.debts as f64),
        },
        Gauge {
            name: "vault_packs_by_state",
            help: "Packs this host knows: named by a manifest, at the locations without one, in the spool.",
            lines: packs_by_state(vaults),
        },
        Gauge {
            name: "vault_trash_points",
            help: "Points that were forgotten and can be brought back.",
            lines: lines(|vault| vault.trash.points as f64),
        },
        Gauge {
            name: "vault_trash_packs",
            help: "Packs that nothing needs and that wait to be deleted.",
            lines: lines(|vault| vault.trash.packs as f64),
        },
        Gauge {
            name: "vault_trash_bytes",
            help: "Bytes at the locations of what points in the trash brought and of packs that wait to be deleted.",
            lines: lines(|vault| vault.trash.bytes as f64),
        },
    ]
}

fn packs_by_state(vaults: &[VaultGauges]) -> Vec<(String, f64)> {
    let of_vault = |vault: &VaultGauges| {
        let name = label("vault", &vault.vault);
        let line = |(state, packs)| ([name.clone(), label("state", state)].join(","), packs as f64);
        ["committed", "stored", "spooled"].into_iter().zip(vault.packs_by_state).map(line).collect::<Vec<_>>()
    };
    vaults.iter().filter(|vault| vault.at_ms > 0).flat_map(of_vault).collect()
}

/// These are newer than the rest of the vault's: they are taken every minute.
fn spools(status: &Status) -> Vec<Gauge> {
    let lines = |value: &dyn Fn(&SpoolGauges) -> Option<f64>| -> Vec<(String, f64)> {
        let of_vault = |vault: &VaultGauges| Some((label("vault", &vault.vault), value(&vault.spool)?));
        status.vaults.iter().filter(|vault| vault.spool.at_ms > 0).filter_map(of_vault).collect()
    };
    let gauge = |name, help, value: &dyn Fn(&SpoolGauges) -> Option<f64>| Gauge { name, help, lines: lines(value) };
    let age = |spool: &SpoolGauges| Some(seconds(status.written_ms.saturating_sub(spool.since_ms?).max(0)));
    vec![
        gauge("vault_spool_points", "Points that are not durable and wait on this host.", &|at| Some(at.points as f64)),
        gauge("vault_spool_stuck_points", "Of them those that cannot be delivered.", &|at| Some(at.stuck as f64)),
        gauge("vault_spool_bytes", "Bytes of the spool.", &|at| Some(at.bytes as f64)),
        gauge("vault_spool_oldest_age_seconds", "How long the oldest has waited, if one does.", &age),
    ]
}

fn locations(vaults: &[VaultGauges]) -> Vec<Gauge> {
    let lines = |value: fn(&LocationGauges) -> Option<f64>| -> Vec<(String, f64)> {
        let of_vault = |vault: &VaultGauges| -> Vec<(String, f64)> {
            let labels = |location: &LocationGauges| {
                [label("vault", &vault.vault), label("location", &location.location)].join(",")
            };
            vault.locations.iter().filter_map(|location| Some((labels(location), value(location)?))).collect()
        };
        vaults.iter().flat_map(of_vault).collect()
    };
    let gauge = |name, help, value: fn(&LocationGauges) -> Option<f64>| Gauge { name, help, lines: lines(value) };
    vec![
        gauge("location_up", "1 if it answered.", |at| Some(truth(at.answers))),
        gauge("location_shards", "Shards it should hold.", |at| Some(at.shards as f64)),
        gauge("location_missing_shards", "Shards it does not show.", |at| Some(at.missing as f64)),
        gauge("location_bad_shards", "Shards known to be wrong.", |at| Some(at.bad as f64)),
        gauge("location_bad_records", "Signed records missing or wrong.", |at| Some(at.records_bad as f64)),
        gauge("location_audit_samples", "Leaves asked for by the last audit.", |at| Some(at.audit_samples as f64)),
        gauge("location_coverage_ratio", "Share of its leaves read within 90 days.", |at| {
            (at.leaves > 0).then(|| at.covered as f64 / at.leaves as f64)
        }),
        gauge("location_oldest_unread_timestamp_seconds", "Since when the shard waits that waits longest.", |at| {
            at.oldest_unread_ms.map(seconds)
        }),
        gauge("location_corrections", "Objects put right there, ever.", |at| Some(at.corrections as f64)),
        gauge("location_corrections_of_wrong_bytes", "Of them those that had been wrong.", |at| {
            Some(at.corrections_wrong as f64)
        }),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::status::{DaemonState, TrashGauges};

    #[test]
    fn lines_are_those_of_the_text_format() {
        let location = LocationGauges {
            location: "a \"b\"\\".into(),
            answers: true,
            leaves: 4,
            covered: 1,
            corrections: 7,
            ..LocationGauges::default()
        };
        let vault = VaultGauges {
            vault: "home".into(),
            at_ms: 1_500,
            packs: 3,
            key_here: true,
            debts: 4,
            packs_by_state: [3, 2, 1],
            trash: TrashGauges { points: 6, packs: 5, bytes: 80 },
            spool: SpoolGauges { at_ms: 1, points: 2, stuck: 1, bytes: 70, since_ms: Some(-4_995) },
            locations: vec![location],
            ..VaultGauges::default()
        };
        let status = Status { vaults: vec![vault], ..Status::new(5, DaemonState::Running, Vec::new()) };
        let text = render(&status);
        for line in [
            "# TYPE holdfast_vault_packs gauge",
            "holdfast_vault_packs{vault=\"home\"} 3",
            "holdfast_vault_looked_timestamp_seconds{vault=\"home\"} 1.5",
            "holdfast_location_up{vault=\"home\",location=\"a \\\"b\\\"\\\\\"} 1",
            "holdfast_location_coverage_ratio{vault=\"home\",location=\"a \\\"b\\\"\\\\\"} 0.25",
            "holdfast_location_corrections{vault=\"home\",location=\"a \\\"b\\\"\\\\\"} 7",
            "holdfast_vault_key_on_host{vault=\"home\"} 1",
            "holdfast_vault_debts{vault=\"home\"} 4",
            "holdfast_vault_packs_by_state{vault=\"home\",state=\"spooled\"} 1",
            "holdfast_vault_trash_bytes{vault=\"home\"} 80",
            "holdfast_vault_spool_points{vault=\"home\"} 2",
            "holdfast_vault_spool_stuck_points{vault=\"home\"} 1",
            "holdfast_vault_spool_bytes{vault=\"home\"} 70",
            "holdfast_vault_spool_oldest_age_seconds{vault=\"home\"} 5",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in:\n{text}");
        }
        assert!(!text.contains("oldest_unread"), "what is not known has no line");
        assert!(!text.contains("last_point"), "no policy, no line");
        let shape = |line: &str| line.starts_with("# ") || line.starts_with("holdfast_") && line.contains("} ");
        assert!(text.ends_with('\n') && text.lines().all(shape), "{text}");
    }
}
