//! Which GPU the tests of this workspace use, if any.

use burn::tensor::Device;

use crate::{AdapterKind, adapters, software_device};

/// The GPU that DREDGE_TEST_DEVICE asks tests to use: `software`, a software Vulkan driver, or `gpu`, the best hardware. None, with a notice, when it asks for none.
///
/// # Panics
/// When what it asks for is not there, so that no test passes without having run.
#[must_use]
pub fn test_gpu() -> Option<Device> {
    match std::env::var("DREDGE_TEST_DEVICE").as_deref() {
        Ok("software") => Some(software_device().expect("a software Vulkan driver")),
        Ok("gpu") => {
            let hardware = adapters().into_iter().filter(|adapter| adapter.kind != AdapterKind::Software);
            Some(hardware.min_by_key(|adapter| adapter.kind).expect("a GPU").open().expect("the GPU opens"))
        }
        _ => {
            #[allow(clippy::print_stderr)]
            {
                eprintln!("skipped: software GPU, or another (DREDGE_TEST_DEVICE is neither software nor gpu)");
            }
            None
        }
    }
}
