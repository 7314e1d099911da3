//! The rules of retention: the cases that other tools' users know, and that forged
//! times never cost a good point.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;
use vault_ops::retention::{Claimed, Count, Dated, Keep, Span, agreeing, honest_times, kept};

const CASES: &str = include_str!("../testdata/retention/cases.json");
const HOUR: i64 = 3_600_000;

/// `2014-08-13T10:20:30.1Z`.
fn time_ms(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    // Days since 1970 by counting, so as not to share the code that is judged.
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut days: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    for (at, length) in months.iter().enumerate().take(usize::try_from(month).unwrap() - 1) {
        days += length + i64::from(at == 1 && leap(year));
    }
    days += day - 1;
    let seconds = number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    let tenths = if text.as_bytes()[19] == b'.' { number(20..21) } else { 0 };
    (days * 86_400 + seconds) * 1000 + tenths * 100
}

fn tags(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

fn dated(value: &Value) -> Dated {
    Dated { time_ms: time_ms(value["time"].as_str().unwrap()), tags: tags(&value["tags"]), pinned: false }
}

fn rules(value: &Value) -> Keep {
    let count = |name: &str| match value.get(name).map(|count| count.as_i64().unwrap()) {
        None => Count::None,
        Some(-1) => Count::All,
        Some(count) => Count::Most(count.try_into().unwrap()),
    };
    let span = |name: &str| value.get(name).map(|span| span_of(span.as_str().unwrap()));
    let sets = value.get("tags").map(|sets| sets.as_array().unwrap().iter().map(tags).collect());
    for name in value.as_object().unwrap().keys() {
        assert!(name == "last" || name == "tags" || name.ends_with("ly") || name.starts_with("within"), "{name}");
    }
    Keep {
        last: count("last"),
        hourly: count("hourly"),
        daily: count("daily"),
        weekly: count("weekly"),
        monthly: count("monthly"),
        yearly: count("yearly"),
        within: span("within"),
        within_hourly: span("within_hourly"),
        within_daily: span("within_daily"),
        within_weekly: span("within_weekly"),
        within_monthly: span("within_monthly"),
        within_yearly: span("within_yearly"),
        tags: sets.unwrap_or_default(),
    }
}

/// `1y2m3d4h`, as the cases write spans; in the program this is the configuration's.
fn span_of(text: &str) -> Span {
    let mut span = Span::default();
    for part in text.split_inclusive(|letter: char| letter.is_ascii_alphabetic()) {
        let (digits, unit) = part.split_at(part.len() - 1);
        let place = match unit {
            "y" => &mut span.years,
            "m" => &mut span.months,
            "d" => &mut span.days,
            "h" => &mut span.hours,
            _ => panic!("{text} is no span"),
        };
        *place = digits.parse().unwrap();
    }
    span
}

#[test]
fn all_published_cases_hold() {
    let cases: Value = serde_json::from_str(CASES).unwrap();
    // Of points at one time the cases name the newer first; this code takes it last.
    let points: Vec<Dated> = cases["points"].as_array().unwrap().iter().rev().map(dated).collect();
    let mut count = 0;
    for case in cases["cases"].as_array().unwrap() {
        let found = kept(&points, &rules(&case["keep_rules"]));
        let mut found: Vec<_> = found.into_iter().map(|at| (points[at].time_ms, points[at].tags.clone())).collect();
        let wanted = case["kept"].as_array().unwrap().iter().map(dated);
        let mut wanted: Vec<_> = wanted.map(|point| (point.time_ms, point.tags)).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "case {}: {}", case["case"], case["keep_rules"]);
        count += 1;
    }
    assert_eq!(count, 20);
}

fn below(rng: &mut ChaCha20Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// What a janitor sees of a chain: hours at which points were made, which of them
/// lie about it, and what they say.
struct Chain {
    made_ms: Vec<i64>,
    claims: Vec<Claimed>,
    forged: BTreeSet<usize>,
}

/// A chain of honest points, and among them forged ones that claim the far future
/// or the past. The janitor looks every day, or came late and saw all at once.
fn chain(rng: &mut ChaCha20Rng) -> Chain {
    let (mut now, late) = (1_700_000_000_000, below(rng, 2) == 0);
    let count = 5 + below(rng, 60) as usize;
    let (mut made_ms, mut claims, mut forged) = (Vec::new(), Vec::new(), BTreeSet::new());
    for at in 0..count {
        now += HOUR * (1 + below(rng, 30).cast_signed());
        let mut claimed_ms = now;
        if at > 0 && below(rng, 5) == 0 {
            forged.insert(at);
            let far = HOUR * (72 + below(rng, 1_000_000).cast_signed());
            claimed_ms += if below(rng, 2) == 0 { far } else { -far };
        }
        made_ms.push(now);
        claims.push(Claimed { claimed_ms, first_seen_ms: now + HOUR * below(rng, 24).cast_signed() });
    }
    if late {
        for claim in &mut claims {
            claim.first_seen_ms = now + HOUR;
        }
    }
    // Late, what claims the near future cannot be told from the truth by itself: see the
    // next test. The far future can.
    if late {
        for &at in &forged {
            let claim = &mut claims[at];
            if claim.claimed_ms > made_ms[at] && claim.claimed_ms <= now + 26 * HOUR {
                claim.claimed_ms = now + 10_000 * HOUR;
            }
        }
    }
    Chain { made_ms, claims, forged }
}

/// A janitor sees two years of points for the first time today, and one of them claims
/// a time up to today: of the others all stay that would stay without it.
#[test]
fn one_claim_of_the_near_future_costs_no_good_point() {
    let seed = std::env::var("HOLDFAST_SEED").map_or(8, |text| text.parse().unwrap());
    println!("seed {seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    for round in 0..2_000 {
        let count = 3 + below(&mut rng, 100) as usize;
        let mut now = 1_700_000_000_000;
        let mut made_ms = Vec::new();
        for _ in 0..count {
            now += HOUR * (1 + below(&mut rng, 200).cast_signed());
            made_ms.push(now);
        }
        let liar = below(&mut rng, count as u64) as usize;
        let mut claims: Vec<Claimed> =
            made_ms.iter().map(|&claimed_ms| Claimed { claimed_ms, first_seen_ms: now + HOUR }).collect();
        let ahead = (now + 24 * HOUR - made_ms[liar]) / HOUR;
        claims[liar].claimed_ms += HOUR * (1 + below(&mut rng, ahead.cast_unsigned()).cast_signed());
        let keep = Keep {
            hourly: Count::Most(below(&mut rng, 5) as u32),
            daily: Count::Most(1 + below(&mut rng, 8) as u32),
            weekly: Count::Most(below(&mut rng, 9) as u32),
            monthly: Count::Most(below(&mut rng, 25) as u32),
            ..Keep::default()
        };
        let dated = |time_ms| Dated { time_ms, tags: Vec::new(), pinned: false };
        let by_believed: Vec<Dated> = honest_times(&claims).into_iter().map(dated).collect();
        let agree = agreeing(&claims);
        let places: Vec<usize> = (0..count).filter(|&at| agree[at]).collect();
        let by_agreed: Vec<Dated> = places.iter().map(|&at| dated(claims[at].claimed_ms)).collect();
        let mut found = kept(&by_believed, &keep);
        found.extend(kept(&by_agreed, &keep).into_iter().map(|at| places[at]));
        // Where the lie fits between its neighbours it is as good as the truth.
        let fits = claims.get(liar + 1).is_none_or(|next| claims[liar].claimed_ms <= next.claimed_ms);
        let others: Vec<usize> = (0..count).filter(|&at| fits || at != liar).collect();
        let truly: Vec<Dated> = others.iter().map(|&at| dated(claims[at].claimed_ms)).collect();
        for at in kept(&truly, &keep).into_iter().map(|at| others[at]) {
            assert!(found.contains(&at), "seed {seed} round {round}: lost {at} of {count}, {liar} lies");
        }
    }
}

#[test]
fn forged_times_never_cost_a_good_point() {
    let seed = std::env::var("HOLDFAST_SEED").map_or(7, |text| text.parse().unwrap());
    println!("seed {seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    for round in 0..3_000 {
        let chain = chain(&mut rng);
        let times = honest_times(&chain.claims);
        for (at, (time, made)) in times.iter().zip(&chain.made_ms).enumerate() {
            if !chain.forged.contains(&at) {
                assert_eq!(time, made, "seed {seed} round {round}: an honest point lost its time");
            }
        }
        let keep = Keep {
            last: Count::Most(below(&mut rng, 3) as u32),
            hourly: Count::Most(below(&mut rng, 5) as u32),
            daily: Count::Most(below(&mut rng, 8) as u32),
            weekly: Count::Most(below(&mut rng, 5) as u32),
            within_daily: Some(Span { days: 1 + below(&mut rng, 20) as u32, ..Span::default() }),
            ..Keep::default()
        };
        let dated = |times: &[i64]| -> Vec<Dated> {
            times.iter().map(|&time_ms| Dated { time_ms, tags: Vec::new(), pinned: false }).collect()
        };
        // The same points, had nobody lied: a forged one stands where it was first seen.
        let truly: Vec<i64> =
            (0..times.len()).map(|at| if chain.forged.contains(&at) { times[at] } else { chain.made_ms[at] }).collect();
        let (found, wanted) = (kept(&dated(&times), &keep), kept(&dated(&truly), &keep));
        let lost: Vec<_> = wanted.difference(&found).collect();
        assert!(lost.is_empty(), "seed {seed} round {round}: lost {lost:?}");
        // No forged time reaches further than the newest honest one and its first sight.
        let newest = chain.claims.iter().map(|claim| claim.first_seen_ms).max().unwrap();
        assert!(times.iter().all(|time| *time <= newest), "seed {seed} round {round}");
    }
}
