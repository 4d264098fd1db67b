//! Where the choices of tuning, and kernels compiled for a GPU, are kept between runs.

use std::path::PathBuf;

use burn_cubecl::cubecl::config::cache::CacheConfig;
use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn_cubecl::cubecl::environment;

/// Keeps them in the user's cache folder (`$XDG_CACHE_HOME/cubecl` on Linux) wherever a program is started. Left alone, CubeCL keeps them in `target/environment` below
/// a folder with a Cargo.toml, so that a run started elsewhere tunes everything again. A `cubecl.toml` or `burn.toml` that names another place wins. For
/// programs, at their start, before a device is opened.
pub fn keep_tuning() {
    // The first look at the configuration sets its own place; only then can another be set.
    if matches!(CubeClRuntimeConfig::get().environment.path, CacheConfig::Target) {
        environment::set_root(CacheConfig::Global.root());
    }
}

/// The file that holds them.
#[must_use]
pub fn tuning_file() -> PathBuf {
    environment::path()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_lies_in_the_users_cache_and_not_in_the_checkout() {
        keep_tuning();
        let (file, checkout) = (tuning_file(), std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        assert!(file.starts_with(CacheConfig::Global.root()) && !file.starts_with(checkout.join("target")), "{}", file.display());
    }
}
