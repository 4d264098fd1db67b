//! What rows are ordered by: their score, or a key under which the best k are a random draw of k.
//!
//! A draw without replacement is a top-k of random keys, so it needs no machinery of its own: rows get independent exponential times `E / w`, and the first k to arrive are
//! k rows drawn one after the other, each with probability proportional to its weight w among those left (exponential races; Efraimidis and Spirakis 2006, "Weighted random
//! sampling with a reservoir"). With `w = exp(-sharpness (score - centre)^2)` (SimANS, arXiv 2210.11773) the order by `-ln(E / w)` is that of
//! `-sharpness (score - centre)^2 - ln E`. E is a function of (seed, query's key, row), so a draw does not depend on tiles, shards or threads.

/// How rows are ordered, for all queries of a scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Key {
    /// By score.
    Score,
    /// At random.
    Uniform,
    /// At random, rows with scores near the query's centre earlier.
    Race {
        /// The larger, the narrower.
        sharpness: f32,
    },
}

/// The smallest key that a row is drawn with: rows whose distance, squared and sharpened, is infinite in f32 are not.
pub(crate) const LEAST: f32 = -3e38;

/// Two words that decide the random numbers of a query (SplitMix64, Steele, Lea and Flood 2014).
pub(crate) fn words(seed: u64, query: u64) -> [u32; 2] {
    let mix = |mut x: u64| {
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let word = mix(mix(seed) ^ query);
    [word as u32, (word >> 32) as u32]
}

/// 32 random bits of a row. Different for different rows of a query: every step is a permutation (Wellons, "lowbias32", twice).
#[inline(always)]
pub(crate) fn shuffle(id: u32, words: [u32; 2]) -> u32 {
    let mut x = id.wrapping_add(words[0]);
    let mut round = 0;
    while round < 2 {
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        x = if round == 0 { x ^ words[1] } else { x };
        round += 1;
    }
    x
}

/// 30 random bits as a normal number above 0, in their order: exact on every device.
#[inline(always)]
pub(crate) fn uniform(bits: u32) -> f32 {
    f32::from_bits((bits >> 2) + 0x0080_0000)
}

/// `-ln E` with `E = -ln(1 - v)`, v in (0, 1) from random bits. Small E win, so it is E near 0 that keeps its digits: by its series there.
pub(crate) fn earliness(bits: u32) -> f32 {
    let v = ((bits as f32 + 0.5) * 2f32.powi(-32)).min(1.0 - f32::EPSILON / 2.0);
    let time = if v < 0.015_625 { v * (1.0 + v * (0.5 + v * (1.0 / 3.0 + v * 0.25))) } else { -(1.0 - v).ln() };
    -time.ln()
}

impl Key {
    /// A number that the key of a row within bounds is not above, without its logarithms; NaN where the score is. The key itself, unless it has logarithms.
    #[inline(always)]
    pub(crate) fn most(self, score: f32, centre: f32, id: u32, words: [u32; 2]) -> f32 {
        match self {
            Self::Score => score,
            Self::Uniform => {
                let key = uniform(shuffle(id, words));
                if score.is_nan() { score } else { key }
            }
            Self::Race { sharpness } => {
                let distance = score - centre;
                // E is at least v, and v at least the power of two below it; what rounding can add is far below a hundredth.
                let exponent = ((shuffle(id, words) as f32 + 0.5).to_bits() >> 23) as f32 - (127.0 + 32.0);
                0.01 - std::f32::consts::LN_2 * exponent - sharpness * (distance * distance)
            }
        }
    }

    /// The key of a row within bounds; NaN where the score is.
    #[inline(always)]
    pub(crate) fn of(self, score: f32, centre: f32, id: u32, words: [u32; 2]) -> f32 {
        match self {
            Self::Score => score,
            Self::Uniform if score.is_nan() => score,
            Self::Uniform => uniform(shuffle(id, words)),
            Self::Race { sharpness } => {
                let distance = score - centre;
                earliness(shuffle(id, words)) - sharpness * (distance * distance)
            }
        }
    }

    /// [`Key::of`] in float64.
    pub(crate) fn exact(self, score: f64, centre: f32, id: u32, words: [u32; 2]) -> f64 {
        match self {
            Self::Score => score,
            Self::Uniform => f64::from(uniform(shuffle(id, words))),
            Self::Race { sharpness } => {
                let v = (f64::from(shuffle(id, words)) + 0.5) * 2f64.powi(-32);
                -(-(-v).ln_1p()).ln() - f64::from(sharpness) * (score - f64::from(centre)).powi(2)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_query_have_different_bits_and_queries_different_rows() {
        let mut bits: Vec<u32> = (0..50_000).map(|id| shuffle(id, words(3, 9))).collect();
        bits.sort_unstable();
        assert!(bits.windows(2).all(|pair| pair[0] < pair[1]));
        assert_ne!(words(3, 9), words(9, 3));
        // Each bit is set for half of the rows, whatever the query: within five standard deviations.
        for (seed, query) in [(0, 0), (0, 1), (1, 0), (7, u64::MAX)] {
            for bit in 0..32 {
                let set = (0..50_000).filter(|&id| shuffle(id, words(seed, query)) >> bit & 1 == 1).count();
                assert!(set.abs_diff(25_000) < 560, "seed {seed}, query {query}, bit {bit}: {set}");
            }
        }
    }

    #[test]
    fn earliness_keeps_its_digits() {
        for bits in (0..32).map(|shift| u32::MAX >> shift).chain((0..2000).map(|id| shuffle(id, [5, 6]))).chain([0]) {
            let v = (f64::from(bits) + 0.5) * 2f64.powi(-32);
            let expected = -(-(-v).ln_1p()).ln();
            // v near 1 is rounded: late rows.
            let tolerance = if v > 0.99 { 1e-6 / (1.0 - v).max(1e-9) } else { 4e-6 };
            assert!((f64::from(earliness(bits)) - expected).abs() < tolerance.min(1.0), "{bits}: {} {expected}", earliness(bits));
        }
    }

    #[test]
    fn no_key_is_above_the_most() {
        for id in 0..100_000 {
            let words = words(2, u64::from(id % 17));
            let score = (id % 101) as f32 * 0.02 - 1.0;
            for key in [Key::Score, Key::Uniform, Key::Race { sharpness: 3.0 }, Key::Race { sharpness: 1e6 }] {
                let (most, exactly) = (key.most(score, 0.25, id, words), key.of(score, 0.25, id, words));
                assert!(exactly <= most, "{key:?} {id}: {exactly} above {most}");
                assert!(matches!(key, Key::Race { .. }) || exactly == most);
                assert!(key.most(f32::NAN, 0.25, id, words).is_nan() && key.of(f32::NAN, 0.25, id, words).is_nan());
            }
        }
    }

    #[test]
    fn uniform_keys_are_normal_and_ordered() {
        for bits in [0, 4, 1 << 31, u32::MAX] {
            assert!(uniform(bits).is_normal() && uniform(bits) > 0.0);
        }
        assert!(uniform(4) > uniform(0) && uniform(u32::MAX) > uniform(1 << 31));
    }
}
