//! Exact search: every record is looked at, in integers only.
//!
//! Squares of Q16.16 are in units of 2^-32. When all components of both vectors are below 2^7 (raw 2^23),
//! a difference is at most 2^24, its square 2^48, and 65,535 of them fit a u64: that path vectorises.
//! Larger ones take the same sums in u128. Both are exact, so they agree to the bit, and ties are
//! broken by id: one question, one answer, on every machine.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use crate::collection::{Collection, Metric};
use crate::error::{Error, Rule};
use crate::fixed::Fixed;
use crate::id::Id;
use crate::limits::HITS_MAX;

const SMALL: u32 = 1 << 23;

/// What search needs to know about a vector beside its components.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    /// Sum of squares, units of 2^-32.
    sum: u128,
    /// Largest absolute raw component.
    largest: u32,
    /// Square root of `sum * 4^shift`, in 2^62 .. 2^63, so that no small vector loses precision.
    root: u64,
    shift: u32,
}

/// How near a record is. The enum is the metric; numbers are exact, in the units given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// Squared distance in units of 2^-32.
    L2(u128),
    /// Similarity in units of 2^-32, from -2^32 to 2^32.
    Cosine(i64),
    /// Dot product in units of 2^-32.
    Dot(i128),
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The record.
    pub id: Id,
    /// How near it is.
    pub score: Score,
}

impl Norm {
    pub(crate) fn of(vector: &[Fixed]) -> Self {
        let largest = vector.iter().map(|component| component.raw().unsigned_abs()).max().unwrap_or(0);
        let sum: u128 = vector
            .iter()
            .map(|component| {
                let magnitude = u64::from(component.raw().unsigned_abs());
                u128::from(magnitude * magnitude)
            })
            .sum();
        if sum == 0 {
            return Norm { sum, largest, root: 0, shift: 0 };
        }
        // The top bit goes to position 124 or 125: an even shift, so that the root shifts by half of it.
        let shift = (sum.leading_zeros() - 2) / 2;
        Norm { sum, largest, root: (sum << (2 * shift)).isqrt() as u64, shift }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.sum == 0
    }
}

impl Score {
    /// Smaller is nearer, for every metric.
    fn rank(self) -> i128 {
        match self {
            Score::L2(squares) => squares.cast_signed(), // at most 2^80
            Score::Cosine(similarity) => -i128::from(similarity),
            Score::Dot(product) => -product,
        }
    }

    /// The score as the nearest double, for people: squared distance, similarity or product.
    pub fn to_f64(self) -> f64 {
        const UNIT: f64 = 4_294_967_296.0;
        #[expect(clippy::cast_precision_loss, reason = "for display; the exact number stands beside it")]
        match self {
            Score::L2(squares) => squares as f64 / UNIT,
            Score::Cosine(similarity) => similarity as f64 / UNIT,
            Score::Dot(product) => product as f64 / UNIT,
        }
    }
}

fn squared_distance(left: &[Fixed], right: &[Fixed], small: bool) -> u128 {
    let squares = left.iter().zip(right).map(|(left, right)| {
        let distance = u64::from(left.raw().abs_diff(right.raw()));
        distance * distance
    });
    if small { u128::from(squares.sum::<u64>()) } else { squares.map(u128::from).sum() }
}

fn score(metric: Metric, query: &[Fixed], query_norm: &Norm, vector: &[Fixed], norm: &Norm) -> Score {
    let small = query_norm.largest <= SMALL && norm.largest <= SMALL;
    let squares = squared_distance(query, vector, small);
    // |a-b|^2 = |a|^2 + |b|^2 - 2ab, exactly: unsigned squares vectorise where signed products do not.
    let product = (query_norm.sum.cast_signed() + norm.sum.cast_signed() - squares.cast_signed()) / 2;
    match metric {
        Metric::L2 => Score::L2(squares),
        Metric::Dot => Score::Dot(product),
        Metric::Cosine => Score::Cosine(cosine(product, query_norm, norm)),
    }
}

/// `product / (|a| |b|)` in units of 2^-32. By Cauchy-Schwarz the shifted product stays below 2^126.
fn cosine(product: i128, left: &Norm, right: &Norm) -> i64 {
    if left.is_zero() || right.is_zero() {
        return 0;
    }
    let scaled = product.unsigned_abs() << (left.shift + right.shift);
    let roots = u128::from(left.root) * u128::from(right.root);
    let similarity = (scaled / (roots >> 32)).min(1 << 32) as i64;
    if product < 0 { -similarity } else { similarity }
}

impl Collection {
    /// The `limit` nearest records, nearest first, ties by id; only those with `tag` if it is given.
    pub fn search(&self, query: &[Fixed], limit: u32, tag: Option<u64>) -> Result<Vec<Hit>, Error> {
        if query.len() != self.dimension() as usize {
            let got = u32::try_from(query.len()).unwrap_or(u32::MAX);
            return Err(Rule::Dimension { expected: self.dimension(), got }.into());
        }
        if limit > HITS_MAX {
            return Err(Rule::TooLarge { what: "the number of hits", max: HITS_MAX.into() }.into());
        }
        let query_norm = Norm::of(query);
        if self.metric() == Metric::Cosine && query_norm.is_zero() {
            return Err(Rule::ZeroVector.into());
        }
        let mut nearest: BinaryHeap<(i128, Id)> = BinaryHeap::with_capacity(limit as usize + 1);
        for stored in self.records.values() {
            if tag.is_some_and(|tag| tag != stored.record.tag) {
                continue;
            }
            let score = score(self.metric(), query, &query_norm, &stored.record.vector, &stored.norm);
            let candidate = (score.rank(), stored.record.id);
            if nearest.len() < limit as usize {
                nearest.push(candidate);
            } else if nearest.peek().is_some_and(|worst| candidate < *worst) {
                nearest.pop();
                nearest.push(candidate);
            }
        }
        let hit = |(rank, id): (i128, Id)| Hit {
            id,
            score: match self.metric() {
                Metric::L2 => Score::L2(rank.cast_unsigned()),
                Metric::Cosine => Score::Cosine(-rank as i64),
                Metric::Dot => Score::Dot(-rank),
            },
        };
        Ok(nearest.into_sorted_vec().into_iter().map(hit).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{Head, Parameters};
    use crate::command::Existing;
    use crate::id::Name;
    use crate::thing::Record;
    use proptest::prelude::*;

    fn vector(raw: &[i32]) -> std::boxed::Box<[Fixed]> {
        raw.iter().map(|raw| Fixed::from_raw(*raw)).collect()
    }

    fn collection(metric: Metric, vectors: &[std::vec::Vec<i32>]) -> Collection {
        let mut collection = Collection::new(Head {
            name: Name::new("c").unwrap(),
            dimension: 4,
            metric,
            parameters: Parameters::default(),
            created_at: 0,
            metadata: [].into(),
        });
        for (index, raw) in vectors.iter().enumerate() {
            let id = Id::from_u64(index as u64);
            let record = Record { id, tag: index as u64 % 2, metadata: [].into(), vector: vector(raw) };
            let _ = collection.put_record(record, Existing::Refuse);
        }
        collection
    }

    fn component() -> impl Strategy<Value = i32> {
        prop_oneof![-200_000..200_000_i32, any::<i32>(), Just(i32::MIN), Just(i32::MAX), Just(0)]
    }

    fn oracle(metric: Metric, left: &[i32], right: &[i32]) -> f64 {
        let pairs =
            || left.iter().zip(right).map(|(left, right)| (f64::from(*left) / 65_536.0, f64::from(*right) / 65_536.0));
        let dot = |pairs: &mut dyn Iterator<Item = (f64, f64)>| pairs.map(|(left, right)| left * right).sum::<f64>();
        match metric {
            Metric::L2 => pairs().map(|(left, right)| (left - right) * (left - right)).sum(),
            Metric::Dot => dot(&mut pairs()),
            Metric::Cosine => {
                let norm = |raw: &[i32]| raw.iter().map(|raw| (f64::from(*raw) / 65_536.0).powi(2)).sum::<f64>().sqrt();
                dot(&mut pairs()) / (norm(left) * norm(right))
            }
        }
    }

    proptest! {
        /// Against floats: same scores within the floats' own error, and sorted by exact score, then id.
        #[test]
        fn agrees_with_floats(
            vectors in prop::collection::vec(prop::collection::vec(component(), 4), 1..30),
            query in prop::collection::vec(component(), 4),
            limit in 1_u32..40,
        ) {
            prop_assume!(query.iter().any(|raw| *raw != 0));
            for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
                let collection = collection(metric, &vectors);
                let hits = collection.search(&vector(&query), limit, None).unwrap();
                prop_assert_eq!(hits.len() as u64, collection.counts().records.min(limit.into()));
                prop_assert!(hits.windows(2).all(|pair| (pair[0].score.rank(), pair[0].id) < (pair[1].score.rank(), pair[1].id)));
                for hit in &hits {
                    let raw = &vectors[u128::from_be_bytes(*hit.id.as_bytes()) as usize];
                    let expected = oracle(metric, raw, &query);
                    let scale = raw.iter().chain(&query).map(|raw| (f64::from(*raw) / 65_536.0).abs()).fold(1.0, f64::max);
                    let tolerance = if metric == Metric::Cosine { 1e-6 } else { 1e-9 * scale * scale };
                    prop_assert!((hit.score.to_f64() - expected).abs() <= tolerance, "{metric:?} {} {expected}", hit.score.to_f64());
                }
                let all = collection.search(&vector(&query), HITS_MAX, None).unwrap();
                prop_assert_eq!(&all[..hits.len()], &hits[..], "a shorter answer is the head of a longer one");
                let odd = collection.search(&vector(&query), HITS_MAX, Some(1)).unwrap();
                let filtered: std::vec::Vec<_> = all.into_iter().filter(|hit| hit.id.as_bytes()[15] % 2 == 1).collect();
                prop_assert_eq!(odd, filtered);
            }
        }

        #[test]
        fn both_paths_are_the_same_sum(left in prop::collection::vec(-(1 << 23)..(1 << 23), 64), right in prop::collection::vec(-(1 << 23)..(1 << 23), 64)) {
            let (left, right) = (vector(&left), vector(&right));
            prop_assert_eq!(squared_distance(&left, &right, true), squared_distance(&left, &right, false));
        }
    }

    #[test]
    fn refuses_what_has_no_answer() {
        let collection = collection(Metric::Cosine, &[std::vec![1, 0, 0, 0]]);
        let refused = |query: &[i32], limit| collection.search(&vector(query), limit, None).unwrap_err();
        assert_eq!(refused(&[0; 4], 1), Error::Refused(Rule::ZeroVector));
        assert_eq!(refused(&[1; 3], 1), Error::Refused(Rule::Dimension { expected: 4, got: 3 }));
        assert!(matches!(refused(&[1; 4], HITS_MAX + 1), Error::Refused(Rule::TooLarge { .. })));
    }
}
