//! A loss taken a few rows of the score matrix at a time, so that the matrix and its graph never stand in memory whole.
//!
//! A batch of B queries and C columns has B x C scores, and the graph of a loss holds them once or twice (InfoNCE) or several times over: at 65,536 queries
//! with one hard negative each, 34 GB each time. For a mean over queries a part of the rows gives its share of the value and of the gradients of all
//! embeddings; what is left of a part are these gradients, `[B + C, dimension]`. The sum of the inner products of the embeddings with their
//! gradients has those gradients, and stands for the loss in the graph of the step (the way of gradient caching, Gao et al. 2021, arXiv 2101.06983).

use burn::tensor::{DType, Tensor};

use super::Evaluated;
use crate::candidates::Embedded;

/// The loss of `batch` by `loss` of so many of its queries at a time. `leaves` are what `loss` reads beside the batch and learns.
pub(super) fn by_rows(batch: &Embedded, rows: usize, leaves: &[Tensor<1>], loss: impl Fn(&Embedded) -> Evaluated) -> Evaluated {
    let total = batch.rows();
    let leaf = |rows: &Tensor<2>| if rows.is_tracked() { rows.clone().detach().require_grad() } else { rows.clone() };
    let documents = leaf(&batch.documents);
    let (mut value, mut of_documents, mut of_leaves) = (None, None, vec![None; leaves.len()]);
    let (mut of_queries, mut parts) = (Vec::new(), Vec::new());
    for start in (0..total).step_by(rows) {
        let range = start..(start + rows).min(total);
        let share = range.len() as f64 / total as f64;
        let queries = leaf(&batch.queries.clone().narrow(0, start, range.len()));
        let evaluated = loss(&batch.part(range, queries.clone(), documents.clone()));
        for (at, (name, part)) in evaluated.parts.into_iter().enumerate() {
            let part = part.mul_scalar(share);
            match parts.get_mut(at) {
                Some((_, sum)) => add(sum, part),
                None => parts.push((name, Some(part))),
            }
        }
        let evaluated = evaluated.value.mul_scalar(share);
        add(&mut value, evaluated.clone().inner());
        if !evaluated.is_tracked() {
            continue;
        }
        let mut gradients = evaluated.backward();
        if queries.is_tracked() {
            of_queries.push(queries.grad_remove(&mut gradients).unwrap_or_else(|| queries.inner().zeros_like()));
        }
        documents.grad_remove(&mut gradients).into_iter().for_each(|gradient| add(&mut of_documents, gradient));
        for (sum, leaf) in of_leaves.iter_mut().zip(leaves) {
            leaf.grad_remove(&mut gradients).into_iter().for_each(|gradient| add(sum, gradient));
        }
    }
    let of_queries = (!of_queries.is_empty()).then(|| Tensor::cat(of_queries, 0));
    let products =
        [(&batch.queries, of_queries), (&batch.documents, of_documents)].map(|(rows, gradient)| Some(product(rows.clone(), gradient?)));
    let learned = leaves.iter().zip(of_leaves).filter_map(|(leaf, gradient)| Some(product(leaf.clone(), gradient?)));
    let stand_in = products.into_iter().flatten().chain(learned).reduce(|sum, next| sum + next);
    let value: Tensor<1> = value.expect("a batch has queries");
    let value = match stand_in {
        // The value of the loss, with the gradient of the products.
        Some(stand_in) => stand_in.clone() - stand_in.detach() + Tensor::from_inner(value),
        None => value,
    };
    Evaluated { value, parts: parts.into_iter().filter_map(|(name, part)| Some((name, part?))).collect() }
}

/// Something whose gradient with respect to `values` is `gradient`.
fn product<const D: usize>(values: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    (values.cast(DType::F32) * Tensor::from_inner(gradient.cast(DType::F32))).sum()
}

fn add<const D: usize>(sum: &mut Option<Tensor<D>>, value: Tensor<D>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + value,
        None => value,
    });
}
