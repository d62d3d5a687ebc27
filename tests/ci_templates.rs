//! The templates in `ci/`: valid for the programs that read them, and scripts for any shell.

#![cfg(unix)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::python::Python;
use common::ran;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A template and the schema that its reader publishes.
const TEMPLATES: [(&str, &str); 4] = [
    ("github/action.yml", "vendor.github-actions"),
    ("github/fork-measure.yml", "vendor.github-workflows"),
    ("github/fork-comment.yml", "vendor.github-workflows"),
    ("gitlab/fusebench.yml", "vendor.gitlab-ci"),
];

/// Lines as long as in the rest of the repository; workflows need no mark of their start.
const YAML_STYLE: &str = "{extends: default, rules: {line-length: {max: 100}, \
                          document-start: disable, truthy: {check-keys: false}}}";

fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(REPOSITORY).join("ci")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|found| found == extension) => {
                    found.push(path);
                }
                false => {}
            }
        }
    }
    found
}

fn python(python: &Python, arguments: &[&str]) -> Output {
    python.command().args(["-m"]).args(arguments).output().expect("Python starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn every_template_is_what_its_reader_takes() {
    let test = "every_template_is_what_its_reader_takes";
    let Some(interpreter) = Python::with(test, "consumers", "check_jsonschema") else { return };
    assert_eq!(files("yml").len(), TEMPLATES.len(), "a template without a schema");
    let folder = tempfile::tempdir().expect("a folder");
    for (template, schema) in TEMPLATES {
        let path = Path::new(REPOSITORY).join("ci").join(template);
        let check = |path: &Path| {
            let path = path.to_str().expect("UTF-8");
            python(&interpreter, &["check_jsonschema", "--builtin-schema", schema, path])
        };
        let out = check(&path);
        assert!(out.status.success(), "{template}: {}", text(&out));
        // What a job or an action does must not be a number.
        let broken = folder.path().join("broken.yml");
        let content = fs::read_to_string(&path).expect("a template");
        let changed =
            content.replace("steps:", "steps: 3\nother:").replace("script:", "script: 3\nx:");
        fs::write(&broken, changed).expect("a file");
        assert!(!check(&broken).status.success(), "{template} with a fault passes");
    }
    let folder = Path::new(REPOSITORY).join("ci");
    let arguments = ["yamllint", "--strict", "-d", YAML_STYLE, folder.to_str().expect("UTF-8")];
    let out = python(&interpreter, &arguments);
    assert!(out.status.success(), "{}", text(&out));
    ran(test);
}

#[test]
fn every_script_parses_and_is_plain() {
    let scripts = files("sh");
    assert!(scripts.len() > 1);
    for script in scripts {
        let out = Command::new("sh").arg("-n").arg(&script).output().expect("a shell");
        assert!(out.status.success(), "{}: {}", script.display(), text(&out));
        let content = fs::read_to_string(&script).expect("a script");
        assert!(content.starts_with("#!/bin/sh\n"), "{}", script.display());
        assert!(content.contains("\nset -eu\n"), "{}", script.display());
        for bashism in ["[[", "local ", "function ", "<<<", "pipefail"] {
            assert!(!content.contains(bashism), "{}: {bashism}", script.display());
        }
    }
}

/// A stand-in for `gh` that knows one earlier comment and notes what it is asked.
const GH: &str = "#!/bin/sh\necho \"$*\" >>calls\ncase $* in *--paginate*) cat earlier ;; esac\n";

#[test]
fn a_comment_replaces_the_one_of_an_earlier_run() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("gh"), GH).expect("a stub");
    fs::set_permissions(path("gh"), fs::Permissions::from_mode(0o755)).expect("a stub");
    fs::write(path("comment.md"), "<!-- fusebench -->\n### fusebench\n").expect("a comment");
    fs::write(path("other.md"), "### fusebench\n").expect("no comment of ours");
    let script = Path::new(REPOSITORY).join("ci/github/comment.sh");
    let post = |number: &str, file: &str, earlier: &str| {
        fs::write(path("earlier"), earlier).expect("a file");
        fs::write(path("calls"), "").expect("a file");
        let tools = std::env::var("PATH").expect("a path");
        let out = Command::new("sh")
            .arg(&script)
            .args([number, file])
            .current_dir(folder.path())
            .env("PATH", format!("{}:{tools}", folder.path().display()))
            .env("GH_REPO", "some/where")
            .output()
            .expect("a shell");
        (out.status.code(), fs::read_to_string(path("calls")).expect("a file"))
    };
    let (code, calls) = post("7", "comment.md", "");
    assert_eq!(code, Some(0));
    assert!(calls.contains("repos/some/where/issues/7/comments --field body=@comment.md"));
    let (code, calls) = post("7", "comment.md", "41\n42\n");
    assert_eq!(code, Some(0));
    assert!(calls.contains("--method PATCH repos/some/where/issues/comments/42"), "{calls}");
    for (number, file) in [("", "comment.md"), ("7; x", "comment.md"), ("7", "other.md")] {
        let (code, calls) = post(number, file, "");
        assert_eq!((code, calls.as_str()), (Some(2), ""), "{number} {file}");
    }
}
