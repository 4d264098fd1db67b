//! Which device a run computes on.
//!
//! `auto` takes the best hardware GPU and falls back to the CPU backend with a line that says so. A software Vulkan driver is taken
//! only when asked for: `--device gpu` where there is no hardware GPU, or DREDGE_DEVICE=software (for tests of the kernels).

use burn::tensor::Device;
use kernels::{Adapter, AdapterKind};

use crate::errors::{OrUsage, Usage};
use crate::output;

/// A chosen device and how it is called in logs.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) device: Device,
    pub(crate) name: String,
}

/// Resolves `--device`.
pub(crate) fn choose(request: &str) -> Result<Chosen, Usage> {
    let software = std::env::var("DREDGE_DEVICE").is_ok_and(|value| value == "software");
    let request = if software && request == "auto" { "software" } else { request };
    let refused = |reason: &str| Usage::new(format!("--device {request}: {reason}"));
    let adapter = match request {
        "cpu" => None,
        "auto" => {
            let best = best(kernels::adapters());
            if best.is_none() {
                output::note("device: no hardware GPU found, computing on the CPU");
            }
            best
        }
        "gpu" => {
            let adapters = kernels::adapters();
            let adapter = best(adapters.clone()).or_else(|| {
                let adapter = software_adapter(adapters)?;
                output::note(
                    "device: no hardware GPU found, computing on a software one, which is for tests: --device cpu is many times as fast",
                );
                Some(adapter)
            });
            Some(adapter.ok_or_else(|| refused("there is no GPU and no software Vulkan driver; use --device cpu"))?)
        }
        "software" => Some(
            software_adapter(kernels::adapters())
                .ok_or_else(|| refused("there is no software Vulkan driver (on Debian: mesa-vulkan-drivers)"))?,
        ),
        _ => {
            let number = request.strip_prefix("gpu:").and_then(|number| number.parse::<usize>().ok());
            let number = number.ok_or_else(|| refused("expected auto, gpu, gpu:N or cpu"))?;
            let adapters = kernels::adapters();
            let count = adapters.len();
            let adapter = adapters.into_iter().nth(number);
            Some(adapter.ok_or_else(|| refused(&format!("there are {count} adapters, counted from 0; `trainer devices` lists them")))?)
        }
    };
    let Some(adapter) = adapter else { return Ok(cpu()) };
    let device = adapter.open().or_usage()?;
    let name = kernels::describe(&device).map_or_else(|| "gpu".to_owned(), |limits| format!("{} ({})", limits.name, limits.compiler));
    Ok(Chosen { device, name })
}

/// The CPU backend.
pub(crate) fn cpu() -> Chosen {
    Chosen { device: Device::flex(), name: "cpu".into() }
}

/// Discrete before integrated before virtual; never a software driver.
fn best(adapters: Vec<Adapter>) -> Option<Adapter> {
    adapters.into_iter().filter(|adapter| adapter.kind != AdapterKind::Software).min_by_key(|adapter| adapter.kind)
}

fn software_adapter(adapters: Vec<Adapter>) -> Option<Adapter> {
    adapters.into_iter().find(|adapter| adapter.kind == AdapterKind::Software)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_device_is_refused_with_the_choices() {
        for request in ["cuda", "gpu:", "gpu:x", ""] {
            let message = choose(request).expect_err("no such device").to_string();
            assert!(message.contains("auto, gpu, gpu:N or cpu"), "{message}");
        }
    }
}
