//! The janitor's machine: it forgets, brings back, purges, pins and collects.
//!
//! What always holds: it has a catalog and a sleep of its own, and the operator's and
//! the reader's keys; what it says it did is what the ledger believes.

use std::sync::Arc;

use vault_format::PointId;
use vault_ops::Result;
use vault_ops::forget::{self, NEWEST_DEFAULT, Rule};
use vault_ops::gc::{self, GcOptions, GcReport};
use vault_ops::janitor::Janitor;
use vault_ops::pins;
use vault_ops::points::PointName;
use vault_ops::retention::{Count, Keep};
use vault_ops::trash;

use super::machine::{Machine, keys};
use super::sites::Sites;

/// What to forget.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    /// These.
    Named(Vec<PointId>),
    /// What retention does not keep, when it keeps so many days.
    Daily(u32),
}

fn janitor() -> Janitor {
    Janitor::Operator { operator: Arc::clone(&keys().operator), read: Some(Arc::clone(&keys().read)) }
}

fn name_of(point: PointId) -> PointName {
    PointName::Prefix(point.to_string())
}

impl Machine {
    /// Plans, says what it would forget, and forgets.
    pub(super) async fn forget(
        &mut self,
        sites: &Arc<Sites>,
        chosen: &Chosen,
        grace_ms: i64,
        planned: &mut Vec<PointId>,
    ) -> Result<bool> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let plan = match chosen {
            Chosen::Named(points) => {
                let names: Vec<PointName> = points.iter().copied().map(name_of).collect();
                forget::plan_named(&vault, &catalog, &janitor(), &names).await
            }
            Chosen::Daily(days) => {
                let keep = Keep { daily: Count::Most(*days), ..Keep::default() };
                let rule = Rule { source: None, writer: None, keep };
                forget::plan(&vault, &catalog, &janitor(), &[rule], NEWEST_DEFAULT).await
            }
        };
        self.keep_open(catalog);
        let plan = plan?;
        planned.extend(plan.forget.iter().map(|line| line.point));
        Ok(forget::apply(&vault, &janitor(), &plan, grace_ms, true).await?.is_some())
    }

    /// Brings a point back from the trash.
    pub(super) async fn bring_back(&mut self, sites: &Arc<Sites>, point: PointId) -> Result<()> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let done = trash::restore(&vault, &catalog, &janitor(), &name_of(point)).await;
        self.keep_open(catalog);
        done.map(drop)
    }

    /// Lets a point of the trash expire at once.
    pub(super) async fn purge(&mut self, sites: &Arc<Sites>, point: PointId) -> Result<()> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let done = trash::purge(&vault, &catalog, &janitor(), &name_of(point)).await;
        self.keep_open(catalog);
        done.map(drop)
    }

    /// Pins a point, or unpins it.
    pub(super) async fn pin(&mut self, sites: &Arc<Sites>, point: PointId, pinned: bool) -> Result<()> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let names = [name_of(point)];
        let done = if pinned {
            pins::pin(&vault, &catalog, &janitor(), &names).await
        } else {
            pins::unpin(&vault, &catalog, &janitor(), &names).await
        };
        self.keep_open(catalog);
        done.map(drop)
    }

    /// Collects.
    pub(super) async fn gc(&mut self, sites: &Arc<Sites>, orphans: bool) -> Result<GcReport> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let options = GcOptions { orphans, confirmed: true, ..GcOptions::default() };
        let report = gc::apply(&vault, &catalog, &janitor(), &options).await;
        self.keep_open(catalog);
        report
    }
}
