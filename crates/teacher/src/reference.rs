//! The losses in plain `f64` Rust, written for clarity. Logits stand list after list, each with its positive first.

/// The lists of `logits`.
fn lists<'a>(logits: &'a [f64], sizes: &'a [usize]) -> impl Iterator<Item = &'a [f64]> {
    let mut rest = logits;
    sizes.iter().map(move |&size| {
        let (list, after) = rest.split_at(size);
        rest = after;
        list
    })
}

/// Cross-entropy of the positive among its list, mean over lists.
///
/// # Panics
/// When there are fewer logits than the sizes ask for.
pub fn lce(logits: &[f64], sizes: &[usize]) -> f64 {
    let one = |list: &[f64]| {
        let most = list.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + list.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln() - list[0]
    };
    lists(logits, sizes).map(one).sum::<f64>() / sizes.len() as f64
}

/// Binary cross-entropy, mean over pairs.
///
/// # Panics
/// When there are fewer logits than the sizes ask for.
pub fn binary_cross_entropy(logits: &[f64], sizes: &[usize]) -> f64 {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let one = |list: &[f64]| softplus(-list[0]) + list[1..].iter().map(|&logit| softplus(logit)).sum::<f64>();
    lists(logits, sizes).map(one).sum::<f64>() / logits.len() as f64
}
