//! The rules of the source tree that no compiler checks.
//!
//! Each rule is a function from the text of a file to its violations, so that it
//! can be tested without a tree. [`run`] finds the files and prints all of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process,
    source::{Comments, functions, keep},
    workspace,
};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// Files that are one long table, which is read by searching, not from the top.
const TABLES: &[&str] = &["recorder-ebpf/src/schema.rs", "recorder/src/event/names.rs"];

/// Files of recorded bytes, and files other programs write.
const NOT_OURS: &[&str] = &["tests/golden/", "Cargo.lock", "LICENSE"];

/// Names that say nothing about what a module is for.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager"];

/// What must not be left in the sources. In two halves, so that this file passes.
const BANNED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("#[ign", "ore"),
];

/// Folders of one machine or one person.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ho", "me/")];

/// The modules of `recorder/src`, in the order the data goes through them.
///
/// A module may use those above it that it is allowed to see: data goes one way.
const MODULES: &[Module] = &[
    Module { name: "event", uses: Uses::Above },
    Module { name: "config", uses: Uses::Only(&["event", "clock", "privacy", "trigger"]) },
    Module { name: "loss", uses: Uses::Above },
    Module { name: "clock", uses: Uses::Above },
    Module { name: "json", uses: Uses::Only(&[]) },
    Module { name: "privacy", uses: Uses::Only(&["event"]) },
    Module { name: "trigger", uses: Uses::Above },
    Module { name: "probe", uses: Uses::Above },
    Module { name: "ring", uses: Uses::Above },
    Module { name: "decode", uses: Uses::Above },
    Module { name: "cgroup", uses: Uses::Only(&[]) },
    Module { name: "context", uses: Uses::Above },
    Module { name: "window", uses: Uses::Above },
    Module { name: "snapshot", uses: Uses::Above },
    Module { name: "spool", uses: Uses::Above },
    Module { name: "rollup", uses: Uses::Above },
    Module { name: "replay", uses: Uses::Above },
    Module { name: "filter", uses: Uses::Above },
    Module { name: "export", uses: Uses::Above },
    Module { name: "state", uses: Uses::Above },
    Module { name: "privilege", uses: Uses::Only(&["loss"]) },
    Module { name: "recorder", uses: Uses::Above },
    Module { name: "dispatch", uses: Uses::Above },
    Module { name: "control", uses: Uses::Above },
    Module { name: "cli", uses: Uses::Above },
];

struct Module {
    name: &'static str,
    uses: Uses,
}

enum Uses {
    /// Everything above it in the table.
    Above,
    /// These and nothing else.
    Only(&'static [&'static str]),
}

/// Checks the tree and fails with all violations.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let files = files(&root)?;
    let mut violations = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy();
        if NOT_OURS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let found = check_file(&name, file)?;
        violations.extend(found.into_iter().map(|violation| format!("{name}: {violation}")));
    }
    violations.extend(host_dependencies(&root)?);

    for violation in &violations {
        eprintln!("tidy: {violation}");
    }
    match violations.len() {
        0 => {
            println!("tidy: {} files keep the rules", files.len());
            Ok(())
        }
        count => bail!("{count} violations of the rules of this tree"),
    }
}

/// Everything in the tree that is not ignored by git.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = process::capture(
        Command::new("git")
            .current_dir(root)
            // The tree may belong to somebody else than root, who runs the tests.
            .args(["-c", "safe.directory=*", "ls-files", "-z"])
            .args(["--cached", "--others", "--exclude-standard"]),
    );
    let Ok(listed) = listed else {
        // An unpacked archive, or no git: everything but what cargo built.
        let mut found = Vec::new();
        walk(root, &mut found)?;
        return Ok(found);
    };
    let paths = listed.split_terminator('\0').map(|name| root.join(name));
    // A file that was deleted and not yet committed is still listed.
    Ok(paths.filter(|path| path.is_file()).collect())
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path.is_file() {
            found.push(path);
        } else if !path.ends_with("target") && !path.ends_with(".git") {
            walk(&path, found)?;
        }
    }
    Ok(())
}

fn check_file(name: &str, path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Ok(vec![format!("has {} bytes, at most {FILE_BYTES_MAX}", bytes.len())]);
    }
    let Ok(text) = String::from_utf8(bytes) else { return Ok(Vec::new()) };

    let mut found = machine_paths(&text);
    if name.ends_with(".md") {
        found.extend(title(&text));
    }
    if name.ends_with("Cargo.toml") {
        found.extend(lint_inheritance(&text));
    }
    if name.ends_with(".rs") {
        found.extend(empty_name(name));
        found.extend(banned_words(&text));
        found.extend(lengths(name, &text));
        if let Some(module) = module_of(name) {
            found.extend(directions(module, &text));
        }
    }
    Ok(found)
}

fn machine_paths(text: &str) -> Vec<String> {
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| MACHINE_PATHS.iter().any(|path| line.contains(path)))
        .map(|(number, _)| format!("line {number} names a folder of one machine"))
        .collect()
}

fn title(text: &str) -> Option<String> {
    (!text.starts_with("# ")).then(|| "begins without a title (`# ...`)".to_owned())
}

fn lint_inheritance(text: &str) -> Option<String> {
    let inherits = text
        .split_once("\n[lints]\n")
        .is_some_and(|(_, rest)| rest.lines().next() == Some("workspace = true"));
    let is_package = text.contains("[package]");
    (is_package && !inherits)
        .then(|| "does not inherit the lints: add `[lints]` and `workspace = true`".to_owned())
}

fn empty_name(name: &str) -> Option<String> {
    let mut parts = name.trim_end_matches(".rs").split('/');
    let empty = parts.find(|part| EMPTY_NAMES.contains(part))?;
    Some(format!("the name `{empty}` does not say what the module is for"))
}

fn banned_words(text: &str) -> Vec<String> {
    let kept = keep(text, Comments::Kept);
    let mut found = Vec::new();
    for (number, line) in (1..).zip(kept.lines()) {
        for word in BANNED.iter().filter(|word| line.contains(**word)) {
            found.push(format!("line {number} has `{word}`"));
        }
    }
    found
}

fn lengths(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX && !TABLES.contains(&name) {
        found.push(format!("has {lines} lines, at most {FILE_LINES_MAX}"));
    }
    for function in functions(&keep(text, Comments::Blanked)) {
        if function.lines > FUNCTION_LINES_MAX {
            found.push(format!(
                "line {}: function {} has {} lines, at most {FUNCTION_LINES_MAX}",
                function.line, function.name, function.lines
            ));
        }
    }
    found
}

/// The module of the recorder a file belongs to; none for the roots of its
/// crates, which only list modules, and for files elsewhere.
fn module_of(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("recorder/src/")?;
    let module = inside.split('/').next()?.trim_end_matches(".rs");
    (module != "lib" && module != "main").then_some(module)
}

fn directions(module: &str, text: &str) -> Vec<String> {
    let Some(place) = MODULES.iter().position(|known| known.name == module) else {
        return vec![format!("module `{module}` has no place in the table of xtask/src/tidy.rs")];
    };
    let code = keep(text, Comments::Blanked);
    let mut found = Vec::new();
    for used in used_modules(&code) {
        let Some(used_place) = MODULES.iter().position(|known| known.name == used) else {
            continue;
        };
        let is_allowed = used_place == place
            || match MODULES[place].uses {
                Uses::Above => used_place < place,
                Uses::Only(names) => names.contains(&used),
            };
        if !is_allowed {
            found.push(format!("module `{module}` may not use `{used}`: data goes one way"));
        }
    }
    found
}

/// The modules behind every `crate::` in `code`, each once, also behind
/// `crate::{...}`.
fn used_modules(code: &str) -> Vec<&str> {
    let mut used = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let is_whole_word =
            !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if is_whole_word {
            collect_heads(&code[at + start.len()..], &mut used);
        }
    }
    used.sort_unstable();
    used.dedup();
    used
}

fn collect_heads<'a>(path: &'a str, used: &mut Vec<&'a str>) {
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    let head = |text: &'a str| text.split(is_end).next().unwrap_or_default();
    let Some(group) = path.strip_prefix('{') else {
        used.push(head(path));
        return;
    };
    let mut depth = 0usize;
    let mut is_head = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return,
            '}' => depth -= 1,
            ',' if depth == 0 => is_head = true,
            _ if is_head && !c.is_whitespace() => {
                used.push(head(&group[at..]));
                is_head = false;
            }
            _ => {}
        }
    }
}

/// aya-ebpf defines memcpy, memset and memmove for whatever it is linked into;
/// in the recorder they would replace those of the C library.
fn host_dependencies(root: &Path) -> Result<Option<String>> {
    let tree = process::capture(
        process::cargo()
            .current_dir(root)
            .args(["tree", "--quiet", "-p", "recorder", "-e", "normal,build"])
            .args(["--prefix", "none", "--format", "{p}"]),
    )?;
    Ok(tree
        .lines()
        .any(|line| line.starts_with("aya-ebpf "))
        .then(|| "recorder/Cargo.toml: aya-ebpf is linked into the host program".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_may_use_what_stands_above_it() {
        assert_eq!(directions("window", "use crate::event::Event;"), [""; 0]);
        assert_eq!(directions("window", "use crate::window::Segment;"), [""; 0]);
        assert_eq!(directions("window", "use crate::config::Limits;"), [""; 0]);
        assert_eq!(directions("window", "use crate::replay::Replay;").len(), 1);
    }

    #[test]
    fn config_uses_schema_clock_and_triggers_alone() {
        assert_eq!(directions("config", "use crate::event::Kind;"), [""; 0]);
        assert_eq!(directions("config", "fn f() -> crate::window::Window {}").len(), 1);
    }

    #[test]
    fn every_module_has_a_place() {
        assert_eq!(directions("novelty", "").len(), 1);
    }

    #[test]
    fn comments_may_name_any_module() {
        assert_eq!(directions("event", "//! Read by [`crate::replay`]."), [""; 0]);
    }

    #[test]
    fn groups_are_taken_apart() {
        let code = "use crate::{\n  event::{Kind, clock::X},\n  window, ring::Ring as R,\n};";
        assert_eq!(used_modules(code), ["event", "ring", "window"]);
        assert_eq!(used_modules("$crate::cli::x; mycrate::cli; crate::loss::add()"), ["loss"]);
    }

    #[test]
    fn files_belong_to_their_first_folder() {
        assert_eq!(module_of("recorder/src/window/segment.rs"), Some("window"));
        assert_eq!(module_of("recorder/src/recorder.rs"), Some("recorder"));
        assert_eq!(module_of("recorder/src/lib.rs"), None);
        assert_eq!(module_of("xtask/src/main.rs"), None);
    }

    #[test]
    fn long_functions_and_files_are_found() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "x;\n".repeat(lines - 2));
        assert_eq!(lengths("a.rs", &function(FUNCTION_LINES_MAX)), [""; 0]);
        assert_eq!(lengths("a.rs", &function(FUNCTION_LINES_MAX + 1)).len(), 1);
        let file = "x;\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(lengths("a.rs", &file).len(), 1);
        assert_eq!(lengths(TABLES[0], &file), [""; 0]);
    }

    #[test]
    fn banned_words_are_found_in_code_and_comments_but_not_in_strings() {
        for word in BANNED {
            assert_eq!(banned_words(&format!("// {word}")).len(), 1, "{word}");
            assert_eq!(banned_words(&format!("let x = \"{word}\";")), [""; 0], "{word}");
        }
    }

    #[test]
    fn folders_of_a_machine_are_found_everywhere() {
        for path in MACHINE_PATHS {
            assert_eq!(machine_paths(&format!("fine\nlet x = \"{path}a\";")).len(), 1, "{path}");
        }
        assert_eq!(machine_paths("/etc/hostname"), [""; 0]);
    }

    #[test]
    fn pages_have_titles_and_packages_inherit_lints() {
        assert!(title("# Title\n").is_none());
        assert!(title("Title\n").is_some());
        assert!(lint_inheritance("[package]\n\n[lints]\nworkspace = true\n").is_none());
        assert!(lint_inheritance("[package]\n").is_some());
        assert!(lint_inheritance("[workspace]\n").is_none());
    }

    #[test]
    fn names_say_what_a_module_is_for() {
        assert!(empty_name("recorder/src/util.rs").is_some());
        assert!(empty_name("recorder/src/common/mod.rs").is_some());
        assert!(empty_name("recorder/src/window/mod.rs").is_none());
    }
}
