//! Upkeep as the configuration says it: what the operations take from it.

use config::AuditBudget;
use vault_ops::audit::Budget;

/// The budget of an audit.
pub fn audit_budget(budget: Option<AuditBudget>) -> Budget {
    match budget {
        None => Budget::None,
        Some(AuditBudget::Bytes(bytes)) => Budget::Bytes(bytes),
        Some(AuditBudget::Time(time)) => Budget::Time(time),
    }
}
