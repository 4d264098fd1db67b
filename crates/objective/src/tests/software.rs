//! Losses and gradient caching on software Vulkan: values and gradients against the same references as on the CPU.

use super::fixture::{Data, check};
use super::{INSTEAD, by_rows, gradient_cache, losses, mixing, properties};
use crate::Now;

#[test]
fn identities_between_losses_on_a_software_gpu() {
    let Some(device) = kernels::test_gpu() else { return };
    INSTEAD.set(Some(device));
    properties::identities(5);
    INSTEAD.set(None);
}

#[test]
fn every_loss_and_gradient_caching_on_a_software_gpu() {
    let Some(device) = kernels::test_gpu() else { return };
    INSTEAD.set(Some(device));
    let now = Now { step: 3, progress: 0.0, seed: 9 };
    let data = Data { blocked: losses::some_blocked(), ..Data::full(&[0, 2, 4, 6, 8], 9, 4, 1) };
    for config in losses::every_loss().iter().chain(&losses::sums_blocks_and_truncations()) {
        check(&format!("{config:?}"), config, &data, &now);
    }
    for config in by_rows::losses_by_rows() {
        let config = crate::LossConfig { rows_at_once: 2, ..config };
        check(&format!("{config:?}"), &config, &data, &now);
    }
    let single = Data { positives: vec![], ..data };
    for config in &mixing::mixtures() {
        check(&format!("{config:?}"), config, &single, &now);
    }
    gradient_cache::cached_gradients_equal_the_whole_batch_for_every_chunk_size();
    gradient_cache::cached_gradients_equal_the_whole_batch_under_seeded_dropout();
    INSTEAD.set(None);
}
