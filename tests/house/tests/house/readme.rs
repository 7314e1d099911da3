//! The README's two commands, and that CI runs the second one.
//!
//! Convention: README.md has exactly one fenced block marked `sh` that holds a comment line beginning with `# 1.` and
//! one beginning with `# 2.`, each directly followed by its command on one line. The first builds and runs the main
//! job, the second installs what the tests need and passes them. `.ci/run` has the second command as a line of its
//! own, with nothing but an optional `exec ` before it.

use crate::text;

/// The two commands of a README.
fn commands(readme: &str) -> Result<[String; 2], String> {
    let fenced = readme.split("```").skip(1).step_by(2);
    let mut blocks = fenced.filter_map(|block| block.strip_prefix("sh\n")).filter(|block| block.contains("# 1."));
    let block = blocks.next().ok_or("no fenced `sh` block with a line `# 1.`")?;
    if blocks.next().is_some() {
        return Err("more than one fenced `sh` block with a line `# 1.`".into());
    }
    let after = |mark: &str| {
        let mut lines = block.lines().map(str::trim).skip_while(|line| !line.starts_with(mark)).skip(1);
        let command = lines.next().filter(|line| !line.is_empty() && !line.starts_with('#'));
        command.map(str::to_owned).ok_or_else(|| format!("no command follows `{mark}`"))
    };
    let commands = block.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')).count();
    if commands != 2 {
        return Err(format!("the block holds {commands} commands; two do everything"));
    }
    Ok([after("# 1.")?, after("# 2.")?])
}

/// Whether a script runs a command as a line of its own.
fn runs(script: &str, command: &str) -> bool {
    script.lines().map(str::trim).any(|line| line.strip_prefix("exec ").unwrap_or(line) == command)
}

#[test]
fn ci_runs_the_readmes_test_command() {
    let [demo, test] = commands(&text("README.md")).unwrap_or_else(|why| panic!("README.md: {why}"));
    assert_ne!(demo, test);
    assert!(runs(&text(".ci/run"), &test), ".ci/run has no line `{test}`, which README.md gives as the test command");
}

#[test]
fn the_convention_is_read_as_it_is_written() {
    let readme = "text\n```sh\n# 1. demo\nmake demo\n\n# 2. tests\n./test all\n```\nmore\n```sh\nother\n```\n";
    assert_eq!(commands(readme), Ok(["make demo".to_owned(), "./test all".to_owned()]));
    assert!(runs("#!/bin/sh\nexec ./test all\n", "./test all"));
    assert!(!runs("#!/bin/sh\n# ./test all\n./test all --fast\n", "./test all"));
    assert!(commands("```sh\n# 1. demo\nmake demo\n```\n").is_err());
    assert!(commands(&readme.replace("./test all", "./test all\ncd ..")).is_err());
}
