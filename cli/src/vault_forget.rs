//! `holdfast vault forget`: points into the trash, by name or by rules.
//!
//! What always holds: without `--apply` nothing changes; rules that would keep nothing
//! are refused, whoever wrote them.

use agent_daemon::assembly::{self, Assembled};
use clap::Args;
use config::Config;
use serde_json::json;
use vault_format::WriterId;
use vault_ops::forget::{self, ForgetPlan, NEWEST_DEFAULT, Rule};
use vault_ops::janitor::Janitor;
use vault_ops::points::PointName;
use vault_ops::retention::{Count, Keep, Span};

use crate::exit::{self, Failure, Outcome};
use crate::janitor::{is_confirmed, janitor, tell_point};
use crate::session::{Session, lease};

/// `holdfast vault forget ..`
#[derive(Args, Debug)]
pub(crate) struct ForgetArguments {
    /// Points to forget, by the ids that `snapshots` prints. Without any, the rules decide.
    points: Vec<String>,
    /// Keep the newest N points of each source; -1 keeps all, here and below.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_last: Option<i64>,
    /// Keep the newest point of N hours.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_hourly: Option<i64>,
    /// Keep the newest point of N days.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_daily: Option<i64>,
    /// Keep the newest point of N weeks.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_weekly: Option<i64>,
    /// Keep the newest point of N months.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_monthly: Option<i64>,
    /// Keep the newest point of N years.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_yearly: Option<i64>,
    /// Keep all points so far back from the newest, as in 30d or 1y6m.
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<String>,
    /// Of those so far back from the newest keep the newest of each hour.
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<String>,
    /// The same of each day.
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<String>,
    /// The same of each week.
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<String>,
    /// The same of each month.
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<String>,
    /// The same of each year.
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<String>,
    /// Keep points with this tag; with all of several joined by commas.
    #[arg(long, value_name = "TAG[,TAG]")]
    keep_tag: Vec<String>,
    /// Go by the keep rules of this policy only [default without other rules: of all policies].
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Only say what would be done (the default).
    #[arg(long, conflicts_with = "apply")]
    plan: bool,
    /// Do it.
    #[arg(long)]
    apply: bool,
    /// The vault's name, where more than half of all points would go.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

pub(crate) async fn run(session: &Session, arguments: &ForgetArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let confirmed = is_confirmed(&name, arguments.confirm.as_ref())?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault forget")?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let janitor = janitor(session, &opened)?;
    let plan = plan(session, &config, &name, &opened, &janitor, arguments).await?;
    let output = session.output;
    tell(session, &plan);
    let mut counts = json!({ "keep": plan.keep.len(), "forget": plan.forget.len(), "protected": plan.protected,
                             "applied": arguments.apply });
    if !arguments.apply {
        if plan.forget.len() > plan.keep.len() {
            output.warn(format!("that is more than half of all points: it will take --confirm {name}"));
        }
        output.say("Nothing was changed. Do it with --apply");
        output.summary(exit::OK, counts);
        return Ok(exit::OK);
    }
    let owed = apply(&config, &name, &opened, &janitor, &plan, confirmed).await?;
    counts["owed"] = owed.into();
    output.say("Bring one back with: holdfast vault trash restore ID. The space is freed later by: holdfast vault gc");
    let exit = if owed == 0 { exit::OK } else { exit::WARNINGS };
    output.summary(exit, counts);
    Ok(exit)
}

/// What the policies of a vault let go, without any argument.
pub(crate) async fn by_policies(
    session: &Session,
    config: &Config,
    name: &str,
    opened: &Assembled,
    janitor: &Janitor,
) -> Result<usize, Failure> {
    let rules = policy_rules(config, name, own_writer(session, opened)?, None);
    if rules.is_empty() {
        session.output.say("no policy says what to keep: nothing is forgotten");
        return Ok(0);
    }
    let plan = forget::plan(&opened.vault, &opened.catalog, janitor, &rules, NEWEST_DEFAULT).await?;
    tell(session, &plan);
    apply(config, name, opened, janitor, &plan, false).await
}

fn tell(session: &Session, plan: &ForgetPlan) {
    let output = session.output;
    plan.remarks.iter().for_each(|remark| output.warn(remark));
    plan.keep.iter().for_each(|line| tell_point(session, "keep", line, json!({})));
    plan.forget.iter().for_each(|line| tell_point(session, "forget", line, json!({})));
    output.say(format!(
        "{} points kept ({} of them only because the newest always are), {} to the trash",
        plan.keep.len(),
        plan.protected,
        plan.forget.len()
    ));
}

/// Locations that are owed the tombstone.
async fn apply(
    config: &Config,
    name: &str,
    opened: &Assembled,
    janitor: &Janitor,
    plan: &ForgetPlan,
    confirmed: bool,
) -> Result<usize, Failure> {
    let grace = config.vaults.get(name).map_or(forget::GRACE_MS_DEFAULT, |vault| {
        i64::try_from(vault.trash.as_millis()).unwrap_or(forget::GRACE_MS_DEFAULT)
    });
    let written = forget::apply(&opened.vault, janitor, plan, grace, confirmed).await?;
    Ok(written.map_or(0, |written| written.owed.len()))
}

async fn plan(
    session: &Session,
    config: &Config,
    name: &str,
    opened: &Assembled,
    janitor: &Janitor,
    arguments: &ForgetArguments,
) -> Result<ForgetPlan, Failure> {
    let (vault, catalog) = (&opened.vault, &opened.catalog);
    let given = given_rule(arguments)?;
    if !arguments.points.is_empty() {
        if given.is_some() || arguments.policy.is_some() {
            return Err(Failure::new(exit::USAGE, "name points, or give rules; not both. Nothing was changed"));
        }
        let names = arguments.points.iter().map(|point| PointName::parse(point)).collect::<Result<Vec<_>, _>>()?;
        return Ok(forget::plan_named(vault, catalog, janitor, &names).await?);
    }
    let rules = match given {
        Some(keep) => vec![Rule { source: None, writer: None, keep }],
        None => policy_rules(config, name, own_writer(session, opened)?, arguments.policy.as_deref()),
    };
    if rules.is_empty() {
        let what = "no policy says what to keep, so nothing is forgotten. Say it, as in --keep-daily 14 --keep-weekly 8, \
                    or in the configuration: keep = { daily = 14 }";
        return Err(Failure::new(exit::USAGE, what));
    }
    Ok(forget::plan(vault, catalog, janitor, &rules, NEWEST_DEFAULT).await?)
}

/// The rule on the command line, if there is one.
fn given_rule(arguments: &ForgetArguments) -> Result<Option<Keep>, Failure> {
    let refused = |what: String| Failure::new(exit::USAGE, format!("{what}. Nothing was changed"));
    let count = |given: Option<i64>| match given {
        None | Some(0) => Ok(Count::None),
        Some(-1) => Ok(Count::All),
        Some(count) => u32::try_from(count)
            .map(Count::Most)
            .map_err(|_| refused(format!("{count} points cannot be kept; -1 keeps all"))),
    };
    let within = |given: &Option<String>| {
        let span = given.as_ref().map(|text| config::Span::parse(text).map_err(refused)).transpose()?;
        Ok::<_, Failure>(span.map(span_of))
    };
    let tags = arguments.keep_tag.iter().map(|set| config::tag_set(set).map_err(refused));
    let keep = Keep {
        last: count(arguments.keep_last)?,
        hourly: count(arguments.keep_hourly)?,
        daily: count(arguments.keep_daily)?,
        weekly: count(arguments.keep_weekly)?,
        monthly: count(arguments.keep_monthly)?,
        yearly: count(arguments.keep_yearly)?,
        within: within(&arguments.keep_within)?,
        within_hourly: within(&arguments.keep_within_hourly)?,
        within_daily: within(&arguments.keep_within_daily)?,
        within_weekly: within(&arguments.keep_within_weekly)?,
        within_monthly: within(&arguments.keep_within_monthly)?,
        within_yearly: within(&arguments.keep_within_yearly)?,
        tags: tags.collect::<Result<_, _>>()?,
    };
    if keep.is_empty() && arguments.gives_a_rule() {
        return Err(refused("these rules keep nothing".to_owned()));
    }
    Ok((!keep.is_empty()).then_some(keep))
}

impl ForgetArguments {
    fn gives_a_rule(&self) -> bool {
        let counts =
            [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        counts.iter().any(Option::is_some)
    }
}

/// This host's writer: its policies speak of its own points, not of another host's
/// source that has the same name. A host without one speaks for all.
fn own_writer(session: &Session, opened: &Assembled) -> Result<Option<WriterId>, Failure> {
    if !opened.keys.writer_key().exists() {
        return Ok(None);
    }
    session.writer_key(&opened.keys, &opened.vault).map(|keys| Some(keys.writer))
}

/// The rules of the policies of this vault.
fn policy_rules(config: &Config, vault: &str, writer: Option<WriterId>, wanted: Option<&str>) -> Vec<Rule> {
    let policies = config.policies.iter().filter(|(_, policy)| policy.vault.as_str() == vault);
    let wanted = policies.filter(|(name, _)| wanted.is_none_or(|wanted| name.as_str() == wanted));
    let rule = |policy: &config::Policy| {
        let source = Some(policy.source.as_str().to_owned());
        Some(Rule { source, writer, keep: keep_of(policy.keep.as_ref()?) })
    };
    wanted.filter_map(|(_, policy)| rule(policy)).collect()
}

/// The configuration's words as the rules of retention.
fn keep_of(keep: &config::Keep) -> Keep {
    let count = |count: u32| if count == 0 { Count::None } else { Count::Most(count) };
    Keep {
        last: count(keep.last),
        hourly: count(keep.hourly),
        daily: count(keep.daily),
        weekly: count(keep.weekly),
        monthly: count(keep.monthly),
        yearly: count(keep.yearly),
        within: keep.within.map(span_of),
        within_hourly: keep.within_hourly.map(span_of),
        within_daily: keep.within_daily.map(span_of),
        within_weekly: keep.within_weekly.map(span_of),
        within_monthly: keep.within_monthly.map(span_of),
        within_yearly: keep.within_yearly.map(span_of),
        tags: keep.tags.clone(),
    }
}

fn span_of(span: config::Span) -> Span {
    Span { years: span.years, months: span.months, days: span.days, hours: span.hours }
}
