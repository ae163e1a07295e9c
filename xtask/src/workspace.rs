//! The folders of this workspace.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::process;

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable when it runs us; a binary started by hand still
    // knows where it was compiled.
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}

/// Where cargo puts what it builds. Asked from cargo, because it may be
/// configured in five places.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = process::capture(process::cargo().current_dir(root()).args([
        "metadata",
        "--no-deps",
        "--format-version=1",
    ]))?;
    json_string(&metadata, "target_directory")
        .map(PathBuf::from)
        .context("`cargo metadata` names no target_directory")
}

/// The value of the first `"key":"value"` in `json`. Cargo's own output is
/// regular enough; a path with a quote or a backslash in it is not supported.
pub(crate) fn json_string<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let (_, after) = json.split_once(&format!("\"{key}\":\""))?;
    let (value, _) = after.split_once('"')?;
    (!value.contains('\\')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_found_by_key() {
        let json = r#"{"a":1,"executable":null,"target_directory":"/t/x","b":"y"}"#;
        assert_eq!(json_string(json, "target_directory"), Some("/t/x"));
        assert_eq!(json_string(json, "executable"), None);
        assert_eq!(json_string(r#"{"a":"x\\y"}"#, "a"), None);
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("recorder-ebpf/Cargo.toml").is_file());
    }
}
